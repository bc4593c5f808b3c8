"""The search agrees with what a person would say the filters mean."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import phonenumbers
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pymongo import MongoClient

from batch_loader.adapters.mongo_audience import INDEXES, query
from batch_loader.domain.audience import Candidate, attribute, masked, searchable
from batch_loader.domain.filters import Filters, PhoneMatch
from contracts.channels import ADDRESSES_OF_CHANNEL, EMAIL, NEED_AN_ADDRESS, address_for
from contracts.contacts import ContactChanged, Phone
from contracts.vocabulary import Lifecycle, PhoneType
from tests.batch_loader.builders import NOON, contact, contact_id
from tests.engines import Engines

ZONES = ("America/New_York", "US/Eastern", "Europe/London", None)
PLACE = {"US/Eastern": "America/New_York"}
VALUES: tuple[Any, ...] = ("gold", "silver", 1, True, 2.5, None, "a.b$c", "x" * 300)
NAMES = ("plan", "a.b", "$odd", "tags")
NUMBERS = (
    "+12125550123",
    "+12125550199",
    "+447700900123",
    "+447700900999",
    "+493023125123",
    "+61491570006",
    "+33639980012",
)


@dataclass(frozen=True)
class Person:
    """A contact with what else is known of it."""

    contact: ContactChanged
    contact_count: int
    attempts: int
    last_contact_at: datetime | None
    last_subject_id: str | None
    last_disposition: str | None


def people(count: int, seed: int = 7) -> list[Person]:
    chance = random.Random(seed)
    return [_person(chance, number) for number in range(count)]


def _person(chance: random.Random, number: int) -> Person:
    told = contact(
        number,
        contact_type=chance.choice(["customer", "supplier"]),
        lifecycle=chance.choice(list(Lifecycle)),
        phones=tuple(Phone(number=n) for n in chance.sample(NUMBERS, chance.choice([0, 1, 2]))),
        time_zone=chance.choice(ZONES),
        fields={
            name: chance.sample(VALUES, 2) if name == "tags" else chance.choice(VALUES)
            for name in chance.sample(NAMES, chance.choice([0, 1, 2]))
        },
        created_at=NOON + timedelta(days=chance.choice([-10, -5, -1, 0, 1])),
    )
    out, incoming = chance.choice([0, 0, 1, 3]), chance.choice([0, 1])
    completed = chance.random() < 0.5
    return Person(
        told,
        out + incoming,
        out,
        NOON - timedelta(days=chance.choice([1, 3, 10])) if out + incoming else None,
        chance.choice(["s1", "s2"]) if completed else None,
        chance.choice(["sold", "no-answer"]) if completed else None,
    )


def place(zone: str | None) -> str | None:
    return None if zone is None else PLACE.get(zone, zone)


def is_meant(filters: Filters, person: Person) -> bool:
    """The filters read aloud."""
    told = person.contact
    since = NOON - timedelta(days=filters.not_contacted_in_days or 0)
    return (
        told.created_at <= NOON
        and (not filters.published_only or told.lifecycle is Lifecycle.PUBLISHED)
        and filters.contact_type in (None, told.contact_type)
        and (filters.created_from is None or told.created_at >= filters.created_from)
        and (filters.created_before is None or told.created_at < filters.created_before)
        and (filters.phone is None or any(_number_matches(filters.phone, p.number) for p in told.phones))
        and (not filters.time_zones or place(told.time_zone) in map(place, filters.time_zones))
        and all(_field_matches(told.fields, name, value) for name, value in filters.fields.items())
        and (not filters.last_subjects or person.last_subject_id in filters.last_subjects)
        and (not filters.last_dispositions or person.last_disposition in filters.last_dispositions)
        and (not filters.never_contacted or person.contact_count == 0)
        and (
            filters.not_contacted_in_days is None
            or person.last_contact_at is None
            or person.last_contact_at <= since
        )
        and (filters.attempts_below is None or person.attempts < filters.attempts_below)
    )


def _number_matches(phone: PhoneMatch, number: str) -> bool:
    parsed = phonenumbers.parse(number)
    spoken = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    digits = "".join(character for character in spoken if character.isdigit())
    written = [number] if phone.value[0] == "+" else [digits, str(parsed.national_number)]
    match phone.match:
        case "exact":
            return phone.value in written
        case "begins":
            return any(one.startswith(phone.value) for one in written)
        case "ends":
            return any(one.endswith(phone.value) for one in written)
        case "contains":
            return any(phone.value in one for one in written)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _field_matches(fields: dict[str, Any], name: str, wanted: Any) -> bool:
    if name not in fields:
        return False
    held = fields[name] if isinstance(fields[name], list) else [fields[name]]
    any_of = wanted if isinstance(wanted, tuple) else (wanted,)
    return any(_same(one, other) for one in held for other in any_of)


parts = st.sampled_from(NUMBERS).flatmap(
    lambda number: st.sampled_from(
        [number, number[:6], number[-4:], number[3:8], number[2:], "0" + number[3:], "0" + number[3:7]]
    )
)
filters_drawn = st.builds(
    Filters,
    contact_type=st.sampled_from([None, None, "customer", "supplier"]),
    created_from=st.sampled_from([None, NOON - timedelta(days=5)]),
    created_before=st.sampled_from([None, NOON - timedelta(days=1), NOON]),
    published_only=st.booleans(),
    phone=st.none()
    | st.builds(PhoneMatch, match=st.sampled_from(["exact", "begins", "ends", "contains"]), value=parts),
    time_zones=st.lists(st.sampled_from(ZONES), max_size=2).map(tuple),
    fields=st.dictionaries(
        st.sampled_from(NAMES),
        st.sampled_from([*VALUES, 1.0])
        | st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(tuple),
        max_size=1,
    ),
    last_subjects=st.sampled_from([(), (), ("s1",), ("s1", "s2")]),
    last_dispositions=st.sampled_from([(), (), ("sold",)]),
    never_contacted=st.sampled_from([False, False, True]),
    not_contacted_in_days=st.sampled_from([None, None, 1, 3, 5]),
    attempts_below=st.sampled_from([None, None, 1, 2]),
)

EVERYBODY = people(400)


@pytest.fixture(scope="module")
def copy(engines: Engines) -> Iterator[Any]:
    """The searchable copy of everybody, as the subscribers leave it."""
    name = f"t{uuid4().hex[:8]}-search"
    with MongoClient[dict[str, Any]](engines.mongo, tz_aware=True) as client:
        contacts = client[name]["contacts"]
        contacts.create_indexes(list(INDEXES))
        contacts.insert_many(
            searchable(person.contact)
            | {
                "_id": person.contact.contact_id,
                "contact_count": person.contact_count,
                "attempts": person.attempts,
                "last_contact_at": person.last_contact_at,
                "last_subject_id": person.last_subject_id,
                "last_disposition": person.last_disposition,
            }
            for person in EVERYBODY
        )
        contacts.insert_one({"_id": "statistics-came-first", "contact_count": 0, "attempts": 0})
        yield contacts
        client.drop_database(name)


@given(filters=filters_drawn)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_search_finds_whom_the_filters_mean(copy: Any, filters: Filters) -> None:
    found = {row["_id"] for row in copy.find(query(filters, NOON), {"_id": 1})}
    assert found == {person.contact.contact_id for person in EVERYBODY if is_meant(filters, person)}


def test_the_examples_are_worth_something() -> None:
    each = [
        Filters(published_only=False, phone=PhoneMatch(match="begins", value="07700")),
        Filters(published_only=False, phone=PhoneMatch(match="ends", value="0123")),
        Filters(fields={"plan": ("gold", 1)}),
        Filters(fields={"tags": True}),
        Filters(time_zones=(None,)),
        Filters(last_subjects=("s1",), last_dispositions=("sold",)),
    ]
    for filters in each:
        assert 0 < sum(is_meant(filters, person) for person in EVERYBODY) < len(EVERYBODY)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [(1, 1.0, True), (1, True, False), (1, "1", False), (None, "null", False), ("é", "é", True)],
)
def test_custom_fields_are_equal_as_in_json(one: Any, other: Any, equal: bool) -> None:
    assert (attribute("x", one) == attribute("x", other)) is equal


def test_a_phone_filter_may_be_written_as_people_write_numbers() -> None:
    assert PhoneMatch(match="exact", value="+1 (212) 555-0123").value == "+12125550123"


@pytest.mark.parametrize(
    "wrong",
    [
        {"phone": {"match": "begins", "value": "ring me"}},
        {"phone": {"match": "like", "value": "212"}},
        {"time_zones": ["Nowhere/Atlantis"]},
        {"created_from": "2026-02-01T00:00:00Z", "created_before": "2026-01-01T00:00:00Z"},
        {"created_from": "2026-02-01"},
        {"fields": {"plan": {"nested": 1}}},
        {"fields": {"plan": float("nan")}},
        {"limit": 0},
        {"colour": "red"},
    ],
)
def test_an_impossible_filter_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Filters.model_validate(wrong)


def test_a_number_of_no_country_is_known_by_its_international_form_only() -> None:
    assert searchable(contact(1, phones=(Phone(number="+9995550100"),)))["national"] == []


def reached(kept: list[str]) -> set[str]:
    """Over which channels, as a load judges what is kept."""
    candidate = Candidate(contact_id(1), reachable_by=frozenset(kept))
    return {channel for channel in NEED_AN_ADDRESS if candidate.reached_over(channel)}


def ways_to(**told: Any) -> list[str]:
    return list(searchable(contact(1, **told))["reachable_by"])


def test_a_fax_is_no_way_to_reach_somebody() -> None:
    fax = Phone(number="+12125550123", type=PhoneType.FAX)
    assert reached(ways_to(phones=(fax,))) == set()
    assert reached(ways_to(phones=(fax,), emails=("a@parley.example",))) == {"email"}


CELL, HOME, FAX = (
    Phone(number=f"+1212555010{place}", type=type_)
    for place, type_ in enumerate((PhoneType.CELL, PhoneType.HOME, PhoneType.FAX))
)


@given(
    phones=st.lists(st.sampled_from((CELL, HOME, FAX)), max_size=3, unique=True).map(tuple),
    emails=st.sampled_from(((), ("a@parley.example",))),
    kinds=st.sets(st.sampled_from([*PhoneType, EMAIL]), min_size=1).map(frozenset),
)
def test_a_contact_kept_before_there_was_a_channel_is_reached_over_it(
    phones: tuple[Phone, ...], emails: tuple[str, ...], kinds: frozenset[str]
) -> None:
    kept = ways_to(phones=phones, emails=emails)
    with pytest.MonkeyPatch.context() as later:
        later.setitem(ADDRESSES_OF_CHANNEL, "pigeon", (kinds,))
        numbers = [(phone.number, phone.type) for phone in phones]
        for channel in NEED_AN_ADDRESS:
            there = address_for(channel, numbers, emails) is not None
            assert (channel in reached(kept)) is there


@pytest.mark.parametrize(
    ("kept", "kinds", "channels"),
    [
        (["sms", "voice"], {PhoneType.CELL}, {"sms", "voice"}),
        (["sms", "voice"], set(PhoneType), {"sms", "voice", "pigeon"}),
        (["email"], {EMAIL}, {"email", "pigeon"}),
        (["email", "sms", "voice"], {EMAIL, PhoneType.CELL}, {"email", "sms", "voice", "pigeon"}),
        ([], set(PhoneType), set()),
    ],
)
def test_what_a_release_kept_that_knew_channels_only_counts_where_it_proves_an_address(
    kept: list[str], kinds: set[str], channels: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADDRESSES_OF_CHANNEL, "pigeon", (frozenset(kinds),))
    assert reached(kept) == channels


def test_a_masked_number_cannot_be_called() -> None:
    assert masked("+12125550123") == "+12•••••••23"
