from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batch_loader.domain.choices import Catalog, Item, Wanted, WrongChoice, resolve, resolve_filters
from batch_loader.domain.filters import Filters
from contracts.catalogue import CHANNELS
from contracts.vocabulary import ActivityKind, Mode
from tests.batch_loader.builders import AUTOMATIC, batch

CATALOG = Catalog(
    campaigns=(
        Item("c1", "spring", "sms", "e1"),
        Item("c2", "visits", "sms"),
        Item("c3", "past", "sms", "e1", stopped=True),
    ),
    subjects=(Item("s1", "renewal"), Item("s2", "survey")),
    endpoints=(Item("e1", "main-line", "sms"), Item("e2", "mailbox", "email")),
    agent_profiles=(Item("p1", "scripted"),),
)
MANUAL = {"campaign": "spring", "subject": "renewal", "source": "manual"}


def wanted(**told: Any) -> Wanted:
    return Wanted.model_validate(told)


def test_codes_and_ids_are_both_understood() -> None:
    by_code = resolve(wanted(**AUTOMATIC), CATALOG)
    by_id = resolve(
        wanted(campaign="c1", subject="s1", source="automatic", agent_profile="p1", endpoint="e1"), CATALOG
    )
    assert by_code == by_id


def test_channel_and_endpoint_are_the_campaigns_when_left_out() -> None:
    choices = resolve(wanted(**AUTOMATIC), CATALOG)
    assert (choices.channel, choices.endpoint_id) == ("sms", "e1")
    assert (choices.mode, choices.kind) == (Mode.AUTOMATED, ActivityKind.SMS)


@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("sms", ActivityKind.SMS),
        ("voice", ActivityKind.CALL),
        ("email", ActivityKind.EMAIL),
        ("none", ActivityKind.TASK),
        ("pigeon", ActivityKind.TASK),
    ],
)
def test_the_kind_follows_the_channel(channel: str, kind: ActivityKind) -> None:
    choices = resolve(wanted(**MANUAL, channel=channel), CATALOG)
    assert choices.kind is kind
    assert choices.channel == (None if channel == "none" else channel)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"campaign": "autumn"}, "There is no campaign 'autumn'; known: past, spring, visits."),
        ({"campaign": "past"}, "Campaign 'past' is stopped for good; draft one for another campaign."),
        ({"subject": "nothing"}, "There is no subject 'nothing'; known: renewal, survey."),
        ({"endpoint": "x"}, "There is no endpoint 'x'; known: mailbox, main-line."),
        ({"agent_profile": "x"}, "There is no agent profile 'x'; known: scripted."),
        ({"endpoint": "mailbox"}, "Endpoint 'mailbox' is for email, but the batch uses sms."),
        (
            {"campaign": "visits"},
            "An automatic batch needs an endpoint, and campaign 'visits' has none for sms: "
            "give the campaign one, or name one (choices.endpoint, --endpoint).",
        ),
        (
            {"channel": "smss"},
            f"No channel 'smss' is connected here; there is {', '.join(sorted(CHANNELS))}.",
        ),
    ],
)
def test_a_wrong_choice_is_explained_in_one_sentence(told: dict[str, str], sentence: str) -> None:
    with pytest.raises(WrongChoice) as wrong:
        resolve(wanted(**AUTOMATIC | told), CATALOG)
    assert str(wrong.value) == sentence


def test_an_empty_catalogue_says_so() -> None:
    with pytest.raises(WrongChoice, match="known: none yet"):
        resolve(wanted(**AUTOMATIC), Catalog())


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (MANUAL | {"agent_profile": "scripted"}, "a manual batch takes agents"),
        (AUTOMATIC | {"agents": ["ann"]}, "an automatic batch takes an agent_profile"),
        (MANUAL | {"source": "automatic"}, "an automatic batch needs an agent_profile"),
        (AUTOMATIC | {"channel": "none"}, "an automatic batch needs a channel"),
        (
            {"campaign": "spring", "subject": "renewal"},
            "source is missing; say manual .* or automatic",
        ),
        (MANUAL | {"agents": []}, "at least 1 item"),
        (MANUAL | {"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_choices_that_do_not_fit_each_other_are_refused(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        wanted(**told)


def test_subjects_of_a_filter_become_ids() -> None:
    assert resolve_filters(Filters(last_subjects=("survey", "s1")), CATALOG).last_subjects == ("s2", "s1")


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8, unique=True), st.integers(0, 200))
def test_round_robin_gives_everybody_as_much_as_anybody_else(agents: list[str], activities: int) -> None:
    choices = batch(source="manual", agents=agents, agent_profile_id=None).choices
    share = Counter(choices.owner(position) for position in range(activities))
    shares = [share[agent] for agent in agents]
    assert max(shares) - min(shares) <= 1
    assert [choices.owner(position) for position in range(len(agents))] == agents


def test_without_agents_anybody_may_take_the_work() -> None:
    assert batch(source="manual", agent_profile_id=None).choices.owner(3) is None
