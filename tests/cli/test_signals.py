"""What a signal does to a command."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from cli.signals import signals_as_interrupts


def test_an_interrupt_that_python_dropped_is_heard_by_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))

    class Ending:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with signals_as_interrupts() as interrupts:
        interrupts.check()
        Ending()
        assert dropped == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
