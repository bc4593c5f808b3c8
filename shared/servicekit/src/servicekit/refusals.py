"""What use cases refuse in every service alike. What is a service's own it names itself."""

from __future__ import annotations

from servicekit.verdict import Versioned


class NotFound(LookupError):
    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(f"There is no {kind} with id {id_!r}.")
        self.kind = kind
        self.id = id_


class VersionMoved(Exception):
    """The version that the caller saw is no longer the one that stands."""

    def __init__(self, expected: int, standing: int | None) -> None:
        stands = "there is none" if standing is None else f"it has version {standing} by now"
        super().__init__(f"You have version {expected}, and {stands}: read it again.")


class StandsAlready(Exception):
    """The caller would only make what is not there."""

    def __init__(self) -> None:
        super().__init__("Something stands there, and If-None-Match: * overwrites nothing.")


class TooLargeToAnnounce(Exception):
    """A row that can never leave would hold back all that its key says after it, so it is not written."""

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(
            f"What would be announced of it has {size:,} bytes, and a record's body at most {largest:,}."
        )


NO_VERSION = -1
"""Expected by a caller who would only make what is not there. No version is a negative number."""


def expect_none_if_asked(expected: int | None, *, stands: bool) -> None:
    """What stands is not made by who says the same of it either: to be asked whatever changes. Raises
    StandsAlready."""
    if expected == NO_VERSION and stands:
        raise StandsAlready


def expect_version(expected: int | None, state: Versioned | None) -> None:
    """expected: null for a caller who does not mind. Raises VersionMoved, StandsAlready."""
    expect_none_if_asked(expected, stands=state is not None)
    standing = None if state is None else state.version
    if expected not in (None, NO_VERSION, standing):
        raise VersionMoved(expected, standing)
