from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.domain.contact import Contact, Reason, erased
from contacts.domain.contact_type import ContactType
from contacts.domain.import_columns import read_header
from contacts.domain.importing import Candidate, Import, Imported, Outcome, Rejected, read, take
from contracts.vocabulary import PreferenceKind
from tests.contacts.conftest import PERSON

TYPE = ContactType(version=1, **PERSON)
ZONED = TYPE.model_copy(update={"time_zone_required": True})
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
HEADER = ("First Name", "Mobile", "E-Mail", "zone", "Opted-Out", "plan", "age", "member")


def outcome(
    *cells: str, standing: Contact | None = None, type_: ContactType = TYPE, at: datetime = NOW
) -> Outcome:
    row = read(2, cells, read_header(HEADER, type_), type_, "US")
    return row if isinstance(row, Rejected) else take(row, row.key.own_id(), standing, type_, "import-1", at)


def taken(*cells: str, standing: Contact | None = None) -> Contact:
    done = outcome(*cells, standing=standing)
    assert isinstance(done, Imported), done
    return done.contact


def test_cells_become_what_the_schema_says() -> None:
    contact = taken("Ada", "(202) 555-0143", "Ada@Example.ORG", "america/new_york", "", "gold", "36", "yes")
    assert contact.fields == {"plan": "gold", "age": 36, "member": True}
    assert contact.time_zone == "America/New_York"
    assert contact.emails == ("ada@example.org",)
    assert contact.phones[0].number == "+12025550143"


@pytest.mark.parametrize(
    ("cells", "reason", "column"),
    [
        (("Ada", "555", "", "", "", "", ""), Reason.BAD_PHONE, "Mobile: "),
        (("Ada", "", "nonsense", "", "", "", ""), Reason.BAD_EMAIL, "E-Mail: "),
        (("Ada", "", "", "", "", "", ""), Reason.MISSING_ADDRESS, ""),
        (("Ada", "2025550143", "", "Mars/Base", "", "", ""), Reason.BAD_TIME_ZONE, "zone: "),
        (("Ada", "2025550143", "", "", "maybe", "", ""), Reason.INVALID_FIELD, "Opted-Out: "),
        (("Ada", "2025550143", "", "", "", "silver", ""), Reason.INVALID_FIELD, "plan: "),
        (("Ada", "2025550143", "", "", "", "", "old"), Reason.INVALID_FIELD, "age: "),
        (("Ada", "2025550143", "", "", "", "", "-1"), Reason.INVALID_FIELD, "age: "),
        (("Ada", "2025550143", "", "", "", "", "", "", "surplus"), Reason.BROKEN_ROW, ""),
    ],
)
def test_a_row_is_rejected_for_one_reason_that_names_its_column_and_does_not_repeat_it(
    cells: tuple[str, ...], reason: Reason, column: str
) -> None:
    done = outcome(*cells)
    assert isinstance(done, Rejected)
    assert done.fault.reason is reason
    assert done.fault.what.startswith(column)
    assert len(done.fault.what) > len(column)
    assert done.cells == cells


def test_a_type_that_needs_a_zone_takes_no_row_without_one() -> None:
    done = outcome("Ada", "2025550143", "", "", type_=ZONED)
    assert isinstance(done, Rejected)
    assert done.fault.reason is Reason.MISSING_TIME_ZONE


def test_a_zone_that_the_contact_has_already_is_enough() -> None:
    standing = taken("Ada", "2025550143", "", "Europe/Berlin")
    done = outcome("Ada", "2025550143", "", "", standing=standing, type_=ZONED)
    assert isinstance(done, Imported)


def test_empty_cells_clear_nothing() -> None:
    standing = taken("Ada", "2025550143", "ada@example.org", "Europe/Berlin", "", "gold", "36", "yes")
    assert outcome("", "2025550143", standing=standing) == Imported(standing, "unchanged")


def test_a_new_number_comes_first_and_the_old_one_stays() -> None:
    standing = taken("Ada", "2025550143")
    numbers = [phone.number for phone in taken("Ada", "2025550199", standing=standing).phones]
    assert numbers == ["+12025550199", "+12025550143"]


def test_an_import_opts_out_and_never_in() -> None:
    out = outcome("Ada", "2025550143", "", "", "yes")
    assert isinstance(out, Imported)
    assert out.contact.preferences[PreferenceKind.DO_NOT_SMS].source == "import"
    assert len(out.ledger) == 1
    again = outcome("Ada", "2025550143", "", "", "no", standing=out.contact, at=NOW + timedelta(days=1))
    assert again == Imported(out.contact, "unchanged")


def test_an_erased_contact_stays_erased() -> None:
    gone = erased(taken("Ada", "2025550143"), NOW)
    done = outcome("Ada", "2025550143", standing=gone)
    assert isinstance(done, Rejected)
    assert done.fault.reason is Reason.ERASED


def test_a_file_adds_no_more_addresses_than_a_contact_may_have() -> None:
    standing = taken("Ada", "2025550100", "", "", "", "", "")
    for number in range(101, 120):
        standing = taken("Ada", f"2025550{number}", "", "", "", "", "", standing=standing)
    assert len(standing.phones) == 20
    more = outcome("Ada", "2025550199", "", "", "", "", "", standing=standing)
    assert isinstance(more, Rejected)
    assert more.fault.reason is Reason.BAD_PHONE
    assert "at most 20" in str(more.fault)


rows = st.tuples(
    st.sampled_from(["", "Ada", "Zoë"]),
    st.sampled_from(["", "2025550143", "202-555-0199", "+447700900123", "12", "x"]),
    st.sampled_from(["", "a@example.org", "A@EXAMPLE.org", "@"]),
    st.sampled_from(["", "Europe/Berlin", "utc", "Nowhere"]),
    st.sampled_from(["", "yes", "no", "?"]),
    st.sampled_from(["", "gold", "tin"]),
    st.sampled_from(["", "7", "1e999", "99999999999999999999"]),
)


@given(st.lists(rows, max_size=12), st.lists(rows, max_size=4))
def test_the_sums_hold_and_the_same_file_again_changes_nothing(
    file: list[tuple[str, ...]], more: list[tuple[str, ...]]
) -> None:
    contacts: dict[str, Contact] = {}
    columns = read_header(HEADER, TYPE)

    def work(lines: list[tuple[str, ...]], import_id: str) -> Import:
        progress = Import(
            import_id=import_id, version=1, name="", contact_type="person", bucket=0, received_at=NOW
        )
        outcomes: list[Outcome] = []
        seen: set[str] = set()
        for number, cells in enumerate(lines, 2):
            row = read(number, cells, columns, TYPE, "US")
            if isinstance(row, Candidate) and (own_id := row.key.own_id()) not in seen:
                done = take(row, own_id, contacts.get(own_id), TYPE, import_id, NOW)
                outcomes.append(done)
                if isinstance(done, Imported):
                    seen.add(own_id)
                    contacts[own_id] = done.contact
            elif isinstance(row, Rejected):
                outcomes.append(row)
        return progress.advanced(outcomes, len(lines) + 1)

    for import_id, lines in (("one", file), ("two", more)):
        first = work(lines, import_id)
        assert first.rows == first.imported + sum(first.rejected.values())
        before = dict(contacts)
        again = work(lines, f"{import_id} again")
        assert (again.created, again.updated) == (0, 0)
        assert again.unchanged == first.imported
        assert contacts == before
