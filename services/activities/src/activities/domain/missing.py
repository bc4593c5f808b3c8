"""How long a decision waits for what it asks for and does not find."""

from __future__ import annotations

from collections.abc import Set as Members

_MAY_BE_LATE = 20.0
_LONGEST_REST = 8.0
"""Between two tries; more is an outage, in which what is missing cannot come either."""
_ASKED_ANEW = 300.0


class Missing:
    """What was asked for and not found, and how long it was waited for.

    The first may wait for it. Whoever comes when that was in vain need not, nor what is behind them.
    """

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, float, float]] = {}
        """First, last, and how many seconds were waited between."""

    def too_long(self, missing: Members[str], now: float) -> frozenset[str]:
        """now: seconds by a clock that only goes forward. After five minutes it is waited for anew."""
        asked = {name: each for name, each in self._asked.items() if now - each[0] < _ASKED_ANEW}
        for name in missing:
            first, last, waited = asked.get(name, (now, now, 0.0))
            asked[name] = first, now, waited + min(now - last, _LONGEST_REST)
        self._asked = asked
        return frozenset(name for name in missing if asked[name][2] > _MAY_BE_LATE)
