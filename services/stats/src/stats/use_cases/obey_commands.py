"""`stats-commands`: each command on its own; the ones that take long are resumed by their redelivery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import assert_never

from contracts import stats as commands
from contracts.vocabulary import OWN_ID_RULE, is_own_id
from servicekit.clock import Clock
from servicekit.delivery import Delivery
from servicekit.verdict import GiveUp, Outcome, Unchanged
from stats.domain.ledger import target_key
from stats.use_cases.change_targets import EraseTarget, LinkTarget, MergeTargets, Refused, SetParentOf
from stats.use_cases.recalculate import Recalculations, Scope
from stats.use_cases.set_counting import Counting

Command = (
    commands.SetTargetLink
    | commands.MergeTargets
    | commands.EraseTarget
    | commands.SetParent
    | commands.SetCounting
    | commands.Recalculate
)
COMMANDS: tuple[type[Command], ...] = (
    commands.SetTargetLink,
    commands.MergeTargets,
    commands.EraseTarget,
    commands.SetParent,
    commands.SetCounting,
    commands.Recalculate,
)


_CLOCKS_DIFFER = timedelta(days=1)


class ObeyCommands:
    def __init__(
        self,
        link: LinkTarget,
        merge: MergeTargets,
        erase: EraseTarget,
        set_parent: SetParentOf,
        counting: Counting,
        recalculations: Recalculations,
        clock: Clock,
    ) -> None:
        self._link = link
        self._merge = merge
        self._erase = erase
        self._set_parent = set_parent
        self._counting = counting
        self._recalculations = recalculations
        self._clock = clock

    async def __call__(self, batch: Sequence[Delivery[Command]]) -> list[Outcome]:
        return [await self.obey(delivery.message) for delivery in batch]

    async def obey(self, command: Command) -> Outcome:
        if command.occurred_at > self._clock.now() + _CLOCKS_DIFFER:
            # It would be newer than everything that is commanded until then.
            return GiveUp("from_the_future", f"occurred_at is {command.occurred_at.isoformat()}")
        if not all(map(is_own_id, _contacts_in(command))):
            # Its key could be another target's, whose counters would be gone where the topic is compacted.
            return GiveUp("refused", f"the id of a contact is {OWN_ID_RULE}")
        try:
            return await self._obey(command)
        except Refused as refused:
            return GiveUp("refused", str(refused))

    async def _obey(self, command: Command) -> Outcome:
        match command:
            case commands.SetTargetLink():
                return None if await self._link(command) else Unchanged()
            case commands.MergeTargets(target_type=type_, target_id=loser, survivor_id=survivor):
                await self._merge(target_key(type_, loser), target_key(type_, survivor))
            case commands.EraseTarget(target_type=type_, target_id=id_):
                await self._erase(target_key(type_, id_))
            case commands.SetParent():
                await self._set_parent(command)
            case commands.SetCounting(target_type=type_, interaction_type=interaction, enabled=enabled):
                set_ = await self._counting.set(type_, interaction, enabled, command.occurred_at)
                return None if set_ else Unchanged()
            case commands.Recalculate():
                scope = Scope(
                    target_type=command.target_type,
                    target_id=command.target_id,
                    contacted_from=command.contacted_from,
                    contacted_to=command.contacted_to,
                )
                if scope.fault:
                    raise Refused(scope.fault)
                started = await self._recalculations.start(
                    command.command_id, scope, command.dry_run, command.targets_per_second
                )
                return None if started else Unchanged()
            case _:
                assert_never(command)
        return None


def _contacts_in(command: Command) -> Iterator[str]:
    """Ids of contacts that it gives something to or takes it from; a link may be cut whatever it leads to."""
    match command:
        case commands.SetTargetLink(linked=False) | commands.SetCounting() | commands.Recalculate():
            return
        case commands.MergeTargets(target_type="contact"):
            yield from (command.target_id, command.survivor_id)
        case commands.SetTargetLink(target_type="contact") | commands.EraseTarget(target_type="contact"):
            yield command.target_id
        case commands.SetParent():
            if command.target_type == "contact":
                yield command.target_id
            if command.parent_type == "contact" and command.parent_id is not None:
                yield command.parent_id
