"""Make an activity on somebody's direct request: the same decision as for the topic."""

from __future__ import annotations

from activities.domain.activity import Activity
from activities.domain.creation import create, other_in
from activities.ports import Catalogs, Facts
from contracts.activities import ActivityCreated
from contracts.reasons import Objection
from servicekit.conflicts import undisputed
from servicekit.unit_of_work import Changes, Committer, Store
from servicekit.verdict import Become, GiveUp

_OF_SOMEBODY_ERASED = (Objection.CONTACT_ERASED, f"denied: {Objection.CONTACT_ERASED}")


class Impossible(Exception):
    """This can never be worked."""


class UnknownItem(LookupError):
    """The catalogue has no such subject or campaign. On the topic it may still come; a person mistyped it."""

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(f"There is no {kind} with id {id_!r}.")
        self.kind = kind


class AnotherActivity(Exception):
    """The id belongs to an activity of somebody else, or about something else."""


class CreateActivity:
    def __init__(
        self, store: Store[Activity], committer: Committer, catalogs: Catalogs, facts: Facts
    ) -> None:
        self._store = store
        self._committer = committer
        self._catalogs = catalogs
        self._facts = facts

    async def __call__(self, message: ActivityCreated) -> tuple[Activity, bool]:
        """The activity, and whether this call made it. Raises UnknownItem, Impossible, AnotherActivity."""
        catalog = await self._catalogs.read()
        if message.subject_id not in catalog.subjects:
            raise UnknownItem("subject", message.subject_id)
        if message.campaign_id is not None and message.campaign_id not in catalog.campaigns:
            raise UnknownItem("campaign", message.campaign_id)
        return await undisputed(lambda: self._create(message), f"the slot of activity {message.activity_id}")

    async def _create(self, message: ActivityCreated) -> tuple[Activity, bool]:
        state = await self._store.get(message.activity_id)
        if state is not None and (other := other_in(message, state)):
            raise AnotherActivity(other)
        verdict = create(message, state, await self._facts.for_creation([message]))
        if isinstance(verdict, GiveUp):
            raise Impossible(verdict.detail)
        if isinstance(verdict, Become) and verdict.state.reason in _OF_SOMEBODY_ERASED:
            raise Impossible(f"The contact {message.contact_id!r} was erased.")
        if not isinstance(verdict, Become):
            assert state is not None
            return state, False
        changes = Changes()
        self._committer.add(changes, self._store, None, verdict)
        await self._committer.commit(changes)
        return verdict.state, True
