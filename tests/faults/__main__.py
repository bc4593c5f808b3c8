"""`make faults`: kill, stop and mistreat the line, then have an outside judge recount everything."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from tests.faults.line import CommandSwitch, FaultEngines, Switch, external
from tests.faults.report import Report
from tests.faults.runs.clock import clock
from tests.faults.runs.replicas import replicas
from tests.faults.runs.rewind import rewind
from tests.faults.runs.storm import storm
from tests.faults.runs.sweep import sweep
from tests.faults.scene import Stage

RUNS = ("sweep", "storm", "rewind", "replicas", "clock")
_SHORT = {"sweep": (60, 0), "storm": (300, 12), "rewind": (100, 0), "replicas": (200, 14), "clock": (150, 10)}
_LONG = {
    "sweep": (60, 0),
    "storm": (5_000, 200),  # a contact gets two to four activities, the more the longer the storm
    "rewind": (1_000, 0),
    "replicas": (2_000, 42),
    "clock": (500, 30),
}


def main() -> None:
    chosen = _arguments().parse_args()
    started_here = chosen.engines == "kafka" and not external("KAFKA_BOOTSTRAP_SERVERS")
    ok = True
    for name in RUNS if chosen.run == "all" else (chosen.run,):
        with ExitStack() as stack:
            ok = _one(name, chosen, stack, started_here) and ok
    sys.exit(0 if ok else 1)


def _one(name: str, chosen: argparse.Namespace, stack: ExitStack, started_here: bool) -> bool:
    size, faults = (_SHORT if chosen.short else _LONG)[name]
    on_apache = chosen.engines == "kafka" or external("KAFKA_BOOTSTRAP_SERVERS") is not None
    count = chosen.faults or faults
    longest = chosen.longest_outage or (15 if chosen.short else 60)
    asked: dict[str, object] = {"engines": "kafka"} if chosen.engines == "kafka" else {}
    if name != "sweep" and count:
        asked["faults"] = count
    if name == "storm":
        asked |= {"longest-outage": longest, "replicas": chosen.replicas}
    report = Report(
        name, chosen.seed, chosen.size or size, "Apache Kafka" if on_apache else "embedded engines", asked
    )
    if name == "replicas" and not on_apache:
        sys.stdout.write(
            "replicas: left out, because the embedded broker cannot share a group between members; "
            "name an Apache Kafka in KAFKA_BOOTSTRAP_SERVERS.\n"
        )
        return True
    directory = Path(chosen.directory or tempfile.mkdtemp(prefix="parley-faults-")) / name
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        sys.exit(f"{directory} is not empty: choose another --directory")
    engines = FaultEngines.started(
        directory, _kafka(stack, started_here), external("MONGO_URL"), _switches(chosen)
    )
    namespace = f"faults-{name}-{uuid4().hex[:6]}" if on_apache or external("MONGO_URL") else ""
    stage = Stage(report, directory, engines, namespace)
    try:
        match name:
            case "sweep":
                sweep(stage, chosen.patience)
            case "storm":
                storm(stage, count, longest, chosen.replicas)
            case "rewind":
                rewind(stage)
            case "replicas":
                replicas(stage, count)
            case "clock":
                clock(stage, count)
    finally:
        engines.stop()
    file = directory / "report.json"
    report.write(file)
    sys.stdout.write(f"{report}\nreport: {file}\n\n")
    return report.ok


def _kafka(stack: ExitStack, started_here: bool) -> str | None:
    if not started_here:
        return external("KAFKA_BOOTSTRAP_SERVERS")
    from tests.engines import containers

    return stack.enter_context(containers.kafka())


def _switches(chosen: argparse.Namespace) -> dict[str, Switch]:
    found: dict[str, Switch] = {}
    for engine in ("broker", "database"):
        down, up = getattr(chosen, f"{engine}_down"), getattr(chosen, f"{engine}_up")
        if down and up:
            found[engine] = CommandSwitch(down, up)
    return found


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        epilog="KAFKA_BOOTSTRAP_SERVERS and MONGO_URL always win, each for its engine. The exit code is 1 if "
        "a promise was broken, a failpoint was not reached, or the line did not come to rest.",
    )
    parser.add_argument("run", choices=[*RUNS, "all"])
    parser.add_argument("--seed", type=int, default=1, help="draws the load and the faults")
    parser.add_argument("--size", type=int, help="contacts, each with one activity of a batch")
    parser.add_argument("--faults", type=int, help="how many")
    parser.add_argument("--short", action="store_true", help="the sizes that CI uses")
    parser.add_argument(
        "--engines",
        choices=["embedded", "kafka"],
        default="embedded",
        help="kafka: KAFKA_BOOTSTRAP_SERVERS, else a container (needs Docker)",
    )
    parser.add_argument("--replicas", type=int, default=1, help="of each service, in a storm (Apache Kafka)")
    parser.add_argument("--longest-outage", type=float, help="seconds an engine may be away in a storm")
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds for the sweep to reach everything"
    )
    parser.add_argument("--directory", help="where data, logs and the report go; must be empty")
    for engine in ("broker", "database"):
        parser.add_argument(f"--{engine}-down", metavar="COMMAND", help=f"kills a {engine} that is not ours")
        parser.add_argument(f"--{engine}-up", metavar="COMMAND", help="and brings it back")
    return parser


if __name__ == "__main__":
    main()
