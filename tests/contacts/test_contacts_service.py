import asyncio
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from contracts.contacts import ContactChanged, SetPreference, UpsertContact
from contracts.message import stable_id
from contracts.stats import AttemptCounters
from servicekit.delivery import headers_of
from tests.contacts.conftest import Running
from tests.kit import eventually, settled

NOW = datetime.now(UTC)


def stop(contact_id: str, command_id: str = "stop-1", **fields: object) -> SetPreference:
    told = {
        "command_id": command_id,
        "contact_id": contact_id,
        "preference": "do-not-sms",
        "opted_out": True,
        "source": "sms",
        "actor": "contact",
        "occurred_at": NOW,
    }
    return SetPreference.model_validate(told | fields)


def upsert(contact_id: str, command_id: str, **fields: object) -> UpsertContact:
    told = {
        "command_id": command_id,
        "contact_id": contact_id,
        "contact_type": "person",
        "phones": [{"number": "+12025550144"}],
        "occurred_at": NOW,
    }
    return UpsertContact.model_validate(told | fields)


async def consent(contacts: Running, contact_id: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = (await contacts.api.get(f"/v1/contacts/{contact_id}/consent")).json()[
        "items"
    ]
    return rows


async def test_a_contact_is_created_found_changed_and_announced(contacts: Running) -> None:
    made = await contacts.create(first_name="Ada", emails=["Ada@Example.org"], external_id="X1")
    assert made["contact_id"] == stable_id("contact", "person", "X1")
    again = await contacts.api.post("/v1/contacts", json={"contact_type": "person", "external_id": "X1"})
    assert (again.status_code, again.json()["contact_id"]) == (409, made["contact_id"])

    url = f"/v1/contacts/{made['contact_id']}"
    patch = {"first_name": None, "fields": {"plan": "gold"}, "time_zone": "europe/berlin"}
    changed = await contacts.api.patch(url, json=patch, headers={"If-Match": '"1"'})
    assert changed.status_code == 200, changed.text
    assert changed.headers["ETag"] == '"2"'
    assert changed.json()["time_zone"] == "Europe/Berlin"
    stale = await contacts.api.patch(url, json={"first_name": "Eve"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    same = await contacts.api.patch(url, json=patch, headers={"If-Match": '"1"'})
    assert same.json()["version"] == 2

    unchanged = await contacts.api.patch(url, json={"fields": {}})
    assert (unchanged.json()["fields"], unchanged.json()["version"]) == ({"plan": "gold"}, 2)

    for query in ({"phone": "+12025550143"}, {"external_id": "X1"}, {"contact_type": "person"}):
        found = (await contacts.api.get("/v1/contacts", params=query)).json()["items"]
        assert [contact["contact_id"] for contact in found] == [made["contact_id"]]
    assert (await contacts.api.get("/v1/contacts", params={"opted_out": "do-not-sms"})).json()["items"] == []

    announced = await contacts.wire.expect(ContactChanged, 2)
    assert [(message.version, message.first_name) for message in announced] == [(1, "Ada"), (2, None)]
    assert announced[-1] == ContactChanged.model_validate(changed.json())

    cleared = await contacts.api.patch(url, json={"fields": None})
    assert (cleared.json()["fields"], cleared.json()["version"]) == ({}, 3)


async def test_bad_requests_are_told_what_would_be_right(contacts: Running) -> None:
    async def refused(body: dict[str, object]) -> str:
        answer = await contacts.api.post("/v1/contacts", json={"contact_type": "person"} | body)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return str(answer.json()["detail"])

    assert "there are: person" in await refused({"contact_type": "company"})
    nowhere: dict[str, object] = {"phones": [{"number": "+9991"}]}
    assert "phones.0.number: the country code does not exist" in await refused(nowhere)
    assert "America/New_York" in await refused({"external_id": "X1", "time_zone": "Mars"})
    assert 'must be one of ["basic", "gold"]' in await refused(
        {"external_id": "X1", "fields": {"plan": "tin"}}
    )
    assert "64 bits" in await refused({"external_id": "X1", "fields": {"age": 2**70}})
    assert "an external id, a phone or an e-mail is needed" in await refused({"first_name": "Ada"})
    assert "there is no such field" in await refused({"nickname": "Ada"})
    assert "first_name: must be text without NUL" in await refused({"external_id": "X1", "first_name": "A\0"})
    assert "should match pattern" in await refused({"contact_id": "a\nb"})
    surrogate = b'{"contact_type": "person", "external_id": "X", "fields": {"plan": "\\ud800"}}'
    answer = await contacts.api.post(
        "/v1/contacts", content=surrogate, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422


@pytest.mark.parametrize("counter", [*AttemptCounters.model_fields, "days_since_last_contact"])
async def test_nobody_writes_the_attempt_counters_of_a_contact(contacts: Running, counter: str) -> None:
    made = await contacts.create(external_id=f"with {counter}", phones=None)
    url = f"/v1/contacts/{made['contact_id']}"
    for written in ({counter: 7}, {"fields": {counter: 7}}, {counter: None}):
        body = {"contact_type": "person", "external_id": f"new {counter}"} | written
        answers = (
            await contacts.api.post("/v1/contacts", json=body),
            await contacts.api.patch(url, json=written),
        )
        for answer in answers:
            assert answer.status_code == 422, answer.text
            assert counter in answer.json()["detail"]
    assert await contacts.get(made["contact_id"]) == made


async def test_lists_come_in_pages(contacts: Running) -> None:
    made = {(await contacts.create(external_id=f"X{n}"))["contact_id"] for n in range(5)}
    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await contacts.api.get("/v1/contacts", params=query)).json()
        found += [contact["contact_id"] for contact in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert found == sorted(made)


async def test_commands_have_their_effect_once_and_leave_a_ledger_row_each(contacts: Running) -> None:
    known = await contacts.create()
    id_ = known["contact_id"]
    first, second = stop(id_), stop(id_, "stop-2", occurred_at=NOW + timedelta(hours=1))
    early = stop(id_, "start-0", opted_out=False, occurred_at=NOW - timedelta(hours=1))
    new, same, newer = (
        upsert("own-1", "u-1", first_name="Ada"),
        upsert("own-1", "u-2", first_name="Ada"),
        upsert("own-1", "u-3", first_name="Eve"),
    )
    everything = (first, first, new, second, same, early, newer)
    await contacts.wire.publish(*everything)
    await settled(contacts.service)

    async def state() -> tuple[object, ...]:
        return await contacts.get(id_), await contacts.get("own-1"), await consent(contacts, id_)

    before = await state()
    assert before[0]["version"] == 4  # type: ignore[index]
    assert (before[1]["first_name"], before[1]["version"]) == ("Eve", 2)  # type: ignore[index]
    assert [(row["entry_id"], row["applied"]) for row in before[2]] == [  # type: ignore[attr-defined]
        ("stop-1", True),
        ("stop-2", False),
        ("start-0", False),
    ]
    assert datetime.fromisoformat(before[0]["preferences"]["do-not-sms"]["at"]) == first.occurred_at.replace(  # type: ignore[index]
        microsecond=first.occurred_at.microsecond // 1000 * 1000
    )
    # The whole topic again, in order, as after a rewind.
    await contacts.wire.publish(*everything)
    await settled(contacts.service)
    assert await state() == before


async def test_a_bad_command_goes_to_the_dead_letters_and_good_ones_flow_on(contacts: Running) -> None:
    await contacts.wire.publish(
        stop("nobody"),
        upsert("own-1", "u-1", contact_type="company"),
        upsert("own-2", "u-2", fields={"plan": "tin"}),
        upsert("own-3", "u-3", first_name="Ada"),
    )

    async def dead() -> list[str]:
        letters = await contacts.wire.dead_letters("contact-commands")
        return sorted(letter["dlq_reason"] for letter in letters) if len(letters) == 3 else []

    reasons = await eventually(dead, "three dead letters")
    assert reasons == ["invalid_contact", "unknown_contact", "unknown_contact_type"]
    await eventually(lambda: contacts.api.get("/v1/contacts/own-3"))
    assert (await contacts.get("own-3"))["first_name"] == "Ada"


async def test_preferences_are_set_over_rest_and_repeat_by_command_id(contacts: Running) -> None:
    made = await contacts.create()
    url = f"/v1/contacts/{made['contact_id']}/preferences/do-not-call"
    body = {"opted_out": True, "actor": "agent-7", "command_id": "c-1"}
    seen = {"If-Match": '"1"'}
    first, second = [await contacts.api.put(url, json=body, headers=seen) for _ in range(2)]
    assert first.json() == second.json()
    stale = await contacts.api.put(url, json=body | {"command_id": "c-2"}, headers=seen)
    assert stale.status_code == 412
    assert first.json()["preferences"]["do-not-call"]["actor"] == "agent-7"
    found = (await contacts.api.get("/v1/contacts", params={"opted_out": "do-not-call"})).json()["items"]
    assert [contact["contact_id"] for contact in found] == [made["contact_id"]]
    late = await contacts.api.put(url, json=body | {"occurred_at": "9999-12-31T23:59:59-14:00"})
    assert late.status_code == 422
    lifted = await contacts.api.put(url, json={"opted_out": False, "actor": "agent-7"})
    assert lifted.json()["preferences"] == {}
    assert len(await consent(contacts, made["contact_id"])) == 2


async def test_of_one_command_sent_many_times_at_once_each_is_answered_with_what_it_did(
    contacts: Running,
) -> None:
    id_ = (await contacts.create())["contact_id"]
    body = {"opted_out": True, "actor": "agent-7", "command_id": "c-1"}
    url = f"/v1/contacts/{id_}/preferences/do-not-sms"
    answers = await asyncio.gather(*(contacts.api.put(url, json=body) for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6, answers[-1].text
    standing = await contacts.get(id_)
    assert standing["version"] == 2
    assert [answer.json() for answer in answers] == [standing] * 6
    assert len(await consent(contacts, id_)) == 1


NAMES = [f"own-{n}" for n in range(6)]


async def one_has_it(requests: Iterable[Awaitable[httpx.Response]]) -> None:
    """The external id X1, which all of them want; the others hear who."""
    answers = await asyncio.gather(*requests)
    told = [answer.json() for answer in answers]
    owners = [each["contact_id"] for each in told if each.get("external_id") == "X1"]
    refused = [(each["type"], each.get("contact_id")) for each in told if "type" in each]
    assert len(owners) == 1, told
    assert refused == [("urn:parley:problem:external-id-taken", owners[0])] * (len(answers) - 1)


async def test_of_many_who_are_made_with_one_external_id_at_once_one_has_it(contacts: Running) -> None:
    person = {"contact_type": "person", "external_id": "X1"}
    await one_has_it(contacts.api.post("/v1/contacts", json=person | {"contact_id": name}) for name in NAMES)


async def test_of_many_who_are_given_one_external_id_at_once_one_has_it(contacts: Running) -> None:
    for name in NAMES:
        await contacts.create(contact_id=name)
    await one_has_it(
        contacts.api.patch(f"/v1/contacts/{name}", json={"external_id": " X1"}) for name in NAMES
    )


async def test_an_erasure_misses_none_of_the_wishes_that_are_written_meanwhile(contacts: Running) -> None:
    url = f"/v1/contacts/{(await contacts.create())['contact_id']}"
    body = {"opted_out": True, "actor": "Adalbert"}
    wishes = [contacts.api.put(f"{url}/preferences/do-not-sms", json=body) for _ in range(6)]
    answers = await asyncio.gather(*wishes[:3], contacts.api.delete(url), *wishes[3:])
    assert {answer.status_code for answer in answers} <= {200, 204, 410}
    rows = (await contacts.api.get(f"{url}/consent")).json()["items"]
    assert len(rows) == [answer.status_code for answer in answers].count(200)
    assert all(row["actor"] == "erased" for row in rows)


async def test_fields_that_grow_one_by_one_end_before_an_opt_out_is_stuck(contacts: Running) -> None:
    schema = {"type": "object", "properties": {"second": {"type": "string"}}}
    loose = {"code": "loose", "name": "With any fields", "fields_schema": schema}
    await contacts.api.post("/v1/contact-types", json=loose)
    first = {"first": "x" * 210_000}
    made = await contacts.create(contact_type="loose", external_id="X1", fields=first)
    url = f"/v1/contacts/{made['contact_id']}"
    grown = await contacts.api.patch(url, json={"fields": {"second": "x" * 200_000}})
    assert (grown.status_code, grown.json()["errors"][0]["where"]) == (422, "fields")
    assert "262,144 bytes" in grown.json()["detail"]
    done = await contacts.import_(
        f"external_id,phone,second\nX1,+12025550143,{'x' * 60_000}\n", contact_type="loose"
    )
    assert done["rejected"] == {"invalid_field": 1}
    await contacts.api.put(f"{url}/preferences/do-not-sms", json={"opted_out": True, "actor": "agent-7"})
    announced = await contacts.wire.expect(ContactChanged, 2)
    assert [list(message.preferences) for message in announced] == [[], ["do-not-sms"]]


async def test_an_erased_contact_leaves_a_tombstone_and_nothing_personal(contacts: Running) -> None:
    number = "+12025550177"
    made = await contacts.create(first_name="Adalbert", phones=[{"number": number}])
    id_ = made["contact_id"]
    await contacts.wire.publish(stop(id_, actor="Adalbert himself"))
    for source in ("Adalbert's mother rang", f"p{number[1:]}", "api"):
        in_words = {"opted_out": True, "source": source, "actor": "ann"}
        await contacts.api.put(f"/v1/contacts/{id_}/preferences/do-not-call", json=in_words)
    await settled(contacts.service)
    done = await contacts.import_(f"first_name,phone,zone\nAdalbert,{number},Mars\n")
    assert done["rejected"] == {"bad_time_zone": 1}

    for _ in range(2):
        assert (await contacts.api.delete(f"/v1/contacts/{id_}")).status_code == 204
    assert (await contacts.api.get(f"/v1/contacts/{id_}")).status_code == 410
    assert (await contacts.api.delete("/v1/contacts/nobody")).status_code == 404
    rows = await consent(contacts, id_)
    assert {row["actor"] for row in rows} == {"erased"}
    assert sorted(str(row["source"]) for row in rows) == ["api", "erased", "erased", "sms"]
    # As an earlier release left them, until somebody erases again.
    ledger = contacts.service.mongo["consent_ledger"]
    await ledger.update_many({"source": "erased"}, {"$set": {"source": "Adalbert rang"}})
    assert (await contacts.api.delete(f"/v1/contacts/{id_}")).status_code == 204
    assert await consent(contacts, id_) == rows
    await settled(contacts.service)
    records = await contacts.wire.records("contact-changed")
    assert [record.value for record in records if record.key == id_.encode()][-2:] == [None, None]
    left = {}
    for name in await contacts.service.mongo.database.list_collection_names():
        if name not in ("idempotency_keys", "erasures"):
            left[name] = [row async for row in contacts.service.mongo[name].find({})]
    assert "Adalbert" not in str(left)
    assert number not in str(left)

    # Neither a late command, nor a request, nor a file brings it back.
    await contacts.wire.publish(stop(id_, "stop-9"), upsert(id_, "u-9", first_name="Adalbert"))
    await settled(contacts.service)
    assert (await contacts.api.get(f"/v1/contacts/{id_}")).status_code == 410
    again = {"contact_type": "person", "phones": [{"number": number}]}
    assert (await contacts.api.post("/v1/contacts", json=again)).status_code == 410
    assert (await contacts.import_(f"phone\n{number}\n"))["rejected"] == {"erased": 1}
    letters = await contacts.wire.dead_letters("contact-commands")
    assert letters == []
    assert headers_of(records[0])["ce_type"] == ContactChanged.wire.type


async def test_contact_types_are_defined_once_and_replaced(contacts: Running) -> None:
    company = {"name": "Company", "time_zone_required": True, "preferences": ["do-not-call"]}
    made = await contacts.api.put("/v1/contact-types/company", json=company)
    assert (made.status_code, made.json()["version"]) == (200, 1)
    repeat = await contacts.api.put("/v1/contact-types/company", json=company, headers={"If-Match": '"7"'})
    assert (repeat.status_code, repeat.json()["version"]) == (200, 1)
    again = await contacts.api.post("/v1/contact-types", json={"code": "company"} | company)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    fresh = await contacts.api.post("/v1/contact-types", json={"code": "firm", "name": "Firm"})
    assert (fresh.status_code, fresh.headers["location"]) == (201, "/v1/contact-types/firm")
    other = await contacts.api.post("/v1/contact-types", json={"code": "company", "name": "Firm"})
    assert other.status_code == 409
    stale = await contacts.api.put(
        "/v1/contact-types/company", json={"name": "Firm"}, headers={"If-Match": '"7"'}
    )
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:parley:problem:version-moved")
    unless = {"If-None-Match": "*"}
    for written in (company, {"name": "Firm"}):
        stands = await contacts.api.put("/v1/contact-types/company", json=written, headers=unless)
        assert (stands.status_code, stands.json()["type"]) == (412, "urn:parley:problem:stands-already")
    standing = (await contacts.api.get("/v1/contact-types/company")).json()
    assert (standing["name"], standing["version"]) == ("Company", 1)
    bad = await contacts.api.put("/v1/contact-types/company", json={"name": "X", "fields_schema": {}})
    assert bad.status_code == 422
    codes = [item["code"] for item in (await contacts.api.get("/v1/contact-types")).json()["items"]]
    assert codes == ["company", "firm", "person"]

    lacking = await contacts.api.post("/v1/contacts", json={"contact_type": "company", "external_id": "1"})
    assert "need a time zone" in lacking.json()["detail"]
    firm = await contacts.create(contact_type="company", time_zone="UTC")
    wrong = await contacts.api.put(
        f"/v1/contacts/{firm['contact_id']}/preferences/do-not-sms", json={"opted_out": True, "actor": "me"}
    )
    assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:parley:problem:preference-does-not-apply")
    refused = await contacts.send("phone,zone,opted_out\n", contact_type="company")
    assert "'opted_out', and nothing of that name is known" in refused.json()["detail"]
