"""One contact's story, from the row it came in to the counters it ended in."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cli.api import Api, Refused
from cli.followed import what_followed


@dataclass(frozen=True)
class Event:
    """One line of the story. `at` is the demo's own time."""

    at: str
    who: str
    what: str


class Story:
    """Everything that is known of one contact, in order of time."""

    def __init__(self, api: Api, contact_id: str, file: Path) -> None:
        self._api = api
        self._file = file
        self.contact = api.get("contacts", f"/v1/contacts/{contact_id}")
        self.zone = ZoneInfo(self.contact.get("time_zone") or "UTC")
        self._activities = sorted(
            api.pages("activities", "/v1/activities", contact_id=contact_id),
            key=lambda activity: (_instant(activity["created_at"]), activity["chain_depth"]),
        )

    @property
    def title(self) -> str:
        who = f"{self.contact.get('first_name', '')} {self.contact.get('last_name', '')}".strip()
        return f"The story of {who}, {self.contact['phones'][0]['number']}, times in {self.zone.key}"

    def events(self) -> list[Event]:
        told = [(self.contact["created_at"], "contacts", self._imported())]
        for activity in self._activities:
            told += self._activity(activity)
        told.sort(key=lambda event: _instant(event[0]))
        lines = [Event(self._local(at), who, what) for at, who, what in told]
        return [self._row(), *lines, *self._counters()]

    def _row(self) -> Event:
        wanted = self.contact["external_id"]
        with self._file.open(newline="", encoding="utf-8") as rows:
            for number, row in enumerate(csv.DictReader(rows), 2):
                if row["external_id"] == wanted:
                    return Event(
                        "", self._file.name, f"line {number}: {', '.join(filter(None, row.values()))}"
                    )
        return Event("", self._file.name, "not in the file")

    def _imported(self) -> str:
        phone = self.contact["phones"][0]["number"]
        return f"imported as {self.contact['contact_id']} with {phone}"

    def _activity(self, activity: dict[str, Any]) -> list[tuple[str, str, str]]:
        mode = {"automated": "an automated", "manual": "a manual"}[activity["mode"]]
        what = f"{mode} {activity['kind']}, attempt {activity['attempt_number']}"
        source = "batch-loader" if activity.get("batch_id") else activity["created_by"]
        due = self._local(activity["scheduled_at"])
        told = [(activity["created_at"], source, f"asks for {what}, due {due}")]
        verdict = activity.get("last_verdict")
        if verdict:
            told.append(
                (
                    verdict["decided_at"],
                    "activities",
                    f"the gate says {verdict['verdict']}: {verdict['reason']}",
                )
            )
        if activity["mode"] == "automated":
            told += self._transcript(activity["activity_id"])
        if activity["state"] == "completed":
            captured = f", captured {activity['captured']}" if activity.get("captured") else ""
            told.append(
                (
                    activity["completed_at"],
                    "activities",
                    f"completed by {activity['completed_by']}: {activity['disposition']}{captured}",
                )
            )
            told += self._decision(activity)
        else:
            told.append(
                (activity["changed_at"], "activities", f"the {activity['kind']} is {activity['state']}")
            )
        return told

    def _transcript(self, activity_id: str) -> list[tuple[str, str, str]]:
        try:
            lines = self._api.get("channel-sms", f"/v1/conversations/{activity_id}")["lines"]
        except Refused:
            return []
        arrows = {"outgoing": "->", "incoming": "<-"}
        return [
            (line["at"], "channel-sms", f"{arrows[line['direction']]} {line['text']} ({line['status']})")
            for line in lines
        ]

    def _decision(self, activity: dict[str, Any]) -> list[tuple[str, str, str]]:
        try:
            decision = self._api.get("workflow", f"/v1/decisions/{activity['activity_id']}")
        except Refused:
            return []
        return [(decision["completed_at"], "workflow", what) for what in what_followed(decision, self._local)]

    def _counters(self) -> list[Event]:
        path = f"/v1/contacts/{self.contact['contact_id']}/stats"
        seen = self._api.get("stats", path, zone=self.zone.key)
        total = seen["total"]
        out, in_ = total["contact_count_out"], total["contact_count_in"]
        count = total["contact_count"]
        told = f"contacted {'once' if count == 1 else f'{count} times'}: {out} out, {in_} in"
        channels = ", ".join(
            f"{name} {counters['contact_count_out']} out {counters['contact_count_in']} in"
            for name, counters in sorted(seen["channels"].items())
        )
        return [Event("", "stats", f"{told} ({channels}); last {self._local(total['last_contact_at'])}")]

    def _local(self, at: str | None) -> str:
        return _instant(at).astimezone(self.zone).strftime("%a %H:%M") if at else "never"


def _instant(at: str) -> datetime:
    return datetime.fromisoformat(at)


def worth_listing(api: Api) -> str | None:
    """A state that some activities are in: what people can do now, else what is planned."""
    for state in ("available", "scheduled"):
        if any(api.pages("activities", "/v1/activities", 1, state=state)):
            return state
    return None


def worth_telling(api: Api) -> str | None:
    """The contact with most happening to them, by machine and by people; the first of several."""
    done: Counter[str] = Counter()
    by: defaultdict[str, set[str]] = defaultdict(set)
    for activity in api.pages("activities", "/v1/activities", state="completed"):
        done[activity["contact_id"]] += 1
        by[activity["contact_id"]].add(activity["mode"])
    return min(done, key=lambda contact: (-len(by[contact]), -done[contact], contact), default=None)
