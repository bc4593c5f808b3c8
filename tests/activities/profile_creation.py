"""How fast created activities are judged and dispatched, and where the time goes.

python -m tests.activities.profile_creation [how many] [--where]
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

from activities.main import build
from activities.settings import Settings
from servicekit.logs import configure_logs
from tests.activities.builders import NOON, catalog_messages, contact_changed, created
from tests.engines import provide_engines
from tests.kit import Wire, eventually, frozen_clock, running, settled


async def measure(directory: Path, count: int, where: bool) -> None:
    with provide_engines(directory) as engines:
        wire = Wire(engines, "profile")
        clock = frozen_clock(directory, NOON)
        await wire.create_topics()
        async with running(build, Settings, engines, wire.namespace, clock=clock) as service:
            await wire.publish(*catalog_messages(), *(contact_changed(f"c{n}") for n in range(count)))
            await settled(service, within=300)
        await wire.publish(*(created(f"a{n}", contact_id=f"c{n}") for n in range(count)))
        profile = cProfile.Profile()
        async with running(build, Settings, engines, wire.namespace, clock=clock) as service:
            began, cpu = time.perf_counter(), time.process_time()
            if where:
                profile.enable()

            async def all_made() -> bool:
                made: int = await service.mongo["activities"].estimated_document_count()
                return made >= count

            await eventually(all_made, "all activities", within=600)
            decided = time.perf_counter() - began
            await settled(service, within=300)
            published = time.perf_counter() - began
            profile.disable()
            used = time.process_time() - cpu
            states = await service.mongo["activities"].distinct("state")
        sys.stdout.write(
            f"{count} activities, all {states}, 3 messages each\n"
            f"created, judged, dispatched: {count / decided:,.0f}/s\n"
            f"and all messages published:  {count / published:,.0f}/s\n"
            f"CPU of this process: {used / count * 1e6:.0f} us each\n"
        )
        if where:
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        await wire.close()


if __name__ == "__main__":
    configure_logs("profile", "one", "console", "warning")
    with tempfile.TemporaryDirectory() as directory:
        told = [int(each) for each in sys.argv[1:] if each.isdigit()]
        count = told[0] if told else 20_000
        asyncio.run(measure(Path(directory), count, "--where" in sys.argv))
