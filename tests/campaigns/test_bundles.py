import copy
from typing import Any

import pytest

from campaigns.domain.bundle import InvalidBundle, read
from campaigns.domain.kinds import KINDS, Bundle, Catalog, Kind
from campaigns.domain.plan import Plan, planned
from contracts.campaigns import CampaignChanged, catalog_id
from contracts.vocabulary import CampaignState
from tests.campaigns.conftest import BUNDLE, a_bundle

NOTHING: Catalog = {}


def apply(bundle: object, standing: Catalog) -> tuple[Plan, Catalog]:
    """As the service does, in memory."""
    plan = planned(read(bundle, standing), standing)
    after: dict[str, dict[str, Any]] = {kind.plural: dict(standing.get(kind.plural, {})) for kind in KINDS}
    for change in plan.changes:
        after[change.kind.plural][change.state.code] = change.state
    return plan, after


def faults(bundle: object, standing: Catalog = NOTHING) -> list[str]:
    with pytest.raises(InvalidBundle) as refused:
        read(bundle, standing)
    return [str(fault) for fault in refused.value.faults]


def changed(**fields: Any) -> dict[str, Any]:
    """The bundle with its only campaign changed."""
    return a_bundle(campaigns=[BUNDLE["campaigns"][0] | fields])


def test_a_bundle_creates_everything_with_ids_from_kind_and_code() -> None:
    plan, standing = apply(BUNDLE, NOTHING)
    assert len(plan.created) == 7
    campaign = standing["campaigns"]["spring"]
    assert campaign.campaign_id == catalog_id("campaign", "spring")
    assert campaign.endpoint_id == catalog_id("endpoint", "main")
    assert campaign.policy_id == catalog_id("policy", "us-default")
    assert campaign.state is CampaignState.DRAFT
    assert campaign.version == 1


def test_the_same_bundle_twice_changes_nothing() -> None:
    _, standing = apply(BUNDLE, NOTHING)
    plan, _ = apply(copy.deepcopy(BUNDLE), standing)
    assert (plan.created, plan.changed, plan.changes) == ([], [], [])
    assert len(plan.unchanged) == 7


def test_only_what_differs_gets_a_new_version() -> None:
    _, standing = apply(BUNDLE, NOTHING)
    plan, after = apply(changed(name="Spring 2026"), standing)
    assert plan.changed == ["campaigns/spring"]
    assert after["campaigns"]["spring"].version == 2


def test_a_bundle_may_refer_to_what_stands_already() -> None:
    _, standing = apply(BUNDLE, NOTHING)
    summer = BUNDLE["campaigns"][0] | {"code": "summer"}
    plan, _ = apply({"campaigns": [summer]}, standing)
    assert plan.created == ["campaigns/summer"]


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
def test_a_bundle_without_a_state_leaves_a_campaign_where_it_is(state: str) -> None:
    _, standing = apply(BUNDLE, NOTHING)
    moved = {"spring": standing["campaigns"]["spring"].evolve(state=CampaignState(state))}
    plan, after = apply(changed(name="New"), {**standing, "campaigns": moved})
    assert plan.changed == ["campaigns/spring"]
    assert after["campaigns"]["spring"].state == state


def test_a_bundle_may_name_a_state_that_can_be_reached() -> None:
    _, standing = apply(BUNDLE, NOTHING)
    _, running = apply(changed(state="running"), standing)
    assert running["campaigns"]["spring"].state is CampaignState.RUNNING
    assert (
        "campaigns[0].state: the campaign is running and cannot become draft"
        in faults(changed(state="draft"), running)[0]
    )


