from __future__ import annotations

from contacts.domain.contact_type import ContactType, Definition, define
from servicekit.unit_of_work import Commands
from servicekit.verdict import Unchanged, Verdict


class ContactTypeExists(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(f"There is a contact type {code!r} with another definition; change it with PUT.")


class DefineContactType:
    def __init__(self, types: Commands[ContactType]) -> None:
        self._types = types

    async def __call__(
        self, code: str, definition: Definition, *, new: bool = False, version: int | None = None
    ) -> tuple[ContactType, bool]:
        """The type that now stands, and whether that changed anything. `new`: refuse if there is one.
        `version`: the one the caller saw, or NO_VERSION.

        Raises BadContactType, ContactTypeExists, VersionMoved, StandsAlready.
        """

        def decide(standing: ContactType | None) -> Verdict[ContactType]:
            verdict = define(code, definition, standing)
            if new and standing is not None and not isinstance(verdict, Unchanged):
                raise ContactTypeExists(code)
            return verdict

        type_, verdict = await self._types.change(code, decide, expected=version)
        assert type_ is not None
        return type_, not isinstance(verdict, Unchanged)
