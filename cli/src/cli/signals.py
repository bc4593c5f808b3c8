"""Every polite way to end a command is a KeyboardInterrupt."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupts:
    """Python drops what is raised in a destructor or a callback of a weak reference, an interrupt too:
    whoever goes on in a loop asks here."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def signals_as_interrupts() -> Iterator[Interrupts]:
    interrupts = Interrupts()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.asked = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_call(do: Callable[[], object]) -> Iterator[None]:
    """Within the block a signal interrupts nothing, but does this."""

    def handle(number: int, frame: FrameType | None) -> None:
        do()

    before = {number: signal.signal(number, handle) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
