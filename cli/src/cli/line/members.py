"""Who belongs to the line."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cli.exits import WrongConfiguration, WrongUsage

CARRIER = "carrier"


@dataclass(frozen=True)
class Member:
    """One process of the line, by folder name."""

    name: str
    port: int
    """Where it listens when nobody says otherwise."""
    ports_of_compose: range | None = None
    """What docker-compose.yml publishes where each replica needs a port of its own."""

    @property
    def program(self) -> str:
        return f"parley-{self.name}"

    @property
    def instance(self) -> str:
        """The same after a restart, so that the broker and the leases know it again."""
        return f"{self.name}-0"

    def command(self) -> list[str]:
        beside = Path(sys.executable).with_name(self.program)
        found = str(beside) if beside.is_file() else shutil.which(self.program)
        if found is None:
            raise WrongConfiguration(f"The program {self.program} is not installed; run: make install")
        return [found]


MEMBERS = (
    Member(CARRIER, 8110),
    Member("contacts", 8101),
    Member("campaigns", 8102),
    Member("batch-loader", 8103),
    Member("activities", 8104),
    Member("workflow", 8105),
    Member("channel-sms", 8106, range(8120, 8140)),
    Member("stats", 8107),
)
"""In starting order; stopping goes the other way round."""

SERVICES = tuple(member.name for member in MEMBERS if member.name != CARRIER)


def chosen(only: str | None) -> tuple[Member, ...]:
    """The members named in a comma-separated list, or all."""
    if not only:
        return MEMBERS
    names = {name.strip() for name in only.split(",") if name.strip()}
    known = {member.name for member in MEMBERS}
    if unknown := sorted(names - known):
        raise WrongUsage(f"There is no service {unknown[0]!r}; there are {', '.join(sorted(known))}.")
    return tuple(member for member in MEMBERS if member.name in names)
