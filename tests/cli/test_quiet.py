"""Who waits for a line to come to rest."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cli.api import Api
from cli.demo.quiet import Quiet
from cli.exits import Failure
from servicekit.clock import real_now

_EMPTY: dict[str, Any] = {"scheduled": 0, "webhooks_waiting": 0, "outgoing": {}, "incoming": {}, "items": []}


class Services:
    """They say that messages wait for so many looks, and that `moves` were handled since the look before."""

    def __init__(self, looks: int, moves: int) -> None:
        self._looks = looks
        self._moves = moves
        self._done = 0

    def text(self, service: str, path: str, names: list[str]) -> str:
        if service != "workflow":
            return ""
        waits = self._looks > 0
        self._looks -= waits
        self._done += self._moves * waits
        return f"parley_lag_messages {int(waits)}\nparley_messages_consumed_total {self._done}\n"

    def get(self, service: str, path: str, **query: Any) -> dict[str, Any]:
        return _EMPTY


def quiet(services: Services) -> Quiet:
    return Quiet(cast(Api, services), real_now, lambda: None, patience=3)


def test_a_slow_line_is_waited_for_as_long_as_something_moves() -> None:
    quiet(Services(looks=8, moves=1)).wait()


def test_a_line_in_which_nothing_moves_is_given_up() -> None:
    with pytest.raises(Failure, match=r"nothing moved for 3 s"):
        quiet(Services(looks=1000, moves=0)).wait()
