"""Rejected rows of somebody who is erased, whatever became of their number, and whenever the rows came."""

import csv
import io
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from contacts.adapters.mongo_contacts import MongoContacts, MongoLedger
from contacts.adapters.mongo_imports import IMPORTS, MongoImports
from contacts.domain.contact import Contact
from contacts.domain.importing import Import
from contacts.main import build
from contacts.settings import Settings
from contacts.use_cases.change_contacts import EraseContact
from contacts.use_cases.forget_rejects import ForgetRejects, Identifiers
from servicekit.clock import real_now
from servicekit.leases import Leases
from servicekit.lookouts import Lookouts
from servicekit.refusals import VersionMoved
from servicekit.unit_of_work import Store
from tests.contacts.conftest import PERSON, Running
from tests.engines import Engines
from tests.kit import Wire, eventually, running

ADALBERT = "Adalbert,+12025550143,"
HEADER = "first_name,phone,zone\n"


async def rejects(contacts: Running, done: dict[str, Any]) -> list[list[str]]:
    told = await contacts.api.get(f"/v1/imports/{done['import_id']}/rejects")
    _, *rows = csv.reader(io.StringIO(told.text))
    return rows


async def only_contact(contacts: Running, phone: str = "+12025550143") -> str:
    (found,) = (await contacts.api.get("/v1/contacts", params={"phone": phone})).json()["items"]
    return str(found["contact_id"])


async def erase(contacts: Running, contact_id: str, seen: str | None = None) -> int:
    headers = {"If-Match": seen} if seen else {}
    return (await contacts.api.delete(f"/v1/contacts/{contact_id}", headers=headers)).status_code


async def test_a_number_that_was_changed_hides_no_rejected_row(contacts: Running) -> None:
    done = await contacts.import_(f"{HEADER}{ADALBERT}\n{ADALBERT}\n{ADALBERT}Mars\n")
    assert [row[1] for row in await rejects(contacts, done)] == ["duplicate_in_file", "bad_time_zone"]
    id_ = await only_contact(contacts)
    other = {"phones": [{"number": "+12025550199"}]}
    assert (await contacts.api.patch(f"/v1/contacts/{id_}", json=other)).status_code == 200
    assert await erase(contacts, id_) == 204
    assert await rejects(contacts, done) == []


async def test_an_external_id_that_was_changed_hides_no_rejected_row(contacts: Running) -> None:
    made = await contacts.create(contact_id="own-1", external_id="X1")
    done = await contacts.import_("id,phone,zone\nX1,+12025550144,Mars\n")
    assert len(await rejects(contacts, done)) == 1
    await contacts.api.patch(f"/v1/contacts/{made['contact_id']}", json={"external_id": "X2"})
    assert await erase(contacts, "own-1") == 204
    assert await rejects(contacts, done) == []


async def test_a_row_that_comes_after_the_erasure_leaves_its_line_and_its_reason(
    engines: Engines, namespace: str
) -> None:
    others = "\n".join(f"Ben,+1202556{n:04}," for n in range(200))
    async with (
        running(build, Settings, engines, namespace, contacts_import_batch=1) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as api,
    ):
        wire = Wire(engines, namespace)
        contacts = Running(service, api, wire)
        await api.post("/v1/contact-types", json=PERSON)
        sent = await contacts.send(f"{HEADER}{ADALBERT}\n{others}\n{ADALBERT}\n{ADALBERT}Mars\n")
        import_id = sent.json()["import_id"]

        async def begun() -> bool:
            rows: int = (await api.get(f"/v1/imports/{import_id}")).json()["rows"]
            return rows > 0

        await eventually(begun, "the first row")
        id_ = await only_contact(contacts)
        assert await erase(contacts, id_) == 204
        assert (await api.get(f"/v1/imports/{import_id}")).json()["state"] == "running"

        done = await contacts.finished(import_id)
        assert done["rejected"] == {"duplicate_in_file": 1, "bad_time_zone": 1}
        rows = await rejects(contacts, done)
        assert [(row[0], row[1], row[3:]) for row in rows] == [
            ("203", "duplicate_in_file", []),
            ("204", "bad_time_zone", []),
        ]
        kept = [row async for row in service.mongo["import_rejects"].find({})]
        assert [(row["identifiers"], row["contact_id"]) for row in kept] == [([], None)] * 2
        await wire.close()


