"""What every list and every versioned answer has in common."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Header, Query, Response
from pydantic import AfterValidator, BaseModel

from servicekit.problems import Problem
from servicekit.refusals import NO_VERSION

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before")]
AnId = Annotated[str | None, Query(description="The id itself; a code finds nothing")]
IfMatch = Annotated[str | None, Header(description="The ETag of the version that is to be changed")]
IfNoneMatch = Annotated[
    str | None, Header(description="`*` makes what is not there, and changes nothing that is: then 412")
]
"""For a route that makes what its path names."""


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = None


def page_of(found: Sequence[Item], limit: int, place: Callable[[Item], str]) -> Page[Item]:
    """The first `limit` of what was found; one more than that says that others follow."""
    items = list(found[:limit])
    return Page(items=items, next_cursor=place(items[-1]) if len(found) > limit else None)


class UnusableCursor(Problem):
    def __init__(self) -> None:
        super().__init__(
            422,
            "bad-cursor",
            "The cursor cannot be used",
            "Give `next_cursor` of the page before.",
        )


def cursor_of(*parts: Any) -> str:
    """Where a page ended, opaque to its reader."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


def parts_of(cursor: str, *read: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The parts of a cursor, each read by its own function. Raises UnusableCursor."""
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor))
        return tuple(one(part) for one, part in zip(read, parts, strict=True))
    except (ValueError, TypeError, OverflowError) as wrong:
        raise UnusableCursor from wrong


def text(part: Any) -> str:
    if not isinstance(part, str):
        raise TypeError(f"{part!r} is no text")
    return part


def whole(part: Any) -> int:
    if not isinstance(part, int) or part.bit_length() > 63:
        raise ValueError(f"{part!r} is no whole number that the database can take")
    return part


def moment(part: Any) -> datetime:
    told = datetime.fromisoformat(part)
    if told.tzinfo is None:
        raise ValueError(f"{part!r} has no zone")
    return told.astimezone(UTC)


def _id_in(cursor: str | None) -> str | None:
    return None if cursor is None else parts_of(cursor, text)[0]


IdCursor = Annotated[Cursor, AfterValidator(_id_in)]
"""Of a list that is sorted by id: the id behind which the page begins. Raises UnusableCursor."""


def page_by_id(found: Sequence[Item], limit: int, id_of: Callable[[Item], str]) -> Page[Item]:
    """The same as page_of, for a list that takes an IdCursor."""
    return page_of(found, limit, lambda last: cursor_of(id_of(last)))


_ETAG = {
    "ETag": {
        "description": "The version, for If-None-Match, and for If-Match where a change takes it",
        "schema": {"type": "string"},
    }
}
_LOCATION = {"Location": {"description": "The path of what was made", "schema": {"type": "string"}}}
Responses = dict[int | str, dict[str, Any]]
TAGGED: Responses = {200: {"description": "As it now stands", "headers": _ETAG}}
"""The answer of a route that tells a version."""
MADE: Responses = {201: {"description": "As it was made", "headers": _ETAG | _LOCATION}}
"""The answer of a route that makes something, and tells where it is and its version."""


def made_before(model: type[BaseModel]) -> Responses:
    """The answers of a route that makes something once: `made_or_found`."""
    return MADE | {200: {"description": "It was made before", "headers": _ETAG, "model": model}}


def made_or_found(response: Response, made: bool, path: str) -> None:
    """201 and where it is, or 200 for what was there before."""
    if made:
        response.headers["Location"] = path
    else:
        response.status_code = 200


def etag(version: int) -> str:
    return f'"{version}"'


def version_of(if_match: str | None, if_none_match: str | None = None) -> int | None:
    """What the caller expects to stand, for `expect_version`."""
    if if_none_match is not None:
        if if_none_match.strip() != "*" or if_match is not None:
            rule = "In a change it takes *, and no If-Match beside it."
            raise Problem(400, "bad-if-none-match", "If-None-Match cannot be used", rule)
        return NO_VERSION
    if if_match is None or if_match == "*":
        return None
    told = if_match.removeprefix("W/").strip('"')
    if not (told.isascii() and told.isdigit() and len(told) < 19):
        raise Problem(400, "bad-if-match", "If-Match cannot be used", 'It takes an ETag such as "3".')
    return int(told)
