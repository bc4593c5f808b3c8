import asyncio
import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pytest

from contacts.adapters.mongo_imports import MongoImports
from contacts.domain.importing import Import
from contacts.main import build
from contacts.settings import Settings
from contracts.contacts import ContactChanged
from servicekit.failpoints import FAILPOINTS
from servicekit.unit_of_work import Store
from tests.contacts.conftest import PERSON, Running
from tests.engines import Engines
from tests.kit import Wire, eventually, failed_where_told, running, settled

DIRTY = """\
First Name;Mobile;E-Mail;Time Zone;Opted Out;plan;age
Ada;(202) 555-0143;ada@example.org;America/New_York;;gold;36
Ben;+44 7700 900123;;Europe/London;yes;basic;
Cleo;555;;;;;
Dan;;dan@@example;;;;
Eve;202-555-0143;;;;;
Finn;;;UTC;;;
Gus;2025550145;;Mars/Base;;;
Hal;2025550146;;;;tin;
"Ivy
Rose";2025550147;;;;;7
"""


@pytest.fixture
def failpoints() -> Iterator[None]:
    yield
    FAILPOINTS.disarm()


def numbered(rows: int, first: int = 0) -> str:
    """Of ten rows one is opted out."""
    lines = (
        f"N{n},X{n},+1{200 + n // 100}55501{n % 100:02},{'yes' if n % 10 == 0 else ''}"
        for n in range(first, first + rows)
    )
    return "\n".join(("first_name,id,phone,opted_out", *lines))


async def everything(contacts: Running) -> dict[str, int]:
    rows = contacts.service.mongo["contacts"].find({}, {"version": 1})
    return {row["_id"]: row["version"] async for row in rows}


async def test_a_dirty_file_is_imported_and_every_rejected_row_is_explained(contacts: Running) -> None:
    done = await contacts.import_(DIRTY, name="spring")
    assert (done["rows"], done["imported"], done["created"]) == (9, 3, 3)
    assert done["rejected"] == {
        "bad_phone": 1,
        "bad_email": 1,
        "duplicate_in_file": 1,
        "missing_address": 1,
        "bad_time_zone": 1,
        "invalid_field": 1,
    }
    assert done["rows"] == done["imported"] + sum(done["rejected"].values())

    rejects = await contacts.api.get(f"/v1/imports/{done['import_id']}/rejects")
    header, *rows = csv.reader(io.StringIO(rejects.text), delimiter=";")
    assert header[:4] == ["line", "reason", "what_would_be_right", "First Name"]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("4", "bad_phone", "Cleo"),
        ("5", "bad_email", "Dan"),
        ("6", "duplicate_in_file", "Eve"),
        ("7", "missing_address", "Finn"),
        ("8", "bad_time_zone", "Gus"),
        ("9", "invalid_field", "Hal"),
    ]
    mended = rejects.text.replace("tin", "gold").replace("Mars/Base", "UTC")
    second = await contacts.import_(mended + '7;missing_address;"Ivy;+12025550160\n7\n')
    assert (second["created"], second["updated"]) == (2, 1)  # Eve has Ada's number
    left = await contacts.api.get(f"/v1/imports/{second['import_id']}/rejects")
    again, *rows = csv.reader(io.StringIO(left.text), delimiter=";")
    assert again == header  # with what is wrong now, and no longer what was
    assert [(row[1], row[3:4], len(row)) for row in rows] == [
        ("bad_phone", ["Cleo"], len(header)),
        ("bad_email", ["Dan"], len(header)),
        ("missing_address", ["Finn"], len(header)),
        ("broken_row", ['7;missing_address;"Ivy;+12025550160'], 4),
        ("missing_address", [], 3),
    ]

    (ben,) = (await contacts.api.get("/v1/contacts", params={"opted_out": "do-not-sms"})).json()["items"]
    assert (ben["first_name"], ben["preferences"]["do-not-sms"]["source"]) == ("Ben", "import")
    (row,) = (await contacts.api.get(f"/v1/contacts/{ben['contact_id']}/consent")).json()["items"]
    assert (row["source"], row["opted_out"], row["applied"]) == ("import", True, True)


