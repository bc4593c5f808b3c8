"""The policy gate: who may be contacted now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.domain.activity import Activity
from activities.domain.catalog import Catalog, Contact
from activities.domain.contact_window import is_inside, zone_named
from activities.domain.gate import PATIENCE, Allow, Defer, Deny, Ruling, case_of, judge
from contracts.contacts import Phone
from contracts.reasons import Objection
from contracts.vocabulary import CampaignState, Lifecycle, PhoneType, PreferenceKind, Source
from tests.activities.builders import (
    ENDPOINT,
    NOON,
    POLICY,
    activity,
    campaign,
    catalog,
    contact,
    known,
    opted_out,
)

NIGHT = NOON + timedelta(hours=12)


def ruling(
    known: Contact | None = None,
    *,
    of: Activity | None = None,
    under: Catalog | None = None,
    now: datetime = NOON,
) -> Ruling:
    return judge(case_of(of or activity(), known or contact(), under or catalog(), now))


def test_a_contact_by_day_is_allowed() -> None:
    allowed = ruling()
    assert isinstance(allowed, Allow)
    assert (allowed.endpoint_id, allowed.destination) == ("endpoint-1", "+12125550123")
    assert allowed.inputs["local_time"] == "2026-03-04T12:00-05:00"
    assert allowed.not_after == NOON + timedelta(hours=9)


@pytest.mark.parametrize(
    ("changes", "reason", "holds"),
    [
        ({"campaign": None}, "campaign_unknown", "campaign-1"),
        ({"campaign": campaign(state="draft")}, "campaign_draft", "campaign-1"),
        ({"campaign": campaign(state="paused")}, "campaign_paused", "campaign-1"),
        ({"campaign": campaign(starts_at=NOON + timedelta(1))}, "campaign_not_started", "campaign-1"),
        ({"subject": None}, "subject_unknown", "subject-1"),
        ({"endpoint": None}, "endpoint_unknown", "endpoint-1"),
        ({"endpoint": ENDPOINT.evolve(enabled=False)}, "endpoint_disabled", "endpoint-1"),
        ({"policy": None}, "policy_unknown", "policy-1"),
    ],
)
def test_what_the_catalogue_may_still_bring_is_waited_for(
    changes: dict[str, Any], reason: str, holds: str
) -> None:
    under = catalog(**changes)
    deferred = ruling(under=under, now=NIGHT if reason == "policy_unknown" else NOON)
    assert isinstance(deferred, Defer)
    assert (deferred.reason, deferred.hold, deferred.until) == (reason, holds, None)
    assert holds not in under.holding_nothing(NOON)
    assert holds in catalog().holding_nothing(NOON)


@pytest.mark.parametrize(
    ("known", "changes", "reason"),
    [
        (contact(), {"campaign": campaign(state="stopped")}, "campaign_stopped"),
        (contact(), {"campaign": campaign(ends_at=NOON)}, "campaign_ended"),
        (contact(), {"campaign": campaign(state="paused", ends_at=NOON)}, "campaign_ended"),
        (Contact("contact-1", 9, erased=True), {}, "contact_erased"),
        (Contact("contact-1", 9, erased=True), {"campaign": campaign(state="paused")}, "contact_erased"),
        (contact(lifecycle=Lifecycle.DRAFT), {}, "contact_is_draft"),
        (known(opted_out()), {}, "opted_out"),
        (contact(), {"campaign": campaign(endpoint_id=None)}, "no_endpoint"),
        (contact(), {"endpoint": ENDPOINT.evolve(channel="voice")}, "endpoint_of_another_channel"),
        (contact(phones=()), {}, "no_address"),
        (contact(phones=(Phone(number="+12125550123", type=PhoneType.FAX),)), {}, "no_address"),
    ],
)
def test_what_will_not_change_is_denied(known: Contact, changes: dict[str, Any], reason: str) -> None:
    denied = ruling(known, under=catalog(**changes))
    assert isinstance(denied, Deny)
    assert denied.reason == reason


def test_a_contact_nobody_knows_is_asked_for_less_and_less_often_and_denied_in_the_end() -> None:
    waits = []
    for deferrals in range(PATIENCE):
        deferred = judge(case_of(activity(deferrals=deferrals), None, catalog(), NOON))
        assert isinstance(deferred, Defer)
        assert deferred.until is not None
        assert deferred.awaits_contact
        waits.append(deferred.until - NOON)
    assert waits[0] == timedelta(seconds=2)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(hours=1)
    assert judge(case_of(activity(deferrals=PATIENCE), None, catalog(), NOON)) == Deny(
        Objection.CONTACT_UNKNOWN, inputs=judge(case_of(activity(), None, catalog(), NOON)).inputs
    )


def test_an_unknown_zone_is_never_sent_to_when_no_time_is_safe_everywhere() -> None:
    for hour in range(24):
        now = NOON + timedelta(hours=hour)
        deferred = ruling(contact(time_zone=None), now=now)
        assert isinstance(deferred, Defer)
        assert (deferred.reason, deferred.until) == ("unknown_zone", now + timedelta(hours=1))


def test_an_unknown_zone_is_sent_to_when_every_possible_zone_is_inside() -> None:
    zones = ("America/New_York", "America/Los_Angeles")
    under = catalog(policy=POLICY.evolve(unknown_zone_zones=zones))
    assert isinstance(ruling(contact(time_zone=None), under=under, now=NOON), Allow)
    early = NOON - timedelta(hours=3)
    deferred = ruling(contact(time_zone="Nowhere/Land"), under=under, now=early)
    assert isinstance(deferred, Defer)
    assert deferred.until is not None
    assert timedelta(hours=2) <= deferred.until - early < timedelta(hours=2, minutes=10)


def test_the_hours_of_an_unknown_zone_end_where_they_end_first() -> None:
    for zones in (("America/New_York", "America/Los_Angeles"), ("America/Los_Angeles", "America/New_York")):
        under = catalog(policy=POLICY.evolve(unknown_zone_zones=zones))
        allowed = ruling(contact(time_zone=None), under=under, now=NOON)
        assert isinstance(allowed, Allow)
        assert allowed.not_after == NOON + timedelta(hours=9)


def test_a_listed_zone_that_nobody_knows_makes_no_time_safe() -> None:
    under = catalog(policy=POLICY.evolve(unknown_zone_zones=("America/New_York", "Mars/Base")))
    for hour in range(24):
        now = NOON + timedelta(hours=hour)
        deferred = ruling(contact(time_zone=None), under=under, now=now)
        assert isinstance(deferred, Defer)
        assert (deferred.reason, deferred.until) == ("unknown_zone", now + timedelta(hours=1))


def test_no_policy_means_no_window() -> None:
    assert isinstance(ruling(under=catalog(campaign=campaign(policy_id=None)), now=NIGHT), Allow)


def test_no_campaign_means_no_campaign_rules_but_the_contacts_own() -> None:
    alone = activity(campaign_id=None, endpoint_id="endpoint-1")
    assert isinstance(ruling(of=alone, now=NIGHT), Allow)
    assert isinstance(ruling(known(opted_out()), of=alone), Deny)


def test_an_address_fixed_in_advance_is_used() -> None:
    allowed = ruling(of=activity(destination="+12025550199"))
    assert isinstance(allowed, Allow)
    assert allowed.destination == "+12025550199"


def test_a_text_goes_to_the_cell_phone() -> None:
    phones = (
        Phone(number="+12125550111", type=PhoneType.HOME),
        Phone(number="+12125550122", type=PhoneType.CELL),
    )
    allowed = ruling(contact(phones=phones))
    assert isinstance(allowed, Allow)
    assert allowed.destination == "+12125550122"


def test_no_address_is_among_the_inputs() -> None:
    assert "+12125550123" not in str(ruling().inputs)


@given(
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    state=st.sampled_from(CampaignState),
    source=st.sampled_from((Source.BATCH, Source.WORKFLOW, Source.INBOUND)),
    zone=st.sampled_from((None, "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Bad/Zone")),
    lifecycle=st.sampled_from(Lifecycle),
    out=st.sets(st.sampled_from(PreferenceKind)),
    enabled=st.booleans(),
    erased=st.booleans(),
)
def test_what_is_allowed_is_allowed_by_every_rule(
    moment: datetime,
    state: CampaignState,
    source: Source,
    zone: str | None,
    lifecycle: Lifecycle,
    out: set[PreferenceKind],
    enabled: bool,
    erased: bool,
) -> None:
    known = Contact(
        "contact-1", 1, lifecycle, (("+12125550123", PhoneType.CELL),), (), zone, frozenset(out), erased
    )
    under = catalog(campaign=campaign(state=state.value), endpoint=ENDPOINT.evolve(enabled=enabled))
    match judge(case_of(activity(source=source), known, under, moment)):
        case Allow():
            assert state is CampaignState.RUNNING
            assert lifecycle is Lifecycle.PUBLISHED
            assert PreferenceKind.DO_NOT_SMS not in out
            assert enabled
            assert not erased
            local = zone_named(zone)
            assert source is Source.INBOUND or (local and is_inside(moment, local, POLICY.window))
        case Defer(reason, until, hold):
            assert (until is None) != (hold is None)
            local = zone_named(zone)
            if reason == "outside_window":
                assert until is not None
                assert local is not None
                assert until > moment
                assert is_inside(until, local, POLICY.window)
        case Deny(reason):
            assert reason


def test_a_channel_that_parley_keeps_no_addresses_for_gets_the_contacts_id() -> None:
    assert contact(phones=(), emails=()).address("postcard") == contact().contact_id
    assert contact(phones=(), emails=()).address("sms") is None
