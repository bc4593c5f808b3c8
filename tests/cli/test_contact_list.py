"""The demo's list: only numbers that belong to nobody, and exactly the faults it says it has."""

import csv
import re
from collections import Counter
from pathlib import Path

import phonenumbers
import pytest

from cli.demo.contact_list import COLUMNS, write_contact_list
from cli.demo.numbers import MOST, numbers

RESERVED = re.compile(
    r"\+1[2-9]\d{2}55501\d{2}"
    r"|\+447700900\d{3}"
    r"|\+493023125\d{3}"
    r"|\+61491570(006|156|157|158|159|737)"
    r"|\+336399800\d{2}"
)


@pytest.mark.parametrize("count", [1, 100, 10_000, MOST])
def test_every_number_is_reserved_for_fiction_and_there_once(count: int) -> None:
    found = numbers(count)
    assert len(found) == count
    assert len({number.e164 for number in found}) == count
    assert not [number.e164 for number in found if not RESERVED.fullmatch(number.e164)]


def test_several_countries_and_zones_take_part() -> None:
    found = numbers(10_000)
    assert len({number.country for number in found}) == 5
    assert len({number.zone for number in found}) >= 15


def test_every_area_code_exists() -> None:
    found = [number for number in numbers(10_000) if number.country == "North America"]
    assert all(phonenumbers.is_valid_number(phonenumbers.parse(number.e164)) for number in found)


def test_the_same_seed_gives_the_same_list(tmp_path: Path) -> None:
    one, other, different = tmp_path / "1.csv", tmp_path / "2.csv", tmp_path / "3.csv"
    assert write_contact_list(one, 500, 7).rejected == write_contact_list(other, 500, 7).rejected
    write_contact_list(different, 500, 8)
    assert one.read_bytes() == other.read_bytes() != different.read_bytes()


def test_the_faults_are_those_that_are_counted(tmp_path: Path) -> None:
    made = write_contact_list(tmp_path / "list.csv", 5000, 1)
    with made.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ids = Counter(row["external_id"] for row in rows)
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == made.rows == 5000
    assert sum(count - 1 for count in ids.values()) == made.rejected["duplicate_in_file"]
    assert sum(row["time_zone"] == "Atlantis/Capital" for row in rows) == made.rejected["bad_time_zone"]
    assert sum(row["renewal_month"] == "soon" for row in rows) == made.rejected["invalid_field"]
    assert made.good + made.rejected.total() == made.rows
    assert all(made.rejected.values())
    assert len(made.rejected) == 4
    assert made.opted_out > 50
    assert made.without_zone > 30
