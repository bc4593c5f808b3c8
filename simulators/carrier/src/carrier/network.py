"""The carrier's insides: what was accepted gets a receipt, and its reader may write back."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count
from typing import Any
from uuid import uuid4

from carrier import people
from carrier.behaviour import Behaviour
from carrier.clock import Clock
from carrier.journal import Entry, Journal
from carrier.messages import Message, Messages
from carrier.webhooks import Webhook, Webhooks

_LONGEST_REST = 0.25
_UNREACHABLE = 30005


class Network:
    """Accepts messages and works them; everything it owes survives a restart in the journal."""

    def __init__(
        self,
        behaviour: Behaviour,
        account_sid: str,
        inbound_url: str,
        journal: Journal,
        webhooks: Webhooks,
        clock: Clock,
    ) -> None:
        self.behaviour = behaviour
        self.inbound_url = inbound_url
        self.messages = Messages()
        self.replies = 0
        self.receipts = 0
        self._account_sid = account_sid
        self._journal = journal
        self._webhooks = webhooks
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._sooner = asyncio.Event()

    @property
    def scheduled(self) -> int:
        return len(self._due)

    async def behave(self, changes: dict[str, Any]) -> Behaviour:
        """Change some of the behaviour; what is not named stays. A restart behaves the same.

        Raises ValidationError, and TypeError for what is no object.
        """
        behaviour = self.behaviour.changed(changes)
        await self._journal.written({"kind": "behaviour", "changes": changes})
        self.behaviour = behaviour
        return behaviour

    def restore(self) -> None:
        """Read the journal; what was owed when the process ended is owed again."""
        replies: dict[str, Entry] = {}
        receipts: dict[str, Entry] = {}
        acknowledged: set[str] = set()
        for entry in self._journal.open():
            match entry["kind"]:
                case "behaviour":
                    self.behaviour = self.behaviour.changed(entry["changes"])
                case "accepted":
                    self.messages.add(_restored(entry, self.messages))
                case "reply":
                    replies[entry["in_reply_to"] or entry["sid"]] = entry
                case "receipt":
                    receipts[entry["sid"]] = entry
                    message = self.messages.by_sid[entry["sid"]]
                    message.status, message.error_code = entry["status"], entry["error_code"]
                case "delivered":
                    acknowledged.add(entry["webhook"])
        self.replies, self.receipts = len(replies), len(receipts)
        for message in self.messages.by_sid.values():
            if message.sid in receipts:
                if f"receipt:{message.sid}" not in acknowledged:
                    self._post_receipt(message)
            else:
                self._plan_receipt(message)
            if message.sid not in replies and message.status != "undelivered":
                self._plan_reply(message)
        for entry in replies.values():
            if f"reply:{entry['sid']}" not in acknowledged:
                self._post_reply(entry)

    async def accept(self, to: str, sender: str, text: str, callback: str) -> Message:
        """Returns when the message is on disk."""
        message = Message(
            sid="SM" + uuid4().hex,
            to=to,
            sender=sender,
            text=text,
            at=time.time(),
            shown_at=self._clock.now(),
            callback=callback,
            reference=callback.rpartition("/")[2].partition("?")[0],
            position=self.messages.next_position(to, sender),
        )
        self.messages.add(message)
        await self._journal.written(
            {
                "kind": "accepted",
                "sid": message.sid,
                "to": to,
                "from": sender,
                "body": text,
                "at": _iso(message.at),
                "shown_at": _iso(message.shown_at),
                "callback": callback,
                "reference": message.reference,
            }
        )
        self._plan_receipt(message)
        self._plan_reply(message)
        return message

    async def say(self, sender: str, to: str, text: str) -> str:
        """Make a person send a text now."""
        entry = self._reply_entry("SM" + uuid4().hex, None, sender, to, text)
        await self._journal.written(entry)
        self.replies += 1
        self._post_reply(entry)
        return str(entry["sid"])

    async def run(self) -> None:
        """Do what is due."""
        while True:
            now = self._clock.now()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            self._sooner.clear()
            rest = (self._due[0][0] - now) / self._clock.rate if self._due else _LONGEST_REST
            try:
                async with asyncio.timeout(min(max(rest, 0.005), _LONGEST_REST)):
                    await self._sooner.wait()
            except TimeoutError:
                pass

    def _at(self, due: float, work: Callable[[], None]) -> None:
        entry = (due, next(self._order), work)
        heapq.heappush(self._due, entry)
        if self._due[0] is entry:
            self._sooner.set()

    def _plan_receipt(self, message: Message) -> None:
        if message.callback and self.behaviour.draw("receipt", message.sid) < self.behaviour.receipts:
            due = message.shown_at + self.behaviour.receipt_delay_seconds
            self._at(due, lambda: self._receipt(message))

    def _is_undelivered(self, message: Message) -> bool:
        return self.behaviour.draw("undelivered", message.sid) < self.behaviour.undelivered

    def _receipt(self, message: Message) -> None:
        undelivered = self._is_undelivered(message)
        message.status = "undelivered" if undelivered else "delivered"
        message.error_code = _UNREACHABLE if undelivered else None
        self.receipts += 1
        self._journal.note(
            {
                "kind": "receipt",
                "sid": message.sid,
                "status": message.status,
                "error_code": message.error_code,
                "at": _iso(time.time()),
            }
        )
        self._post_receipt(message)

    def _post_receipt(self, message: Message) -> None:
        form = {
            "AccountSid": self._account_sid,
            "MessageSid": message.sid,
            "SmsSid": message.sid,
            "MessageStatus": message.status,
            "SmsStatus": message.status,
            "To": message.to,
            "From": message.sender,
            "ApiVersion": "2010-04-01",
        }
        if message.error_code is not None:
            form["ErrorCode"] = str(message.error_code)
        self._post(message.callback, form, f"receipt:{message.sid}")

    def _plan_reply(self, message: Message) -> None:
        if self._is_undelivered(message):
            return
        text = people.reply(self.behaviour, message.to, message.text, message.position)
        if text is not None:
            due = message.shown_at + self.behaviour.reply_delay_seconds
            self._at(due, lambda: self._reply(message, text))

    def _reply(self, message: Message, text: str) -> None:
        sid = "SM" + blake2b(f"reply:{message.sid}".encode(), digest_size=16).hexdigest()
        entry = self._reply_entry(sid, message.sid, message.to, message.sender, text)
        self._journal.note(entry)
        self.replies += 1
        self._post_reply(entry)

    def _reply_entry(self, sid: str, in_reply_to: str | None, sender: str, to: str, text: str) -> Entry:
        return {
            "kind": "reply",
            "sid": sid,
            "in_reply_to": in_reply_to,
            "to": to,
            "from": sender,
            "body": text,
            "at": _iso(time.time()),
            "shown_at": _iso(self._clock.now()),
        }

    def _post_reply(self, entry: Entry) -> None:
        form = {
            "AccountSid": self._account_sid,
            "ApiVersion": "2010-04-01",
            "Body": entry["body"],
            "From": entry["from"],
            "MessageSid": entry["sid"],
            "NumMedia": "0",
            "NumSegments": "1",
            "SmsMessageSid": entry["sid"],
            "SmsSid": entry["sid"],
            "SmsStatus": "received",
            "To": entry["to"],
        }
        self._post(self.inbound_url, form, f"reply:{entry['sid']}")

    def _post(self, url: str, form: dict[str, str], webhook: str) -> None:
        def delivered() -> None:
            self._journal.note({"kind": "delivered", "webhook": webhook})

        self._webhooks.send(Webhook(url, form, self.behaviour.copies(webhook), delivered))

    def stats(self) -> dict[str, Any]:
        twice = self.messages.sent_more_than_once()
        return {
            "accepted": len(self.messages.by_sid),
            "sent_more_than_once": len(twice),
            "some_of_them": twice[:100],
            "replies": self.replies,
            "receipts": self.receipts,
            "scheduled": self.scheduled,
            "webhooks_waiting": self._webhooks.waiting,
            "webhook_answers": dict(self._webhooks.counts),
        }


def _restored(entry: Entry, messages: Messages) -> Message:
    return Message(
        sid=entry["sid"],
        to=entry["to"],
        sender=entry["from"],
        text=entry["body"],
        at=datetime.fromisoformat(entry["at"]).timestamp(),
        shown_at=datetime.fromisoformat(entry["shown_at"]).timestamp(),
        callback=entry["callback"],
        reference=entry["reference"],
        position=messages.next_position(entry["to"], entry["from"]),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
