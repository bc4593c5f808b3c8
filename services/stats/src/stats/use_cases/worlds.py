"""What decisions about interactions look at beside the interaction, gathered for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from contracts.channel_sms import InteractionRecorded
from servicekit.clock import Clock
from servicekit.mongo import Session
from servicekit.projection import Projection
from stats.adapters.mongo_ledger import MongoLedger
from stats.direction_provider import DirectionProvider
from stats.domain.ledger import Row, TargetKey, World, contact_key, is_contact, target_key, target_of
from stats.use_cases.set_counting import Counting


class Worlds:
    def __init__(
        self,
        clock: Clock,
        providers: Mapping[str, DirectionProvider],
        counting: Counting,
        excluded: frozenset[str],
        ledger: MongoLedger,
        contacts: Projection,
    ) -> None:
        self._clock = clock
        self._providers = providers
        self._counting = counting
        self._excluded = excluded
        self._ledger = ledger
        self._contacts = contacts

    async def now(self) -> World:
        rules = await self._counting.rules()
        return World(self._clock.now(), self._providers, rules.counts, self._excluded)

    async def around(self, messages: Sequence[InteractionRecorded]) -> World:
        """With the addresses that directions have to be decided from."""
        world = await self.now()
        wanted: set[TargetKey] = set()
        for message in messages:
            if message.direction is None and message.addresses is not None:
                wanted.add(contact_key(message.contact_id))
                wanted |= {target_key(t.type, t.id) for t in message.targets or () if t.type == "contact"}
        return replace(world, addresses=await self.addresses(wanted)) if wanted else world

    async def around_rows(
        self, interactions: Iterable[Sequence[Row]], session: Session, targets: Iterable[TargetKey] = ()
    ) -> World:
        """For interactions that are in the ledger already."""
        pending: list[InteractionRecorded] = []
        targets = set(targets)
        for rows in interactions:
            targets |= {row["target"] for row in rows if "target" in row} | set(rows[0].get("said", ()))
            targets |= {said["target"] for said in rows[0].get("overlay", ())}
            if "pending" in rows[0]:
                message = InteractionRecorded.from_json(rows[0]["pending"].encode())
                pending.append(message)
                targets.add(contact_key(message.contact_id))
        return await self.with_gone(await self.around(pending), targets, session)

    async def with_gone(self, world: World, targets: Iterable[TargetKey], session: Session) -> World:
        gone = await self._ledger.gone(targets, session)
        if not gone:
            return world
        survivors = set(filter(is_contact, gone.values()))
        return replace(world, gone=gone, addresses={**world.addresses, **await self.addresses(survivors)})

    async def addresses(self, contacts: Iterable[TargetKey]) -> dict[TargetKey, frozenset[str]]:
        known = await self._contacts.get(target_of(contact)[1] for contact in contacts)
        return {contact_key(id_): frozenset(document["addresses"]) for id_, document in known.items()}
