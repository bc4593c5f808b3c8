"""Watching something that takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from cli.exits import Unavailable

_LOOK_EVERY = 0.3
_PATIENCE = 30.0


def follow(
    look: Callable[[], dict[str, Any]], ended: Callable[[dict[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """What is seen, until it has ended. A service that restarts meanwhile is waited for."""
    lost_at: float | None = None
    while True:
        try:
            seen = look()
        except Unavailable:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _PATIENCE:
                raise
        else:
            lost_at = None
            yield seen
            if ended(seen):
                return
        time.sleep(_LOOK_EVERY)
