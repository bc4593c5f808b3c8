"""How long loops rest that others may give work to."""

from __future__ import annotations

from servicekit.leases import Leases

IDLE_SECONDS = 0.05
IDLE_SECONDS_ALONE = 0.25
"""What its own process stores wakes a loop at once; only another replica's has to be looked for."""


def idle_seconds(leases: Leases) -> float:
    return IDLE_SECONDS_ALONE if leases.members == 1 else IDLE_SECONDS
