"""How fast each endpoint may send: token buckets in segments, each replica with its share of the rate."""

from __future__ import annotations

import time
from dataclasses import dataclass

_BURST_SECONDS = 0.25


@dataclass(slots=True)
class _Bucket:
    tokens: float
    rate: float
    filled_at: float

    def fill(self, now: float) -> None:
        most = max(1.0, self.rate * _BURST_SECONDS)
        self.tokens = min(most, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now


class Pace:
    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def take(self, endpoint_id: str, segments: int, rate: float) -> bool:
        """A long message may overdraw; the next one then waits for it."""
        now = time.monotonic()
        bucket = self._buckets.get(endpoint_id)
        if bucket is None:
            bucket = self._buckets[endpoint_id] = _Bucket(max(1.0, rate * _BURST_SECONDS), rate, now)
        bucket.rate = rate
        bucket.fill(now)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= max(1, segments)
        return True

    def give_back(self, endpoint_id: str, segments: int) -> None:
        """What was taken for a text that is not sent now after all."""
        if bucket := self._buckets.get(endpoint_id):
            bucket.tokens += max(1, segments)

    def exhausted(self) -> list[str]:
        """Endpoints that may send nothing right now."""
        now = time.monotonic()
        for bucket in self._buckets.values():
            bucket.fill(now)
        return [endpoint_id for endpoint_id, bucket in self._buckets.items() if bucket.tokens < 1]
