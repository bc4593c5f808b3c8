"""Ids that other systems gave, in paths: with slashes too, as `%2F`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

TargetId = Annotated[str, Path(min_length=1, description="Any text; a slash is written as %2F.")]
