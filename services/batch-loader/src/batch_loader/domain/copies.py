"""What this service keeps of what others announce, and what a load waits for."""

from __future__ import annotations

from typing import Literal

Copy = Literal["contacts", "statistics", "activities"]
WaitingFor = Literal["kafka", "contacts", "statistics", "activities"]
"""kafka: it does not say how far the copies are."""
