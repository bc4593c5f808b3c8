"""What people do with an activity. Each is decided on the state that stands, and written if it still does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from activities.domain import moves
from activities.domain.activity import Activity
from activities.domain.catalog import Catalog
from activities.domain.outcomes import PEOPLE, BadEnding, allowed_disposition, ending
from activities.ports import Catalogs, Contacts
from contracts.vocabulary import Urgency
from servicekit.clock import Clock
from servicekit.refusals import NotFound
from servicekit.unit_of_work import Commands
from servicekit.verdict import Become, Unchanged

F = TypeVar("F")
Decision = Callable[[Activity, datetime], Become[Activity] | Unchanged]

_MAY_BE_PAST = timedelta(days=1)
"""Clocks differ, and who got no answer asks again; a mistyped year is further off."""


class HasPassed(Exception):
    """A time in the past for what is to be done."""

    def __init__(self, at: datetime) -> None:
        told = f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        super().__init__(f"{told} has passed; leave it out to have the activity due at once.")


class WorkActivity:
    """`expected` is the version the caller saw, if it said so."""

    def __init__(
        self,
        commands: Commands[Activity],
        clock: Clock,
        catalogs: Catalogs,
        contacts: Contacts,
    ) -> None:
        self._commands = commands
        self._clock = clock
        self._catalogs = catalogs
        self._contacts = contacts

    async def claim(self, id_: str, agent: str, expected: int | None = None) -> Activity:
        return await self._change(id_, expected, lambda activity, now: moves.claim(activity, agent, now))

    async def release(self, id_: str, agent: str | None, expected: int | None = None) -> Activity:
        return await self._change(id_, expected, lambda activity, now: moves.release(activity, agent, now))

    async def start(self, id_: str, agent: str, expected: int | None = None) -> Activity:
        return await self._change(id_, expected, lambda activity, now: moves.start(activity, agent, now))

    async def cancel(self, id_: str, reason: str, actor: str, expected: int | None = None) -> Activity:
        return await self._change(
            id_, expected, lambda activity, now: moves.cancel(activity, reason, actor, now)
        )

    async def reschedule(
        self,
        id_: str,
        at: datetime | None,
        actor: str,
        urgency: Urgency | None,
        expected: int | None = None,
    ) -> Activity:
        """at: null means now. Raises HasPassed for a time that is long over."""

        def decide(activity: Activity, now: datetime) -> Become[Activity]:
            moves.check(activity, moves.Move.RESCHEDULE)
            if at is not None and at < now - _MAY_BE_PAST:
                raise HasPassed(at)
            return moves.reschedule(activity, at or now, actor, now, urgency)

        return await self._change(id_, expected, decide)

    async def purge(self, id_: str, actor: str, expected: int | None = None) -> Activity:
        return await self._change(id_, expected, lambda activity, now: moves.purge(activity, actor, now))

    async def complete(
        self,
        id_: str,
        disposition: str,
        actor: str | None,
        captured: dict[str, Any],
        expected: int | None = None,
        **said: Any,
    ) -> Activity:
        """actor: null means whoever it is assigned to. Raises BadEnding."""

        async def facts(activity: Activity) -> tuple[Catalog, str | None]:
            return await self._catalogs.read(), await self._time_zone_of_contact(activity)

        def decide(activity: Activity, now: datetime, known: tuple[Catalog, str | None]) -> Become[Activity]:
            catalog, zone = known
            moves.check(activity, moves.Move.COMPLETE)
            who = actor or activity.assigned_to
            if who is None:
                raise BadEnding(
                    "actor_missing", "Nobody has this activity: say who completes it, in `actor`."
                )
            follow_up_at = said.get("follow_up_at")
            if follow_up_at is not None and follow_up_at <= now:
                raise BadEnding(
                    "follow_up_passed",
                    f"The follow-up at {follow_up_at:%Y-%m-%d %H:%M %Z} has passed.",
                )
            chosen = ending(activity, disposition, captured, PEOPLE, catalog)
            return moves.complete(
                activity, chosen, who, now, captured=captured, contact_time_zone=zone, **said
            )

        return await self._change_knowing(id_, expected, facts, decide)

    async def correct(
        self,
        id_: str,
        actor: str,
        disposition: str | None,
        notes: str | None,
        expected: int | None = None,
    ) -> Activity:
        """Raises BadEnding."""

        async def facts(_: Activity) -> Catalog:
            return await self._catalogs.read()

        def decide(activity: Activity, now: datetime, catalog: Catalog) -> Become[Activity]:
            moves.check(activity, moves.Move.CORRECT)
            chosen = allowed_disposition(activity, disposition, PEOPLE, catalog) if disposition else None
            return moves.correct(activity, actor, now, disposition=chosen, notes=notes)

        return await self._change_knowing(id_, expected, facts, decide)

    async def _time_zone_of_contact(self, activity: Activity) -> str | None:
        contact = (await self._contacts.read([activity.contact_id])).get(activity.contact_id)
        return contact.time_zone if contact else None

    async def _change(self, id_: str, expected: int | None, decide: Decision) -> Activity:
        async def nothing(_: Activity) -> None:
            return None

        return await self._change_knowing(
            id_, expected, nothing, lambda activity, now, _: decide(activity, now)
        )

    async def _change_knowing(
        self,
        id_: str,
        expected: int | None,
        facts: Callable[[Activity], Awaitable[F]],
        decide: Callable[[Activity, datetime, F], Become[Activity] | Unchanged],
    ) -> Activity:
        def there(activity: Activity | None) -> Activity:
            if activity is None:
                raise NotFound("activity", id_)
            return activity

        state, _ = await self._commands.change(
            id_,
            lambda activity, known: decide(there(activity), self._clock.now(), known),
            facts=lambda activity: facts(there(activity)),
            expected=expected,
        )
        return there(state)
