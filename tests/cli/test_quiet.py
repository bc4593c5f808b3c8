"""Who waits for a line to come to rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from cli.api import Api
from cli.demo.quiet import Quiet
from cli.exits import Failure
from servicekit.clock import real_now

_EMPTY: dict[str, Any] = {"scheduled": 0, "webhooks_waiting": 0, "outgoing": {}, "incoming": {}, "items": []}


class Services:
    """They say that messages wait for so many looks, and how many were handled at each of these."""

    def __init__(self, looks: int, done: Callable[[int], int]) -> None:
        self._looks = looks
        self._done = done

    def text(self, service: str, path: str, names: list[str]) -> str:
        if service != "workflow":
            return ""
        self._looks = max(0, self._looks - 1)
        waits, done = self._looks > 0, self._done(self._looks)
        return f"parley_lag_messages {int(waits)}\nparley_messages_consumed_total {done}\n"

    def get(self, service: str, path: str, **query: Any) -> dict[str, Any]:
        return _EMPTY


def quiet(services: Services) -> Quiet:
    return Quiet(cast(Api, services), real_now, lambda: None, patience=3)


def test_a_slow_line_is_waited_for_as_long_as_something_moves() -> None:
    quiet(Services(looks=8, done=lambda left: 8 - left)).wait()


@pytest.mark.parametrize("done", [lambda left: 7, lambda left: left % 3])
def test_a_line_in_which_nothing_moves_or_something_dies_again_and_again_is_given_up(
    done: Callable[[int], int],
) -> None:
    with pytest.raises(Failure, match=r"nothing moved for 3 s"):
        quiet(Services(looks=1000, done=done)).wait()
