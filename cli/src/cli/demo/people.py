"""The people at work: they take what is on their list, and end it one way or the other."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from cli.api import Api, Refused
from contracts.campaigns import catalog_id

AGENTS = ("ada", "ben", "cleo", "dan")
_AT_ONCE = 25
_CARE = catalog_id("campaign", "care")
_CARE_CALLS = ((0.45, "reached"), (0.75, "no-answer"), (0.90, "callback"), (1.00, "not-interested"))
_HANDED_OVER = ((0.60, "sold"), (1.00, "not-interested"))
"""Conversations that the automated agent gave to a person."""


class People:
    """Four agents who work manual activities over REST, `most` of them altogether."""

    def __init__(self, api: Api, most: int, completed: int) -> None:
        self._api = api
        self._most = most
        self.completed = completed
        self.outcomes: Counter[str] = Counter()

    def work(self, now: datetime) -> None:
        """Everybody does a few of what is on the list, if it is a working hour in London."""
        if not 8 <= now.hour < 21 or now.weekday() > 4:
            return
        with ThreadPoolExecutor(len(AGENTS)) as pool:
            for done in pool.map(lambda agent: self._work(agent, now), AGENTS):
                self.outcomes.update(done)
                self.completed += len(done)

    def _work(self, agent: str, now: datetime) -> list[str]:
        if self.completed >= self._most:
            return []
        listed = self._api.get("activities", "/v1/next", agent=agent, limit=_AT_ONCE)["items"]
        return [done for activity in listed if (done := self._complete(agent, activity, now))]

    def _complete(self, agent: str, activity: dict[str, Any], now: datetime) -> str | None:
        path = f"/v1/activities/{activity['activity_id']}"
        outcome = _outcome(activity)
        try:
            self._api.post("activities", f"{path}/claim", {"agent": agent})
            self._api.post("activities", f"{path}/complete", _report(outcome, agent, now))
        except Refused as refused:
            # Somebody else was faster, or did it before the demo was interrupted.
            if refused.status == 409:
                return None
            raise
        return outcome


def _outcome(activity: dict[str, Any]) -> str:
    """The same for the same activity, so that a demo that was interrupted goes on as it began."""
    draw = crc32(activity["activity_id"].encode()) / 2**32
    outcomes = _CARE_CALLS if activity["campaign_id"] == _CARE else _HANDED_OVER
    return next(outcome for share, outcome in outcomes if draw < share)


def _report(outcome: str, agent: str, now: datetime) -> dict[str, Any]:
    report: dict[str, Any] = {"disposition": outcome, "actor": agent, "notes": f"{agent} called"}
    match outcome:
        case "reached":
            report["captured"] = {"satisfied": True, "remark": "all is well"}
        case "callback":
            agreed = (now + timedelta(days=1)).replace(hour=15, minute=0, second=0, microsecond=0)
            report["follow_up_at"] = agreed.isoformat()
            report["preparation_notes"] = "Was in a meeting, asked to be called tomorrow."
    return report
