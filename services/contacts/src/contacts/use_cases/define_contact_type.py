from __future__ import annotations

from contacts.domain.contact_type import BadContactType, ContactType, Definition, define
from servicekit.problems import Problem
from servicekit.unit_of_work import Commands
from servicekit.verdict import Unchanged, Verdict


class DefineContactType:
    def __init__(self, types: Commands[ContactType]) -> None:
        self._types = types

    async def __call__(
        self, code: str, definition: Definition, *, new: bool = False
    ) -> tuple[ContactType, bool]:
        """The type that now stands, and whether that changed anything. `new`: refuse if there is one."""

        def decide(standing: ContactType | None) -> Verdict[ContactType]:
            verdict = define(code, definition, standing)
            if new and standing is not None and not isinstance(verdict, Unchanged):
                raise Problem(
                    409,
                    "contact-type-exists",
                    "This contact type exists",
                    f"There is a contact type {code!r} with another definition; change it with PUT.",
                )
            return verdict

        try:
            type_, verdict = await self._types.change(code, decide)
        except BadContactType as bad:
            raise Problem(422, "bad-contact-type", "The contact type cannot be used", str(bad)) from bad
        assert type_ is not None
        return type_, not isinstance(verdict, Unchanged)