async def test_the_same_file_again_changes_nothing(contacts: Running) -> None:
    first = await contacts.import_(numbered(250))
    assert (first["created"], first["rejected"]) == (250, {})
    before = await everything(contacts)
    again = await contacts.import_(numbered(250))
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 250)
    assert await everything(contacts) == before
    await settled(contacts.service)
    announced = await contacts.wire.messages(ContactChanged)
    assert {message.contact_id: message.version for message in announced} == before
    assert len(announced) == 250
    left = [
        await contacts.service.mongo[name].count_documents({}) for name in ("import_chunks", "import_seen")
    ]
    assert left == [0, 0]


async def test_a_refused_file_leaves_everything_as_it_was(contacts: Running) -> None:
    cases: list[tuple[bytes, str]] = [
        ("phone,first_name\n+12025550143,Zoë\n".encode("cp1252"), "line 2 has the byte 0xEB, "[:-2]),
        (b"phone,shoe size\n+12025550143,43\n", "shoe size"),
        (b"", "is empty"),
        (numbered(30_000).encode() + b"\xff", "is not UTF-8"),
    ]
    for body, says in cases:
        answer = await contacts.send(body)
        assert answer.status_code == 422, answer.text
        assert says in answer.json()["detail"]
    for query, says in (({"default_region": "Nowhere"}, "ISO 3166"), ({"contact_type": "company"}, "person")):
        answer = await contacts.send("phone\n", **query)
        assert (answer.status_code, says in answer.text) == (422, True)
    form = await contacts.api.post("/v1/imports?contact_type=person", files={"file": b"phone\n"})
    assert form.status_code == 415
    for name in ("contacts", "imports", "import_chunks", "import_rejects"):
        assert await contacts.service.mongo[name].count_documents({}) == 0


