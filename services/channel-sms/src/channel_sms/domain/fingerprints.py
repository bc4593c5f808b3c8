"""What stands for the number of somebody who was erased: their no outlives it, and nobody reads it."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from hmac import digest

_ERASED = "erased:"
KEYED = f"^{_ERASED}[^:]+:"
"""A pattern of those that were made with a key."""


class Fingerprints:
    """`erased:KEY:HMAC-SHA256`, KEY being the part of a hash that tells keys apart; without a key
    `erased:SHA-256`, which whoever has the database can find by trying all numbers."""

    def __init__(self, key: str = "", others: Iterable[str] = ()) -> None:
        """key: makes those from now on; others: earlier ones may have been made with them."""
        self._key = key
        self._keys = [each for each in dict.fromkeys((key, *others)) if each]

    @property
    def name(self) -> str:
        """KEY of those that are made from now on; empty without a key."""
        return _name(self._key) if self._key else ""

    def of(self, address: str) -> str:
        return _keyed(self._key, address) if self._key else _plain(address)

    def all_of(self, address: str) -> list[str]:
        return [*(_keyed(key, address) for key in self._keys), _plain(address)]

    def knows(self, name: str) -> bool:
        """Whether the KEY of a fingerprint is that of one of the keys."""
        return name in map(_name, self._keys)


def _plain(address: str) -> str:
    return f"{_ERASED}{sha256(address.encode()).hexdigest()}"


def _keyed(key: str, address: str) -> str:
    return f"{_ERASED}{_name(key)}:{digest(key.encode(), address.encode(), 'sha256').hex()}"


def _name(key: str) -> str:
    return sha256(b"key " + key.encode()).hexdigest()[:8]
