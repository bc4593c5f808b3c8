"""Whatever a message may say, it says the same after a journey."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.campaigns import EndpointChanged
from contracts.catalogue import MESSAGES
from contracts.message import Message, stable_id, wire_headers
from contracts.vocabulary import EndpointId, to_millisecond
from tests.contracts.strategies import messages_of


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.wire.type)
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_message_survives_the_journey(message: type[Message], data: st.DataObject) -> None:
    sent = data.draw(messages_of(message))
    received = message.from_json(sent.to_json())
    assert received == sent
    assert received.to_json() == sent.to_json()
    assert received.event_id() == sent.event_id()
    assert (received.topic(), received.key()) == (sent.topic(), sent.key())
    assert "{" not in sent.topic()
    body = json.loads(sent.to_json())
    assert sent.identity() == ":".join(str(body[field]) for field in message.wire.identity)
    headers = dict(wire_headers(sent, "parley/test", "2026-11-23T00:00:00Z"))
    assert headers["ce_type"].decode() == message.wire.type
    assert headers["ce_id"].decode() == sent.event_id()


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_is_refused_in_a_field_that_nobody_knows_too(constant: str) -> None:
    id_ = EndpointId("main")
    message = EndpointChanged(endpoint_id=id_, version=1, code="main", channel="sms", address="+12125550100")
    body = message.to_json()
    with pytest.raises(ValidationError, match=f"there is no {constant} in JSON"):
        EndpointChanged.from_json(body[:-1] + f', "other": [{{"deep": {constant}}}]}}'.encode())
    named = body[:-1] + b', "other": ["NaN, Infinity and -Infinity"]}'
    assert EndpointChanged.from_json(named) == message


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_stable_ids_are_equal_only_for_equal_parts(one: list[str], other: list[str]) -> None:
    joined = "\x1f".join
    assert (stable_id(*one) == stable_id(*other)) == (joined(one) == joined(other))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_cut_to_the_millisecond_survives_json(moment: datetime) -> None:
    time = TypeAdapter(datetime)
    cut = to_millisecond(moment)
    assert time.validate_json(time.dump_json(cut)) == cut
