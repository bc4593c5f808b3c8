"""IANA time zones by name, whatever the case they are written in."""

from zoneinfo import available_timezones

_NAMES = {name.lower(): name for name in available_timezones() - {"Factory", "localtime"}}


class BadTimeZone(ValueError):
    pass


def canonical(name: str) -> str:
    try:
        return _NAMES[name.strip().lower()]
    except KeyError:
        raise BadTimeZone("must be an IANA name such as America/New_York or Europe/Berlin") from None
