"""The activities of somebody who was erased: nothing more is done, and nothing that was said is kept."""

from __future__ import annotations

from collections.abc import Iterable

from activities.domain import moves
from activities.domain.activity import Activity
from activities.ports import ActivitiesOfContacts
from contracts.reasons import Objection
from servicekit.clock import Clock
from servicekit.conflicts import Conflict
from servicekit.pipeline import is_dependency
from servicekit.unit_of_work import Commands
from servicekit.verdict import Become, Unchanged

ACTOR = "erasure"


class ForgetContacts:
    """Again is harmless: what is forgotten stays so."""

    def __init__(self, activities: ActivitiesOfContacts, commands: Commands[Activity], clock: Clock) -> None:
        self._activities = activities
        self._commands = commands
        self._clock = clock

    async def __call__(self, contact_ids: Iterable[str]) -> None:
        """One that cannot be forgotten keeps none of the others. Raises what was wrong with the last such."""
        wrong: Exception | None = None
        for activity_id in await self._activities.to_forget(contact_ids):
            try:
                await self._commands.change(activity_id, self._end)
                await self._commands.change(activity_id, self._purge)
            except Exception as error:
                if is_dependency(error) and not isinstance(error, Conflict):
                    raise
                wrong = error
        if wrong is not None:
            raise wrong

    def _end(self, activity: Activity | None) -> Become[Activity] | Unchanged:
        if activity is None or activity.is_final:
            return Unchanged("it has ended")
        return moves.cancel(activity, Objection.CONTACT_ERASED, ACTOR, self._clock.now())

    def _purge(self, activity: Activity | None) -> Become[Activity] | Unchanged:
        if activity is None:
            return Unchanged("there is none")
        return moves.purge(activity, ACTOR, self._clock.now())
