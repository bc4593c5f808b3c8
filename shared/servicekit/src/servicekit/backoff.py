"""How long to wait before the next try."""

from __future__ import annotations

import random

_MOST = 5.0


def backoff(attempt: int, first: float = 0.1, most: float = _MOST) -> float:
    """Seconds: doubling from `first`, at most `most`, and by chance between half and all of that,
    so that those who failed together do not come again together."""
    ceiling = min(most, first * 2 ** min(attempt, 16))
    return random.uniform(ceiling / 2, ceiling)
