"""What the demo applies is what the services take."""

from importlib.resources import as_file, files

from campaigns.domain.bundle import read
from cli.demo.numbers import MOST, numbers
from cli.reading import Written, read_yaml
from contacts.domain.contact_type import Definition, define
from servicekit.verdict import Become
from workflow.domain.flow import FlowSpec

ELSEWHERE = ("contact_types", "flows")


def sample() -> Written:
    with as_file(files("cli.sample") / "bundle.yaml") as path:
        return read_yaml(path)


def test_the_catalogue_part_is_valid_and_complete() -> None:
    catalogue = {name: items for name, items in sample().content.items() if name not in ELSEWHERE}
    kinds = {item.kind.plural for item in read(catalogue, {})}
    assert kinds == {"dispositions", "endpoints", "policies", "agent_profiles", "subjects", "campaigns"}


def test_there_are_two_subjects_five_dispositions_and_a_running_campaign() -> None:
    content = sample().content
    assert len(content["subjects"]) >= 2
    assert len(content["dispositions"]) >= 5
    assert any(campaign["state"] == "running" for campaign in content["campaigns"])


def test_nobody_of_the_list_has_the_number_that_texts_are_sent_from() -> None:
    """An erased contact's number could not go from everywhere then."""
    own = {endpoint["address"] for endpoint in sample().content["endpoints"]}
    assert own.isdisjoint(number.e164 for number in numbers(MOST))


def test_the_contact_types_are_valid() -> None:
    for type_ in sample().content["contact_types"]:
        definition = Definition(**{name: value for name, value in type_.items() if name != "code"})
        assert isinstance(define(type_["code"], definition, None), Become)


def test_the_flows_are_valid_and_know_their_outcomes() -> None:
    content = sample().content
    dispositions = {item["code"] for item in content["dispositions"]}
    for position, flow in enumerate(content["flows"]):
        spec = FlowSpec.model_validate(flow)
        assert not list(spec.rules.faults(f"flows[{position}]"))
        assert set(spec.when) <= dispositions


def test_a_place_of_the_bundle_has_a_line() -> None:
    written = sample()
    line = int(written.locate("flows[0].when.no-answer[0].try_again.max_attempts").split()[-3].rstrip(","))
    assert (
        "max_attempts: 3" in written.file.read_text().splitlines()[line - 1]
        if written.file.exists()
        else line
    )
