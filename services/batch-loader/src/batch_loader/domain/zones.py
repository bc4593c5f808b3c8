"""One time zone has several names: a contact's `US/Eastern` is who asks for `America/New_York`.

Names that tzdata links to another are that one's former names, unless its zone.tab lists them as a place of
their own: Europe/Amsterdam has the clock of Europe/Brussels, and who asks for Brussels does not mean it.
The links do not say of which of several places with one clock a name was: that stands here.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from importlib.resources import files

_TZDATA = files("tzdata") / "zoneinfo"
_FORMERLY = {
    "Africa/Asmera": "Africa/Asmara",
    "Africa/Timbuktu": "Africa/Bamako",
    "America/Coral_Harbour": "America/Atikokan",
    "America/Virgin": "America/St_Thomas",
    "Antarctica/South_Pole": "Antarctica/McMurdo",
    "Atlantic/Jan_Mayen": "Arctic/Longyearbyen",
    "Iceland": "Atlantic/Reykjavik",
    "Pacific/Ponape": "Pacific/Pohnpei",
    "Pacific/Truk": "Pacific/Chuuk",
    "Pacific/Yap": "Pacific/Chuuk",
}
"""Former names whose place has the clock of another now; tzdata's `backward` says it in comments."""
_NOWHERE = frozenset(
    ("CET", "CST6CDT", "EET", "EST", "EST5EDT", "HST", "MET", "MST", "MST7MDT", "PST8PDT", "WET")
)
"""Clocks of many places: EST is linked to Panama, and hardly anybody who has it lives there."""


def names_of(zone: str) -> frozenset[str]:
    """All IANA names of a zone, the given one among them."""
    of_place, place_of = _names()
    return of_place[place_of[zone]] if zone in place_of else frozenset({zone})


@cache
def _names() -> tuple[dict[str, frozenset[str]], dict[str, str]]:
    places = {row[2] for row in _rows("zone.tab")}
    links = ((target, name) for kind, target, name, *_ in _rows("tzdata.zi") if kind == "L")
    place_of = {name: _FORMERLY.get(name, target) for target, name in links if name not in places | _NOWHERE}
    place_of |= {target: target for target in place_of.values()}
    of_place: defaultdict[str, set[str]] = defaultdict(set)
    for name, place in place_of.items():
        of_place[place].add(name)
    return {place: frozenset(names) for place, names in of_place.items()}, place_of


def _rows(file: str) -> list[list[str]]:
    lines = (_TZDATA / file).read_text(encoding="utf-8").splitlines()
    return [row for line in lines if not line.startswith("#") and len(row := line.split()) >= 3]
