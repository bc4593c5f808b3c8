"""The environment of each process: nothing of ours is inherited by accident."""

from __future__ import annotations

import os
from pathlib import Path

from cli.line.members import CARRIER, Member
from cli.line.state import LineState
from contracts.catalogue import CHANNELS

_KEPT = ("PARLEY_MONGO_DRIVER", "PARLEY_LOG_LEVEL")
_HOST = "127.0.0.1"
_NOBODY = 9
"""The port of the discard service, which no machine runs any more: what goes there is tried again."""
_ACCOUNT = "AC" + "0" * 32
# The one who must not know it is a stranger on the network, and everything here listens on loopback only.
_TOKEN = "simulated"


def inherited() -> dict[str, str]:
    """Our own environment without settings that a service could mistake for its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(("PARLEY_", "KAFKA_BOOTSTRAP_SERVERS", "MONGO_URL"))
    }


def of(member: Member, port: int, state: LineState, data_dir: Path) -> dict[str, str]:
    if member.name == CARRIER:
        return _carrier(port, state, data_dir) | inherited()
    shared = {
        "KAFKA_BOOTSTRAP_SERVERS": state.kafka_bootstrap_servers,
        "MONGO_URL": state.mongo_url,
        "PARLEY_KAFKA_ISOLATION": state.isolation,
        "PARLEY_NAMESPACE": state.namespace,
        "PARLEY_INSTANCE": member.instance,
        "PARLEY_HOST": _HOST,
        "PARLEY_PORT": str(port),
        "PARLEY_CLOCK_FILE": str(state.clock_file),
        "PARLEY_LOG_FORMAT": "json",
    }
    if state.kafka_port is not None:
        # The embedded broker keeps its whole log in memory, and writes it out several times over.
        shared["PARLEY_KAFKA_COMPRESSION"] = "gzip"
    match member.name:
        case "channel-sms":
            return inherited() | shared | _sms(state)
        case "activities" | "batch-loader" if state.channels:
            return inherited() | shared | {"PARLEY_CHANNELS": ",".join((*CHANNELS, *state.channels))}
        case _:
            return inherited() | shared


def _sms(state: LineState) -> dict[str, str]:
    settings = {"PARLEY_SMS_ACCOUNT_SID": _ACCOUNT, "PARLEY_SMS_AUTH_TOKEN": _TOKEN}
    if carrier := state.services.get(CARRIER):
        settings["PARLEY_SMS_PROVIDER_URL"] = carrier.url
    return settings


def _carrier(port: int, state: LineState, data_dir: Path) -> dict[str, str]:
    """The person's own CARRIER_ variables win: how it behaves is theirs to play with."""
    sms = state.services.get("channel-sms")
    # Where channel-sms usually listens another line's may, and it would take what people write to this one.
    inbound = sms.url if sms else f"http://{_HOST}:{_NOBODY}"
    return {
        "CARRIER_HOST": _HOST,
        "CARRIER_PORT": str(port),
        "CARRIER_JOURNAL": str(data_dir / "carrier.jsonl"),
        "CARRIER_ACCOUNT_SID": _ACCOUNT,
        "CARRIER_AUTH_TOKEN": _TOKEN,
        "CARRIER_CLOCK_FILE": str(state.clock_file),
        "CARRIER_INBOUND_URL": f"{inbound}/v1/webhooks/sms/inbound",
    }
