"""Instances of any message, built from its fields."""

from __future__ import annotations

import types
from datetime import UTC, datetime, timedelta
from enum import EnumType
from functools import cache
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from contracts.message import Message
from contracts.vocabulary import END_OF_TIME, FIRST_TIME, to_millisecond

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
TIMES = st.datetimes(
    FIRST_TIME.replace(tzinfo=None),
    END_OF_TIME.replace(tzinfo=None) - timedelta(milliseconds=1),
    timezones=st.just(UTC),
).map(to_millisecond)


@cache
def messages_of(message: type[Message]) -> st.SearchStrategy[Message]:
    return _models(message)


def _models(model: type[Any]) -> st.SearchStrategy[Any]:
    required = {n: _field(f) for n, f in model.model_fields.items() if f.is_required()}
    optional = {n: _field(f) for n, f in model.model_fields.items() if not f.is_required()}
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: model(**values))


def _field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return _values(field.annotation, tuple(field.metadata))


def _values(annotation: Any, limits: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, NewType):
        return _values(annotation.__supertype__, limits)
    if annotation is datetime:
        return TIMES
    if origin is Annotated:
        return _values(arguments[0], (*arguments[1:], *limits))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_values(each, limits) for each in arguments))
    if origin is tuple:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(_values(arguments[0]), _values(arguments[1]), max_size=3)
    if isinstance(annotation, EnumType):
        return st.sampled_from(list(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _models(annotation)
    return _scalars(annotation, _bounds(limits))


def _scalars(annotation: Any, bounds: dict[str, Any]) -> st.SearchStrategy[Any]:
    least = bounds.get("ge", bounds.get("gt"))
    match annotation:
        case type() if annotation is bool:
            return st.booleans()
        case type() if annotation is int:
            return st.integers(least if least is not None else -(2**31), bounds.get("le", 2**31))
        case type() if annotation is float:
            return st.floats(least or 0, bounds.get("le", 1e6), exclude_min="gt" in bounds)
        case type() if annotation is str and "pattern" in bounds:
            return st.from_regex(bounds["pattern"].replace("$", r"\Z"), fullmatch=True)
        case type() if annotation is str:
            return st.text(
                st.characters(exclude_categories=["Cs"]),
                min_size=bounds.get("min_length", 0),
                max_size=min(bounds.get("max_length", 20), 20),
            )
        case type() if annotation is type(None):
            return st.none()
        case _ if annotation is Any:
            return JSON
    raise TypeError(f"no strategy for {annotation!r}")


def _bounds(limits: tuple[Any, ...]) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for limit in limits:
        if isinstance(limit, FieldInfo):
            bounds |= _bounds(tuple(limit.metadata))
        elif isinstance(limit, StringConstraints):
            named = ("pattern", "min_length", "max_length")
            bounds |= {n: getattr(limit, n) for n in named if getattr(limit, n) is not None}
        else:
            for name in ("ge", "gt", "le", "pattern", "min_length", "max_length"):
                if (value := getattr(limit, name, None)) is not None:
                    bounds[name] = value
    return bounds
