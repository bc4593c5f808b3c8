"""`parley version`."""

from __future__ import annotations

from importlib.metadata import version as version_of

from cli import console
from cli.console import Json


def version(json: Json = False) -> None:
    """Print the version.

    Example:

      parley version --json
    """
    number = version_of("parley-cli")
    if json:
        console.print_json({"version": number})
    else:
        console.say(f"parley {number}")
