"""A key that was corrected is free for somebody else; the contact that had it stays who it is."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.domain.contact import Contact, Details, created, erased, revised
from contacts.domain.contact_type import ContactType
from contacts.domain.import_columns import read_header
from contacts.domain.importing import Candidate, Imported, Outcome, read, take
from contacts.domain.natural_key import MOST_IDS, KeyUsedUp, natural_key
from contracts.contacts import Phone
from contracts.vocabulary import PhoneType
from servicekit.verdict import Become
from tests.contacts.conftest import PERSON, Running

TYPE = ContactType(version=1, **PERSON)
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
OLD, NEW, THIRD = "+12025550143", "+12025550144", "+12025550145"


def phones(*numbers: str) -> list[dict[str, str]]:
    return [{"number": number} for number in numbers]


async def patch(contacts: Running, contact: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = await contacts.api.patch(f"/v1/contacts/{contact['contact_id']}", json=changes)
    assert answer.status_code == 200, answer.text
    patched: dict[str, Any] = answer.json()
    return patched


async def all_of(contacts: Running, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await contacts.api.get("/v1/contacts", params=query)).json()["items"]
    return found


def counted(done: dict[str, Any]) -> tuple[int, int, int]:
    return done["created"], done["updated"], done["unchanged"]


CORRECTED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "external id": ({"external_id": "K-1"}, {"external_id": "K-2"}, f"external_id,phone\nK-1,{THIRD}\n"),
    "external id cleared": ({"external_id": "K-1"}, {"external_id": None}, f"id,phone\nK-1,{THIRD}\n"),
    "phone": ({"phones": phones(OLD)}, {"phones": phones(NEW)}, f"phone\n{OLD}\n"),
    "e-mail": (
        {"phones": [], "emails": ["a@example.org"]},
        {"emails": ["b@example.org"]},
        "email\na@example.org\n",
    ),
}


@pytest.mark.parametrize("key", CORRECTED)
async def test_whoever_comes_with_a_corrected_key_is_somebody_else(contacts: Running, key: str) -> None:
    had, has, file = CORRECTED[key]
    maria = await patch(contacts, await contacts.create(first_name="Maria", **had), **has)
    assert counted(await contacts.import_(file)) == (1, 0, 0)
    assert await contacts.get(maria["contact_id"]) == maria
    assert counted(await contacts.import_(file)) == (0, 0, 1)
    (karl,) = [other for other in await all_of(contacts) if other != maria]
    again = await contacts.api.post("/v1/contacts", json={"contact_type": "person"} | had)
    assert (again.status_code, again.json()["contact_id"]) == (409, karl["contact_id"]), again.text


@pytest.mark.parametrize("key", CORRECTED)
async def test_a_request_makes_the_other_contact_too(contacts: Running, key: str) -> None:
    had, has, file = CORRECTED[key]
    maria = await patch(contacts, await contacts.create(first_name="Maria", **had), **has)
    karl = await contacts.create(first_name="Karl", **had)
    assert karl["contact_id"] != maria["contact_id"]
    assert await contacts.get(maria["contact_id"]) == maria
    done = await contacts.import_(file)
    assert done["created"] == 0
    assert done["imported"] == 1


async def test_a_row_with_the_corrected_external_id_is_about_the_contact_that_has_it(
    contacts: Running,
) -> None:
    maria = await patch(contacts, await contacts.create(external_id="K-1"), external_id="K-2")
    both = f"external_id,phone,first_name\nK-1,{THIRD},Karl\nK-2,{OLD},Maria\n"
    assert counted(await contacts.import_(both)) == (1, 1, 0)
    assert counted(await contacts.import_(both)) == (0, 0, 2)
    assert (await contacts.get(maria["contact_id"]))["first_name"] == "Maria"
    taken = await contacts.api.post("/v1/contacts", json={"contact_type": "person", "external_id": "K-2"})
    assert taken.json()["type"] == "urn:parley:problem:external-id-taken"
    assert taken.json()["contact_id"] == maria["contact_id"]


async def test_a_number_that_a_contact_was_given_makes_no_one_of_two(contacts: Running) -> None:
    """Two people may have one number; who is known by it is whom it came with."""
    maria = await patch(contacts, await contacts.create(), phones=phones(NEW))
    assert counted(await contacts.import_(f"phone\n{NEW}\n")) == (1, 0, 0)
    assert await contacts.get(maria["contact_id"]) == maria
    assert len(await all_of(contacts, phone=NEW)) == 2


async def test_one_text_may_be_the_number_of_one_and_the_external_id_of_another(contacts: Running) -> None:
    file = f"external_id,phone\n{OLD},{THIRD}\n,{OLD}\n{OLD},{NEW}\n"
    done = await contacts.import_(file)
    assert (counted(done), done["rejected"]) == ((2, 0, 0), {"duplicate_in_file": 1})
    again = await contacts.import_(file)
    assert (counted(again), again["rejected"]) == ((0, 0, 2), {"duplicate_in_file": 1})


async def test_imports_and_requests_at_once_make_one_contact_of_a_key_that_was_passed_on(
    contacts: Running,
) -> None:
    numbers = {f"+1{200 + n}5550143": f"+1{300 + n}5550143" for n in range(20)}
    for old, new in numbers.items():
        await patch(contacts, await contacts.create(phones=phones(old)), phones=phones(new))

    async def asked(number: str) -> int:
        body = {"contact_type": "person", "phones": phones(number)}
        return (await contacts.api.post("/v1/contacts", json=body)).status_code

    file = "\n".join(("phone", *numbers))
    imports = asyncio.gather(contacts.import_(file), contacts.import_(file))
    answers = await asyncio.gather(*(asked(number) for number in reversed(numbers) for _ in range(2)))
    made = answers.count(201) + sum(done["created"] for done in await imports)
    assert (made, set(answers) - {201, 409}) == (20, set())
    assert len(await all_of(contacts)) == 40


async def test_a_key_is_passed_on_so_often_and_then_refused_with_what_helps(contacts: Running) -> None:
    for _ in range(MOST_IDS):
        await patch(contacts, await contacts.create(phones=phones(OLD)), phones=phones(NEW))
    body: dict[str, Any] = {"contact_type": "person", "phones": phones(OLD)}
    refused = await contacts.api.post("/v1/contacts", json=body)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:parley:problem:key-used-up")
    assert "give it an external id" in refused.json()["detail"]
    done = await contacts.import_(f"phone\n{OLD}\n{THIRD}\n")
    assert (done["created"], done["rejected"]) == (1, {"key_used_up": 1})
    rejects = await contacts.api.get(f"/v1/imports/{done['import_id']}/rejects")
    assert "give it an external id" in rejects.text
    assert counted(await contacts.import_(f"id,phone\nK-1,{OLD}\n")) == (1, 0, 0)


async def test_what_was_erased_stays_so_behind_a_corrected_key(contacts: Running) -> None:
    maria = await patch(contacts, await contacts.create(phones=phones(OLD)), phones=phones(NEW))
    karl = await contacts.create(phones=phones(OLD))
    # Hers is gone, and his number is not hers.
    await contacts.api.delete(f"/v1/contacts/{maria['contact_id']}")
    assert counted(await contacts.import_(f"phone\n{OLD}\n")) == (0, 0, 1)
    await contacts.api.delete(f"/v1/contacts/{karl['contact_id']}")
    assert (await contacts.import_(f"phone\n{OLD}\n"))["rejected"] == {"erased": 1}
    again = await contacts.api.post("/v1/contacts", json={"contact_type": "person", "phones": phones(OLD)})
    assert again.status_code == 410


@dataclass
class Model:
    """Contacts as an import of one row finds them."""

    contacts: dict[str, Contact] = field(default_factory=dict)

    def import_(self, external_id: str, phone: str) -> tuple[Candidate, Outcome | None]:
        row = read(2, (external_id, phone), read_header(("external_id", "phone"), TYPE), TYPE, None)
        assert isinstance(row, Candidate)
        owners = [id_ for id_, c in self.contacts.items() if external_id and c.external_id == external_id]
        try:
            contact_id = row.key.place((*owners, *row.key.ids()), self.contacts)
        except KeyUsedUp:
            return row, None
        outcome = take(row, contact_id, self.contacts.get(contact_id), TYPE, "import", NOW)
        if isinstance(outcome, Imported):
            self.contacts[contact_id] = outcome.contact
        return row, outcome

    def patch(self, at: int, external_id: str | None, number: str) -> None:
        living = [contact for contact in self.contacts.values() if contact.erased_at is None]
        if not living or any(external_id and c.external_id == external_id for c in living):
            return
        contact = living[at % len(living)]
        told = (Phone(number=number, type=PhoneType.CELL),)
        details = contact.details().model_copy(update={"external_id": external_id, "phones": told})
        verdict = revised(contact, details, NOW)
        if isinstance(verdict, Become):
            self.contacts[contact.contact_id] = verdict.state

    def erase(self, at: int) -> None:
        if self.contacts:
            contact = list(self.contacts.values())[at % len(self.contacts)]
            self.contacts[contact.contact_id] = erased(contact, NOW)


# One of the external ids is also a number.
external_ids, numbers = st.sampled_from(["K-1", "K-2", OLD]), st.sampled_from([OLD, NEW, THIRD])
positions = st.integers(0, 9)
steps = st.one_of(
    st.tuples(st.just("import"), external_ids | st.just(""), numbers),
    st.tuples(st.just("patch"), positions, external_ids | st.none(), numbers),
    st.tuples(st.just("erase"), positions),
)


@given(st.lists(steps, max_size=30))
def test_an_import_only_ever_touches_the_contact_that_has_its_key(sequence: list[tuple[Any, ...]]) -> None:
    model = Model()
    for what, *told in sequence:
        before = dict(model.contacts)
        if what != "import":
            getattr(model, what)(*told)
            continue
        row, outcome = model.import_(*told)
        if not isinstance(outcome, Imported):
            assert model.contacts == before
            continue
        id_ = outcome.contact.contact_id
        assert row.key.may_have(outcome.contact)
        assert id_ not in before or row.key.may_have(before[id_])
        assert {**model.contacts, id_: None} == {**before, id_: None}
        known = [c.external_id for c in model.contacts.values() if c.external_id]
        assert len(known) == len(set(known))
        again = model.import_(*told)[1]
        assert isinstance(again, Imported)
        assert (again.result, again.contact) == ("unchanged", outcome.contact)


def test_a_contact_that_lost_one_of_its_numbers_and_kept_the_other_is_still_itself() -> None:
    two = tuple(Phone(number=number, type=PhoneType.CELL) for number in (OLD, NEW))
    key = natural_key("person", Details(phones=two))
    for kept, itself in ((two[:1], True), (two[::-1], True), (two[1:], False)):
        contact = created(key.own_id(), "person", Details(phones=kept), NOW)
        assert (key.place(key.ids(), {contact.contact_id: contact}) == key.own_id()) is itself
