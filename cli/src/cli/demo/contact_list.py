"""A made-up contact list as somebody would export it: mostly good, a little dirty."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cli.demo.numbers import Number, numbers

COLUMNS = (
    "external_id",
    "first_name",
    "last_name",
    "phone",
    "email",
    "time_zone",
    "opted_out",
    "plan",
    "segment",
    "renewal_month",
)
KEY_ACCOUNTS = "key-account"
STANDARD = "standard"

_FIRST = (
    "Ada Ben Cleo Dan Edda Finn Grace Hugo Iris Jonas Kim Lena Milo Nora Otto Pia Quin Rosa Sam Tess Uma Vic"
)
_LAST = "Ashby Berger Castell Dufour Emmett Fichte Garnier Holt Ingram Jansen Keller Lund Moreau Novak Ortiz"
_PLANS = ("basic", "plus", "family")
_MANGLED = ("12345", "call reception", "+1 212 555", "+999 123 4567", "++1 2125550142", "+1 (112) 555-0142")


@dataclass
class Made:
    """What is in the list, by what was done to it on purpose."""

    path: Path
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that no careful importer takes, by what is wrong with them."""
    opted_out: int = 0
    without_zone: int = 0
    countries: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> int:
        return self.rows - self.rejected.total()


def write_contact_list(path: Path, rows: int, seed: int) -> Made:
    """The same rows for the same seed, as a CSV file."""
    made = Made(path)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in _rows(made, rows, random.Random(seed)):
            writer.writerow(row)
            made.rows += 1
    return made


def _rows(made: Made, count: int, chance: random.Random) -> Iterator[dict[str, str]]:
    people = numbers(count)
    chance.shuffle(people)
    taken: list[dict[str, str]] = []
    for position, number in enumerate(people, 1):
        row = _person(position, number, chance)
        draw = chance.random()
        if draw < 0.02:
            made.rejected["bad_phone"] += 1
            row["phone"] = chance.choice(_MANGLED)
        elif draw < 0.035 and taken:
            made.rejected["duplicate_in_file"] += 1
            row = chance.choice(taken)
        elif draw < 0.04:
            made.rejected["bad_time_zone"] += 1
            row["time_zone"] = "Atlantis/Capital"
        elif draw < 0.045:
            made.rejected["invalid_field"] += 1
            row["renewal_month"] = "soon"
        else:
            _lightly_soiled(row, draw, made)
            made.countries[number.country] += 1
            taken.append(row)
        yield row


def _lightly_soiled(row: dict[str, str], draw: float, made: Made) -> None:
    """Rows that are taken as they are, and matter later."""
    if draw < 0.065:
        row["opted_out"] = "yes"
        made.opted_out += 1
    elif draw < 0.08:
        row["time_zone"] = ""
        made.without_zone += 1


def _person(position: int, number: Number, chance: random.Random) -> dict[str, str]:
    first, last = chance.choice(_FIRST.split()), chance.choice(_LAST.split())
    return {
        "external_id": f"C-{position:06}",
        "first_name": first,
        "last_name": last,
        "phone": _as_people_write_it(number.e164, chance),
        "email": f"{first}.{last}.{position}@example.com".lower(),
        "time_zone": number.zone,
        "opted_out": "",
        "plan": chance.choice(_PLANS),
        "segment": KEY_ACCOUNTS if chance.random() < 0.03 else STANDARD,
        "renewal_month": str(chance.randint(1, 12)),
    }


def _as_people_write_it(e164: str, chance: random.Random) -> str:
    """E.164, and in North America also the ways people type."""
    if not e164.startswith("+1"):
        return e164
    area, exchange, line = e164[2:5], e164[5:8], e164[8:]
    return chance.choice((e164, e164, f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}"))