@pytest.mark.parametrize(
    ("bundle", "fault"),
    [
        (changed(endpoint="x"), "campaigns[0].endpoint: no endpoint with code 'x'; there are: main"),
        (changed(policy="x"), "campaigns[0].policy: no policy with code 'x'; there are: us-default"),
        (
            changed(dispositions=["sold", "lost"]),
            "campaigns[0].dispositions[1]: no disposition with code 'lost'; there are: no-answer, sold",
        ),
        (changed(channel="email"), "endpoint 'main' is of channel sms, the campaign of email"),
        (changed(ends_at="2025-01-01T00:00:00Z"), "campaigns[0].ends_at: must be after starts_at"),
        (
            changed(ends_at="9999-12-31T23:59:59-14:00"),
            "campaigns[0].ends_at: must be of 1970 or later and before 9000",
        ),
        (changed(colour="red"), "campaigns[0].colour: there is no such field; there are: code, name"),
        (changed(code="Spring!"), "campaigns[0].code: String should match pattern"),
        (a_bundle(flows=[]), "flows: flows belong to the workflow service"),
        (a_bundle(subjcts=[]), "subjcts: there is no such list; there are: dispositions, endpoints"),
        (a_bundle(endpoints={"code": "main"}), "endpoints: must be a list"),
        ([], "a bundle is an object"),
        (a_bundle(endpoints=BUNDLE["endpoints"] * 2), "endpoints[1].code: 'main' is at endpoints[0] already"),
        (
            a_bundle(endpoints=[*BUNDLE["endpoints"], BUNDLE["endpoints"][0] | {"code": "second"}]),
            "endpoints[1].address: endpoint 'main' has this address on channel sms",
        ),
        (
            a_bundle(policies=[BUNDLE["policies"][0] | {"window": {"start": "21:00", "end": "08:00"}}]),
            "policies[0].window: end must be after start",
        ),
        (
            a_bundle(policies=[BUNDLE["policies"][0] | {"window": {"begin": "08:00"}}]),
            "policies[0].window.begin: there is no such field; there are: start, end, weekdays",
        ),
        (
            a_bundle(policies=[BUNDLE["policies"][0] | {"unknown_zone_zones": ["Mars/Base"]}]),
            "policies[0].unknown_zone_zones[0]: no time zone 'Mars/Base'",
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"data_schema": {"type": "objekt"}}]),
            'subjects[0].data_schema: a schema of fields says "type": "object"',
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"questions": [{"field": "x", "text": "?"}]}]),
            "subjects[0].questions[0].field: no field 'x' in data_schema; there are: month",
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"questions": [{"field": "month", "text": " "}]}]),
            "subjects[0].questions[0].text: must be asked in words",
        ),
        (
            a_bundle(
                subjects=[
                    BUNDLE["subjects"][0] | {"questions": [{"field": "month", "text": "When, {first_name}?"}]}
                ]
            ),
            "subjects[0].questions[0].text: a question is asked as it stands",
        ),
        (
            a_bundle(policies=[BUNDLE["policies"][0] | {"window": {"weekdays": []}}]),
            "policies[0].window.weekdays: must name a day",
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"opening": "Hello {first_name"}]),
            "subjects[0].opening: {first_name} or a custom field may stand in braces",
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"opening": "Hello {first_name!r}"}]),
            "subjects[0].opening: {first_name} or a custom field may stand in braces",
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"yes_disposition": "maybe"}]),
            "subjects[0].yes_disposition: no disposition with code 'maybe'",
        ),
        (
            a_bundle(subjects=[BUNDLE["subjects"][0] | {"disposition_required": False}]),
            "subjects[0].disposition_required: must be true: every activity ends with a disposition",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_would_be_right(bundle: object, fault: str) -> None:
    assert any(fault in found for found in faults(bundle)), faults(bundle)


def test_a_subject_may_say_that_a_disposition_is_required() -> None:
    _, standing = apply(a_bundle(subjects=[BUNDLE["subjects"][0] | {"disposition_required": True}]), NOTHING)
    assert standing["subjects"]["renewal"].disposition_required


def test_every_fault_is_told_at_once() -> None:
    wrong = changed(endpoint="x", dispositions=["y"]) | {"policies": [{"code": "p"}], "junk": 1}
    places = sorted(fault.partition(":")[0] for fault in faults(wrong))
    assert places == [
        "campaigns[0].dispositions[0]",
        "campaigns[0].endpoint",
        "campaigns[0].policy",
        "junk",
        "policies[0].name",
    ]


def test_an_item_is_written_like_the_message_but_for_ids_and_references() -> None:
    for kind in KINDS:
        announced = set(kind.state.model_fields) - {kind.id_field, "version"}
        written = set(kind.written.model_fields)
        if kind.state is CampaignChanged:
            announced = announced - {"endpoint_id", "policy_id"} | {"endpoint", "policy"}
        assert written == announced


def test_the_bundle_model_takes_the_bundle() -> None:
    assert Bundle.model_validate(BUNDLE).model_fields_set == set(BUNDLE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_field_is_explained_in_a_bundle_as_in_the_message(kind: Kind) -> None:
    announced: Any = next(base for base in kind.state.mro() if "wire" in vars(base))
    explained = {name: field.description for name, field in announced.model_fields.items()}
    written = {name: field.description for name, field in kind.written.model_fields.items()}
    own_words = {"code", "state"}
    assert {name: written[name] for name in written.keys() & explained.keys() - own_words} == {
        name: explained[name] for name in written.keys() & explained.keys() - own_words
    }
