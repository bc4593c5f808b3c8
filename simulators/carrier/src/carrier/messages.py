"""The messages the carrier knows, rebuilt from its journal at every start."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any


@dataclass(slots=True)
class Message:
    """One message that was accepted from a customer. `at` is real time, `shown_at` people's time."""

    sid: str
    to: str
    sender: str
    text: str
    at: float
    shown_at: float
    callback: str
    reference: str
    position: int
    status: str = "queued"
    error_code: int | None = None

    def resource(self, account_sid: str) -> dict[str, Any]:
        """As the REST API shows it; Twilio's never shows the status callback."""
        created = format_datetime(datetime.fromtimestamp(self.at, UTC))
        return {
            "sid": self.sid,
            "account_sid": account_sid,
            "api_version": "2010-04-01",
            "body": self.text,
            "date_created": created,
            "date_sent": created,
            "date_updated": created,
            "direction": "outbound-api",
            "error_code": self.error_code,
            "error_message": None,
            "from": self.sender,
            "messaging_service_sid": None,
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": "USD",
            "status": self.status,
            "to": self.to,
            "uri": f"/2010-04-01/Accounts/{account_sid}/Messages/{self.sid}.json",
        }


class Messages:
    """By sid, and by the pair of numbers."""

    def __init__(self) -> None:
        self.by_sid: dict[str, Message] = {}
        self._by_pair: defaultdict[tuple[str, str], list[Message]] = defaultdict(list)
        self.references: Counter[str] = Counter()

    def add(self, message: Message) -> None:
        self.by_sid[message.sid] = message
        self._by_pair[message.to, message.sender].append(message)
        if message.reference:
            self.references[message.reference] += 1

    def next_position(self, to: str, sender: str) -> int:
        return len(self._by_pair.get((to, sender), ())) + 1

    def find(self, to: str | None, sender: str | None, since: float | None) -> list[Message]:
        """Newest first."""
        if to is not None and sender is not None:
            found = self._by_pair.get((to, sender), [])
        else:
            found = [
                message
                for message in self.by_sid.values()
                if (to is None or message.to == to) and (sender is None or message.sender == sender)
            ]
        return [message for message in reversed(found) if since is None or message.at >= since]

    def sent_more_than_once(self) -> list[str]:
        return [reference for reference, times in self.references.items() if times > 1]
