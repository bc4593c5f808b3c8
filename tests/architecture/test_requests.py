"""What a request says is taken for what JSON calls it: a text is no number, and nothing but true is true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, Strict

from campaigns.domain.kinds import Bundle
from contracts.vocabulary import Flag, Whole
from tests.architecture.test_services import built
from tests.services import SERVICES


def bodies_of(name: str) -> Iterator[Any]:
    """The types of all that this service lets itself be sent."""
    for router in built(name)._routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield from (parameter.field_info.annotation for parameter in route.dependant.body_params)
    if name == "campaigns":
        yield Bundle  # which reads its body itself


def loose(type_: Any, met: set[type[BaseModel]], rules: Sequence[object] = (), at: str = "") -> Iterator[str]:
    """Where a boolean or a number may be made of something else."""
    if get_origin(type_) is Annotated:
        inner, *more = get_args(type_)
        yield from loose(inner, met, (*rules, *more), at)
    elif type_ in (bool, int, float):
        if not any(isinstance(rule, Strict) for rule in rules):
            yield at
    elif isinstance(type_, type) and issubclass(type_, BaseModel):
        if type_ not in met:
            met.add(type_)
            for name, field in type_.model_fields.items():
                yield from loose(field.annotation, met, field.metadata, f"{type_.__name__}.{name}")
    else:
        for part in get_args(type_):
            yield from loose(part, met, (), at)


@pytest.mark.parametrize("name", SERVICES)
async def test_what_a_request_says_is_what_json_calls_it(name: str) -> None:
    met: set[type[BaseModel]] = set()
    assert [place for body in bodies_of(name) for place in loose(body, met)] == []
    assert met


def test_what_would_be_made_of_something_else_is_found() -> None:
    class Inner(BaseModel):
        opted_out: bool
        agreed: Flag
        days: tuple[Whole, ...] = ()
        hours: tuple[int, ...] = ()

    class Outer(BaseModel):
        inner: list[Inner] | None
        rate: Annotated[float | None, "a rule"] = None
        limit: Whole | None = None

    found = {"Inner.opted_out", "Inner.hours", "Outer.rate"}
    assert set(loose(Outer | None, set())) == found
