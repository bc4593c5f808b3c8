"""The shipped providers pass the suite that third parties run, and the rules for choosing hold."""

from __future__ import annotations

import pytest

from contracts.channel_sms import Addresses, InteractionRecorded
from servicekit.settings import BadSettings
from stats.direction_provider import BadProvider, TargetView, choose
from stats.direction_provider_contract import DirectionProviderContract
from stats.direction_providers import SHIPPED, CallDirection, EmailDirection, MeetingDirection, SmsDirection
from stats.settings import Settings
from tests.stats.samples import interaction


def mail(**between: object) -> InteractionRecorded:
    return interaction(
        "dana",
        interaction_type="email",
        direction=None,
        occurred_at=None,
        addresses=Addresses.model_validate(between),
    )


def text(**between: object) -> InteractionRecorded:
    return interaction("dana", direction=None, occurred_at=None, addresses=Addresses.model_validate(between))


class TestEmailDirection(DirectionProviderContract):
    provider = EmailDirection()
    target = TargetView("contact", "dana", frozenset({"dana@example.com", "d.whitfield@example.org"}))
    incoming = (
        mail(sender='"Dana, at home" <D.Whitfield@Example.ORG>', to=["us@example.net"]),
        mail(sender="DANA@example.com", to=["dana@example.com"]),
    )
    outgoing = (
        mail(sender="us@example.net", to=["Dana <dana@EXAMPLE.com>"]),
        mail(sender="us@example.net", to=["x@example.net"], cc=["dana@example.com"]),
        mail(sender="us@example.net", bcc=["d.whitfield@example.org"]),
    )
    unknown = (
        mail(sender="us@example.net", to=["notdana@example.com"]),
        mail(),
        interaction("dana", interaction_type="email", direction=None, occurred_at=None),
    )


class TestSmsDirection(DirectionProviderContract):
    provider = SmsDirection()
    target = TargetView("contact", "dana", frozenset({"+12025550123"}))
    incoming = (
        interaction("dana", direction=None, addresses=Addresses(sender="+12025550123", to=("+12025550100",))),
        interaction("dana", direction="incoming"),
        text(sender="+1 (202) 555-0123", to=["+12025550100"]),
        text(sender="tel:+1-202-555-0123"),
    )
    outgoing = (
        text(sender="PARLEY", to=["+1 202.555.0123"]),
        interaction("dana", direction=None, addresses=Addresses(sender="+12025550100", to=("+12025550123",))),
    )
    unknown = (
        interaction("dana", direction=None),
        text(sender="+1 202 555 0124", to=["12025550123 ext 4"]),
    )


class TestCallDirection(DirectionProviderContract):
    provider = CallDirection()
    incoming = (interaction("dana", interaction_type="call", direction="incoming"),)
    outgoing = (interaction("dana", interaction_type="call", direction="outgoing"),)
    unknown = (interaction("dana", interaction_type="call", direction=None),)


class TestMeetingDirection(DirectionProviderContract):
    provider = MeetingDirection()
    outgoing = (interaction("dana", interaction_type="meeting", direction="outgoing"),)
    unknown = (interaction("dana", interaction_type="meeting", direction=None),)


class Louder(CallDirection):
    priority = 5


def test_the_highest_priority_wins() -> None:
    louder = Louder()
    assert choose([*SHIPPED, louder])["call"] is louder
    assert choose([louder, *SHIPPED])["call"] is louder


def test_two_of_equal_priority_are_refused() -> None:
    with pytest.raises(BadProvider, match="two direction providers for 'call' have priority 0"):
        choose([*SHIPPED, CallDirection()])


def test_something_that_is_no_provider_is_refused() -> None:
    with pytest.raises(BadProvider, match="names no interaction type"):
        choose([object()])


def test_a_type_without_a_provider_is_refused_at_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_STATS_INTERACTION_TYPES", "call,telegram")
    with pytest.raises(BadSettings, match="no installed package has a direction provider for telegram"):
        Settings.from_environment()