async def test_who_was_erased_and_comes_in_a_file_again_leaves_nothing_that_was_said(
    contacts: Running,
) -> None:
    await contacts.import_(f"{HEADER}{ADALBERT}\n")
    id_ = await only_contact(contacts)
    assert await erase(contacts, id_) == 204
    done = await contacts.import_(f"{HEADER}{ADALBERT}\n")
    ((line, reason, _, *cells),) = await rejects(contacts, done)
    assert (line, reason, cells) == ("2", "erased", [])
    # As ten minutes later.
    erasures = contacts.service.mongo["erasures"]
    await erasures.delete_one({"_id": id_})
    assert await erase(contacts, id_) == 204

    async def looked() -> bool:
        return await erasures.find_one({"_id": id_}) is None

    await eventually(looked, "the one look that is enough now")
    assert [row[:2] for row in await rejects(contacts, done)] == [["2", "erased"]]


async def test_what_an_import_was_just_writing_is_looked_for_again(contacts: Running) -> None:
    await contacts.import_(f"{HEADER}{ADALBERT}\n")
    id_ = await only_contact(contacts)
    assert await erase(contacts, id_) == 204
    kept = contacts.service.mongo["import_rejects"]
    row = {"import_id": "one", "cells": ["Adalbert"], "at": real_now()}
    await kept.insert_one(row | {"_id": "one/7", "contact_id": id_, "identifiers": []})
    # By a replica of an earlier version.
    await kept.insert_one(row | {"_id": "one/8", "identifiers": ["+12025550143"]})
    await kept.insert_one(row | {"_id": "one/9", "contact_id": "another", "identifiers": ["+12025550199"]})

    async def only_the_others() -> bool:
        return [each["_id"] async for each in kept.find({})] == ["one/9"]

    await eventually(only_the_others, "another look")


async def test_an_erasure_that_was_refused_takes_no_row_of_who_is_still_there(contacts: Running) -> None:
    first = await contacts.import_(f"{HEADER}{ADALBERT}\n{ADALBERT}\n")
    id_ = await only_contact(contacts)
    assert await erase(contacts, id_, seen='"7"') == 412
    assert len(await rejects(contacts, first)) == 1


async def test_an_erasure_that_somebody_overtook_takes_no_row_of_who_is_still_there(
    contacts: Running,
) -> None:
    done = await contacts.import_(f"{HEADER}{ADALBERT}\n{ADALBERT}\n")
    id_ = await only_contact(contacts)
    service = contacts.service
    store = Store(service.mongo, "contacts", Contact, "contact_id")
    imports = MongoImports(service.mongo, Store(service.mongo, IMPORTS, Import, "import_id"))
    leases = Leases(service.mongo, "unused", "test", 10)

    class Overtaken(ForgetRejects):
        async def announce(self, contact: Contact) -> Identifiers:
            found_by = await super().announce(contact)
            await contacts.api.patch(f"/v1/contacts/{id_}", json={"first_name": "Bert"})
            return found_by

    forget = Overtaken(
        Lookouts(service.mongo["erasures"]), imports, MongoContacts(service.mongo, store), leases
    )
    erase_ = EraseContact(
        service.commands(store), MongoLedger(service.mongo), forget, service.outbox, service.clock
    )
    with pytest.raises(VersionMoved):
        await erase_(id_, 1)
    assert len(await rejects(contacts, done)) == 1


async def test_an_erasure_that_did_not_come_to_its_end_takes_no_row_of_who_is_still_there(
    contacts: Running,
) -> None:
    await contacts.import_(f"{HEADER}{ADALBERT}\n")
    id_ = await only_contact(contacts)
    # As a process leaves it that was killed before it erased.
    erasures = contacts.service.mongo["erasures"]
    times = {"told_real_at": real_now(), "look_real_at": real_now()}
    await erasures.insert_one({"_id": id_, "b": 0, "identifiers": []} | times)
    done = await contacts.import_(f"{HEADER}{ADALBERT}Mars\n")
    # Which comes a second before the next at least.
    looked = {"_id": id_, "look_real_at": {"$gt": real_now() + timedelta(seconds=1)}}
    await eventually(partial(erasures.find_one, looked), "a look after the import")
    assert len(await rejects(contacts, done)) == 1
