"""The viewer's time zone."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Depends, Query

from servicekit.problems import Problem


def zone_of(
    zone: Annotated[str, Query(description="IANA name of the viewer's time zone", max_length=64)] = "UTC",
) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Problem(
            422,
            "unknown-zone",
            "No such time zone",
            f"{zone!r} is not an IANA time zone name such as Europe/Berlin.",
        ) from None


Zone = Annotated[ZoneInfo, Depends(zone_of)]
