"""The providers that ship with Parley."""

from stats.direction_provider import DirectionProvider
from stats.direction_providers.addressed import EmailDirection, SmsDirection
from stats.direction_providers.stated import CallDirection, MeetingDirection

SHIPPED: tuple[DirectionProvider, ...] = (
    CallDirection(),
    EmailDirection(),
    SmsDirection(),
    MeetingDirection(),
)

__all__ = ["SHIPPED", "CallDirection", "EmailDirection", "MeetingDirection", "SmsDirection"]
