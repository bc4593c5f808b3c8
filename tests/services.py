"""The services that there are: each folder with a project."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICES = tuple(sorted(project.parent.name for project in (ROOT / "services").glob("*/pyproject.toml")))