async def test_the_same_idempotency_key_imports_once(contacts: Running) -> None:
    key = {"Idempotency-Key": "k-1", "Content-Type": "text/csv"}
    url = "/v1/imports?contact_type=person"
    answers = [await contacts.api.post(url, content=b"phone\n+12025550143\n", headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len((await contacts.api.get("/v1/imports")).json()["items"]) == 1


@pytest.mark.parametrize("hours", [0, 25])
async def test_a_key_that_was_used_for_another_file_is_refused_however_long_ago(
    contacts: Running, hours: int
) -> None:
    key = {"Idempotency-Key": "nightly", "Content-Type": "text/csv"}
    url = "/v1/imports?contact_type=person"
    first = await contacts.api.post(url, content=b"phone\n+12025550143\n", headers=key)
    await contacts.finished(first.json()["import_id"])
    if hours > 24:
        await contacts.service.mongo["idempotency_keys"].delete_many({})
    other = await contacts.api.post(url, content=b"phone\n+12025550144\n", headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:parley:problem:idempotency-key-reused"
    same = await contacts.api.post(url, content=b"phone\n+12025550143\n", headers=key)
    assert (same.status_code, same.json()) == (202, first.json())


@pytest.mark.parametrize("first_ends", ["whole", "cut off"])
async def test_a_second_upload_under_a_key_keeps_out_of_the_one_that_still_hangs(
    contacts: Running, first_ends: str
) -> None:
    body = numbered(200).encode() + b"\n" * 600_000
    half = len(body) // 2
    chunks = contacts.service.mongo["import_chunks"]

    async def kept(count: int) -> bool:
        found: int = await chunks.count_documents({})
        return found == count

    async def begin() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", contacts.service.port)
        head = (
            "POST /v1/imports?contact_type=person HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
            f"Idempotency-Key: slow-line\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body[:half])
        await writer.drain()
        return reader, writer

    first = await begin()
    await eventually(partial(kept, half // (256 * 1024)), "the first half of the first")
    # As it is taken over after a minute.
    await contacts.service.mongo["idempotency_keys"].delete_many({})
    second = await begin()
    await eventually(partial(kept, half // (256 * 1024) * 2), "the first half of the second")
    if first_ends == "whole":
        first[1].write(body[half:])
        assert b" 202 " in await first[0].readline()
    else:
        first[1].transport.abort()
        await eventually(partial(kept, half // (256 * 1024)), "the first to be forgotten")
    second[1].write(body[half:])
    assert b" 202 " in await second[0].readline()
    (listed,) = (await contacts.api.get("/v1/imports")).json()["items"]
    done = await contacts.finished(listed["import_id"])
    assert (done["rows"], done["created"]) == (200, 200)
    await eventually(partial(kept, 0), "the file to be swept")


async def test_an_upload_of_an_earlier_version_that_was_killed_is_in_nobodys_way(
    engines: Engines, namespace: str
) -> None:
    """Its index forbade a second upload, and its chunks lie there until they are a day old."""
    async with running(build, Settings, engines, namespace) as service:
        chunks = service.mongo["import_chunks"]
        await chunks.drop_indexes()
        await chunks.create_index([("import_id", 1), ("number", 1)], unique=True)
    async with (
        running(build, Settings, engines, namespace) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as api,
    ):
        assert "import_id_1_number_1" not in await service.mongo["import_chunks"].index_information()
        await api.post("/v1/contact-types", json=PERSON)
        key = {"Idempotency-Key": "nightly", "Content-Type": "text/csv"}
        url = "/v1/imports?contact_type=person"
        first = await api.post(url, content=b"phone\n+12025550143\n", headers=key)
        import_id = first.json()["import_id"]

        async def finished() -> bool:
            return bool((await api.get(f"/v1/imports/{import_id}")).json()["state"] == "finished")

        await eventually(finished, "the import, whose own pieces go then")
        imports = MongoImports(service.mongo, Store(service.mongo, "imports", Import, "import_id"))
        long_ago, now = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)
        for number in (0, 3):
            await imports.add_chunk(import_id, "killed", number, b"phone\n", long_ago)
        await imports.add_chunk(import_id, "on its way", 0, b"phone\n", now)
        assert await imports.forget_abandoned(now - timedelta(days=1)) == 1
        kept = await service.mongo["import_chunks"].distinct("upload_id", {"import_id": import_id})
        assert {"killed", "on its way"} & set(kept) == {"on its way"}


@pytest.mark.usefixtures("failpoints")
async def test_a_fault_in_the_middle_neither_loses_nor_repeats_a_row(contacts: Running) -> None:
    places = ("import_batch", "before_transaction", "before_commit", "after_transaction", "import_finished")
    for turn, place in enumerate(places, 1):
        FAILPOINTS.disarm()
        FAILPOINTS.arm(f"contacts.{place}=error@{1 if place == 'import_finished' else 3}")
        done = await contacts.import_(numbered(400, first=turn * 1_000))
        await failed_where_told()
        assert (done["rows"], done["created"], done["rejected"]) == (400, 400, {})
        assert list((await everything(contacts)).values()) == [1] * 400 * turn
    assert await contacts.service.mongo["consent_ledger"].count_documents({}) == 40 * len(places)


async def rows_done(api: httpx.AsyncClient, import_id: str) -> int:
    rows: int = (await api.get(f"/v1/imports/{import_id}")).json()["rows"]
    return rows


async def test_a_stopped_service_goes_on_with_the_import_when_it_is_back(
    engines: Engines, namespace: str
) -> None:
    wire = Wire(engines, namespace)
    import_id = ""
    for start in range(2):
        async with (
            running(build, Settings, engines, namespace, contacts_import_batch=10) as service,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as api,
        ):
            contacts = Running(service, api, wire)
            if start == 0:
                await api.post("/v1/contact-types", json=PERSON)
                import_id = (await contacts.send(numbered(200))).json()["import_id"]
                await eventually(partial(rows_done, api, import_id), "the first rows")
                continue
            done = await contacts.finished(import_id)
            assert done["rows"] == done["created"] == 200
            assert set((await everything(contacts)).values()) == {1}
            await settled(service)
            assert len(await wire.messages(ContactChanged)) == 200
    await wire.close()
