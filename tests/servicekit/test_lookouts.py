"""What is looked for again for a while, on a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from servicekit.clock import real_now
from servicekit.leases import BUCKETS
from servicekit.lookouts import Lookouts
from servicekit.mongo import Mongo
from tests.engines import Engines

EVERYWHERE = range(BUCKETS)


async def test_who_was_announced_anew_while_looked_at_is_looked_for_from_the_beginning(
    engines: Engines, namespace: str
) -> None:
    mongo = Mongo(engines.mongo, f"{namespace}-lookouts")
    lookouts, soon, later = Lookouts(mongo["people"]), real_now(), real_now() + timedelta(minutes=11)
    await lookouts.announce({"ann": {"$addToSet": {"numbers": {"$each": [1]}}}}, set())
    (read,) = await lookouts.due(later, EVERYWHERE, 10)
    await asyncio.sleep(0.002)  # times are kept to the millisecond
    await lookouts.announce({"ann": {}}, set())
    assert not await lookouts.look_again_or_end(read, True, soon)
    assert not await lookouts.look_again_or_end(read, False, later)
    (anew,) = await lookouts.due(real_now(), EVERYWHERE, 10)
    assert anew.told_real_at > read.told_real_at
    await lookouts.note("ann", {"$addToSet": {"numbers": {"$each": [2]}}})
    (noted,) = await lookouts.due(later, EVERYWHERE, 10)
    assert noted.document["numbers"] == [1, 2]
    assert await lookouts.look_again_or_end(anew, False, later)
    assert await lookouts.due(later + timedelta(hours=1), EVERYWHERE, 10) == []
    await mongo.close()


async def test_one_look_is_enough_for_what_was_announced_before(engines: Engines, namespace: str) -> None:
    mongo = Mongo(engines.mongo, f"{namespace}-lookouts")
    lookouts = Lookouts(mongo["people"])
    await lookouts.announce({"ann": {}}, {"ann"})
    (read,) = await lookouts.due(real_now(), EVERYWHERE, 10)
    assert await lookouts.look_again_or_end(read, False, real_now())
    await mongo.close()
