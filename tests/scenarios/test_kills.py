"""Every service is killed once in the middle of its work, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from cli.demo.marker import Marker
from tests.scenarios.conftest import (
    Processes,
    Worker,
    assert_balanced,
    assert_kept,
    perform,
)
from tests.services import SERVICES

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_kill_of_each_service_changes_nothing(processes: tuple[Processes, Marker]) -> None:
    line, marker = processes
    work = Worker(lambda: perform(line.line.parley, line.directory, marker, line.line.check))
    work.start()
    killed: dict[str, int] = {}
    deadline = time.monotonic() + 300
    while len(killed) < len(SERVICES) and work.is_alive() and time.monotonic() < deadline:
        for service in SERVICES:
            if service not in killed and work.is_alive():
                pid = line.pid(service)
                os.kill(pid, signal.SIGKILL)
                killed[service] = pid
                work.join(1.5)
    assert set(killed) == set(SERVICES)
    assert_balanced(work.outcome(600))
    assert all(line.pid(service) != pid for service, pid in killed.items())
    assert_kept(asyncio.run(line.judged()))
