"""The demo, step by step; every step may be repeated, so a demo that was interrupted goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from cli.accounts import Equation, equations
from cli.api import Api
from cli.commands.apply import apply_bundle
from cli.commands.batch import watch_batch
from cli.commands.contacts import send_list, watch_import
from cli.demo.contact_list import KEY_ACCOUNTS, STANDARD, Made, write_contact_list
from cli.demo.marker import LIST, Marker
from cli.demo.people import AGENTS, People
from cli.demo.quiet import Quiet
from cli.exits import Failure
from cli.reading import read_yaml
from servicekit.clock import DrivenClock

_RATE = 0.05
"""Between the leaps the clock nearly stands, so that everything at one time comes to rest there; it moves
at all so that what happens in turn has times in turn."""
_AT_A_TIME = timedelta(minutes=150)
_PATIENCE = 120.0
_BEHAVIOUR = {
    "receipt_delay_seconds": 0,
    "reply_delay_seconds": 0,
    "undelivered": 0.01,
    "bad_numbers": 0.005,
    "rate_limited": 0.005,
    "error_after": 0.001,
    "webhook_repeats": 0.02,
}


class Play:
    """One demo on one running Parley."""

    def __init__(
        self,
        api: Api,
        data_dir: Path,
        marker: Marker,
        bars: Progress,
        check: Callable[[], None],
        clock: DrivenClock,
        *,
        drives_time: bool = True,
    ) -> None:
        self._api = api
        self._data_dir = data_dir
        self._marker = marker
        self._bars = bars
        self._drives_time = drives_time
        self._clock = clock
        self._check = check
        self._quiet = Quiet(api, self._clock.now, check)
        self._people = People(api, max(50, marker.contacts // 12), marker.agents_completed)
        self.made: Made | None = None

    def perform(self) -> None:
        """From the contact list to a line at rest on the last evening."""
        self._set_clock(self._latest())
        self.made = write_contact_list(self._data_dir / LIST, self._marker.contacts, self._marker.seed)
        self._api.post("carrier", "/control/behaviour", _BEHAVIOUR)
        self._configure()
        self._import(self.made)
        self._load("automatic", self._automatic())
        self._load("manual", self._manual())
        self._live_through_the_days()

    def stand_still(self) -> None:
        """Interrupted: no time passes until the demo goes on, or what waits for it would be late by then."""
        self._remember()
        self._set_clock(self._marker.shown_at, rate=0.0)

    def let_time_go_on(self) -> None:
        self._remember()
        self._set_clock(self._clock.now(), rate=1.0)

    def books(self) -> list[Equation]:
        """Counted by everybody, and compared with what the list was made of."""
        made = self.made
        assert made is not None
        told = self._api.get("contacts", f"/v1/imports/{self._marker.steps['import']}")
        rows = {"written": made.rows, "good or bad on purpose": made.good + made.rejected.total()}
        found = [Equation("rows of the list", rows | {"read": told["rows"]})]
        for reason in sorted({*made.rejected, *told["rejected"]}):
            counts = {"made so": made.rejected[reason], "rejected": told["rejected"].get(reason, 0)}
            found.append(Equation(f"rows with {reason}", counts))
        contacts = sum(1 for _ in self._api.pages("contacts", "/v1/contacts"))
        selected = sum(batch["selected"] for batch in self._api.pages("batch-loader", "/v1/batches"))
        everybody = {"created by the import": told["created"], "in contacts": contacts}
        found.append(Equation("contacts", everybody | {"selected by the two batches": selected}))
        return [*found, *equations(self._api)]

    # Steps

    def _configure(self) -> None:
        bar = self._bars.add_task("Applying the sample bundle", total=1, note="")
        with as_file(files("cli.sample") / "bundle.yaml") as path:
            outcome = apply_bundle(self._api, read_yaml(path))

        note = ", ".join(f"{len(names)} {what}" for what, names in outcome.items() if names)
        self._bars.update(bar, completed=1, note=note)
        rest = self._bars.add_task("Waiting for rest", total=1, note="")

        def tell() -> None:
            waiting = self._quiet.waiting
            self._bars.update(rest, note=f"messages on their way: {waiting:,.0f}" if waiting else "")

        # What an interrupted demo left on its way to people arrives by its clock, which nearly stands.
        self._set_clock(self._clock.now(), rate=1.0)
        self._quiet.wait(tell)
        self._set_clock(self._clock.now())
        self._bars.update(rest, completed=1, note="")

    def _import(self, made: Made) -> None:
        key = f"demo-{self._marker.began_at.isoformat()}-{made.rows}-{self._marker.seed}"
        import_id = self._step("import", lambda: send_list(self._api, made.path, "customer", "US", key))
        told = watch_import(self._api, import_id, self._bars, "Importing contacts")
        if told["state"] != "finished":
            raise Failure(f"The import failed: {told['error']}.")
        self._quiet.wait()
        self._wait_until_known(told["imported"])

    def _wait_until_known(self, contacts: int) -> None:
        """The batch-loader finds people in a copy of its own, which follows a little later."""
        everybody = {"published_only": False, "include_opted_out": True}
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._check()
            known = self._api.post("batch-loader", "/v1/batches/preview", {"filters": everybody})["count"]
            if known == contacts:
                return
            if time.monotonic() > deadline:
                raise Failure(f"The batch-loader knows {known:,} of {contacts:,} contacts; see its log.")
            time.sleep(0.3)

    def _automatic(self) -> dict[str, Any]:
        """Most of them get a text at nine in the morning of wherever they are, over two hours."""
        return {
            "name": "renewals",
            "filters": {"contact_type": "customer", "fields": {"segment": STANDARD}},
            "choices": {
                "campaign": "renewals",
                "subject": "renewal",
                "source": "automatic",
                "agent_profile": "scripted",
                "schedule": {
                    "kind": "local_time",
                    "date": self._marker.began_at.date().isoformat(),
                    "time": "09:00",
                    "unknown_zone": "America/New_York",
                    "spread_hours": 2,
                },
            },
        }

    def _manual(self) -> dict[str, Any]:
        """The important ones are called by people."""
        return {
            "name": "key accounts",
            "filters": {"contact_type": "customer", "fields": {"segment": KEY_ACCOUNTS}},
            "choices": {
                "campaign": "care",
                "subject": "care-call",
                "source": "manual",
                "agents": list(AGENTS),
                "instructions": "An important customer: ask how it goes.",
            },
        }

    def _load(self, name: str, request: dict[str, Any]) -> None:
        batch_id = self._step(
            f"batch-{name}",
            lambda: str(self._api.post("batch-loader", "/v1/batches", request)["batch_id"]),
        )
        if f"loaded-{name}" not in self._marker.steps:
            self._api.post("batch-loader", f"/v1/batches/{batch_id}/load")
        batch = watch_batch(self._api, batch_id, self._bars, f"Loading the {name} batch")
        if batch["state"] != "loaded":
            raise Failure(f"The {name} batch is {batch['state']}: {batch['error']}.")
        self._step(f"loaded-{name}", lambda: batch_id)

    def _live_through_the_days(self) -> None:
        end = self._marker.began_at + timedelta(days=self._marker.days)
        bar = self._bars.add_task("Living through the week", total=None, note="outcomes make new work")
        look = _Look(self._api, self._bars, bar, self._clock.now)
        while True:
            self._quiet.wait(look)
            self._people.work(self._clock.now())
            self._remember()
            following = self._next_time(look)
            if not self._drives_time or following is None or following >= end:
                break
            self._set_clock(max(following, self._clock.now()))
        self._let_doubts_be_resolved()
        self._quiet.wait(look)
        look.finish()

    def _next_time(self, look: _Look) -> datetime | None:
        """A while after something is due, so that much is done at a time; None when nothing is."""
        waiting = self._api.get("activities", "/v1/activities", state="scheduled", limit=1)["items"]
        times = [datetime.fromisoformat(activity["due_at"]) + _AT_A_TIME for activity in waiting]
        if look.conversations_wait():
            # People may not answer: that is noticed when the time for it has passed.
            times.append(self._clock.now() + _AT_A_TIME)
        return min(times, default=None)

    def _let_doubts_be_resolved(self) -> None:
        """Sends of unknown result are looked up in real time."""
        deadline = time.monotonic() + _PATIENCE
        while self._api.get("channel-sms", "/v1/messages/counts")["outgoing"].get("unknown", 0):
            self._check()
            if time.monotonic() > deadline:
                return
            time.sleep(0.5)

    # Progress that survives

    def _step(self, name: str, do: Callable[[], str]) -> str:
        if name not in self._marker.steps:
            self._marker.steps[name] = do()
            self._marker.write(self._data_dir)
        return self._marker.steps[name]

    def _remember(self) -> None:
        self._marker.shown_at = max(self._marker.shown_at, self._clock.now())
        self._marker.agents_completed = self._people.completed
        self._marker.write(self._data_dir)

    def _latest(self) -> datetime:
        """Never earlier than any service has seen it, even if the last run was killed without a word."""
        told = [self._marker.began_at, self._marker.shown_at]
        return max(told + ([self._clock.now()] if self._clock.path.exists() else []))

    def _set_clock(self, shown: datetime, rate: float = _RATE) -> None:
        if self._drives_time:
            self._clock.set(shown, rate)


class _Look:
    """Shows where the activities are, now and then."""

    def __init__(self, api: Api, bars: Progress, bar: TaskID, now: Callable[[], datetime]) -> None:
        self._api = api
        self._bars = bars
        self._bar = bar
        self._now = now
        self._looked = 0.0
        self._states: dict[str, int] = {}

    def __call__(self) -> None:
        if time.monotonic() - self._looked > 1:
            self._show()

    def conversations_wait(self) -> bool:
        self._show()
        return any(self._states.get(state) for state in ("dispatched", "in_progress", "awaiting_reply"))

    def finish(self) -> None:
        """What has not ended is due after the week."""
        self._bars.update(self._bar, total=self._show())

    def _show(self) -> int:
        """How many have ended."""
        self._looked = time.monotonic()
        told = self._api.get("activities", "/v1/activities/counts")
        self._states = told["states"]
        ended = sum(self._states.get(s, 0) for s in ("completed", "failed", "cancelled", "expired"))
        note = f"{self._now():%A %H:%M} UTC"
        self._bars.update(self._bar, total=told["total"], completed=ended, note=note)
        return ended
