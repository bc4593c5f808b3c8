"""Whether the line has anything left to do at the time that its clock shows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime

from cli.api import Api
from cli.exits import Failure, Unavailable
from cli.line.members import SERVICES

_WAITING = ("parley_lag_messages", "parley_batches_in_hand", "parley_outbox_rows")
_DONE = ("parley_messages_consumed_total", "parley_messages_published_total")
_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_LOOKS = 3
_BETWEEN = 0.15
_WHILE_BUSY = 0.5
_PATIENCE = 600.0


class Stalled(Failure):
    """The line stands still with work in hand."""


class Quiet:
    """Looks at what every service says about itself, until nothing moves any more."""

    def __init__(
        self,
        api: Api,
        now: Callable[[], datetime],
        check: Callable[[], None],
        patience: float = _PATIENCE,
    ) -> None:
        """patience: seconds for which nothing may move while something waits."""
        self._api = api
        self._now = now
        self._check = check
        self._patience = patience
        self.waiting = 0.0
        """Messages that waited somewhere at the last look."""

    def wait(self, between: Callable[[], None] = lambda: None) -> None:
        """Returns when nothing moved for some looks in a row. `between`: called after each look.

        Raises a Failure when something waits and nothing moves.
        """
        quiet, pause = 0, _BETWEEN
        before: dict[str, float] = {}
        most: dict[str, float] = {}
        deadline = time.monotonic() + self._patience
        while quiet < _LOOKS:
            self._check()
            self.waiting, done = self._flow()
            still = self.waiting == 0 and done == before
            # Whoever looks often at a line that has much to do is in its way.
            pause = _BETWEEN if still else min(pause * 1.5, _WHILE_BUSY)
            quiet = quiet + 1 if still else 0
            before = done
            # One that dies and begins again from 0 has not moved.
            further = {service: count for service, count in done.items() if count > most.get(service, -1.0)}
            if further:
                most |= further
                deadline = time.monotonic() + self._patience
            if quiet == _LOOKS and self._owed():
                quiet = 0
            if time.monotonic() > deadline:
                raise Stalled(
                    f"Something waits, and nothing moved for {self._patience:.0f} s: see the services' logs."
                )
            between()
            time.sleep(pause)

    def _flow(self) -> tuple[float, dict[str, float]]:
        """Messages that wait, and by service how many it has handled or published since it began."""
        waiting, done = 0.0, dict.fromkeys(SERVICES, 0.0)
        for service in SERVICES:
            for name, value in _SAMPLE.findall(self._metrics(service)):
                if name in _WAITING:
                    waiting += float(value)
                elif name in _DONE:
                    done[service] += float(value)
        return waiting, done

    def _metrics(self, service: str) -> str:
        try:
            return self._api.text(service, "/metrics", names=_WAITING + _DONE)
        except Unavailable:
            self._check()
            return "parley_outbox_rows 1"

    def _owed(self) -> bool:
        """Work that no message announces: what is due, what is on its way to people and back."""
        carrier = self._api.get("carrier", "/control/stats")
        if carrier["scheduled"] or carrier["webhooks_waiting"]:
            return True
        messages = self._api.get("channel-sms", "/v1/messages/counts")
        on_their_way = messages["outgoing"].get("pending", 0) + messages["outgoing"].get("sending", 0)
        if on_their_way or messages["incoming"].get("new", 0):
            return True
        due = self._api.get(
            "activities", "/v1/activities", state="scheduled", due_before=_text(self._now()), limit=1
        )
        return bool(due["items"])


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
