"""`parley setup`: what a deployment needs before its services can run, made once and safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from cli import console
from cli.exits import Unavailable, WrongConfiguration
from cli.line.chosen_engines import ask_database, make_topics
from cli.options import Channels
from servicekit.settings import BadSettings, ServiceSettings, without_login

Answer = TypeVar("Answer")

_ALREADY_INITIALIZED = 23
_NOT_YET_INITIALIZED = 94
_LOOK_EVERY = 1.0


def setup(
    replication: Annotated[int, typer.Option(help="Copies of each topic; 3 outside trials.", min=1)] = 1,
    form_replica_set: Annotated[
        bool,
        typer.Option(
            "--form-replica-set",
            help="Initiate the replica set that MONGO_URL names, with the members it names.",
        ),
    ] = False,
    channel: Channels = None,
    retention_bytes: Annotated[
        int | None,
        typer.Option(
            help="The most that a partition keeps; what is older goes, read or not. Else only days count.",
            min=1024**2,
            metavar="BYTES",
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds to wait for the broker and the database.", min=0)
    ] = 120,
) -> None:
    """Create the topics of this deployment and see that its database can be used.

    Reads what the services read: KAFKA_BOOTSTRAP_SERVERS, MONGO_URL, PARLEY_NAMESPACE. What exists is left
    as it is; one that the services cannot use ends the command, and one that keeps less than the contracts
    say is named. The services make their own indexes.

    Examples:

      parley setup --form-replica-set

      KAFKA_BOOTSTRAP_SERVERS=kafka:9092 parley setup --replication 3

      parley setup --channel postcard
    """
    try:
        settings = ServiceSettings.from_environment()
    except BadSettings as wrong:
        raise WrongConfiguration(str(wrong)) from wrong
    deadline = time.monotonic() + patience
    if form_replica_set:
        formed = _patiently(lambda: _form_replica_set(settings.mongo_url), deadline)
        console.say("The replica set is new." if formed else "The replica set was there.")
    limit = -1 if retention_bytes is None else retention_bytes
    _patiently(lambda: ask_database(settings.mongo_url), deadline)
    made = _patiently(
        lambda: make_topics(
            settings.kafka_bootstrap_servers, settings.namespace, replication, channel or (), limit
        ),
        deadline,
    )
    console.say(str(made))


def _patiently(ask: Callable[[], Answer], deadline: float) -> Answer:
    while True:
        try:
            return ask()
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_EVERY)


def _form_replica_set(url: str) -> bool:
    """True when it did not exist."""
    try:
        told = parse_uri(url)
    except (PyMongoError, ValueError) as error:
        raise WrongConfiguration(f"MONGO_URL cannot be used: {str(error).rstrip('.')}.") from error
    options = {option.lower(): value for option, value in told["options"].items()}
    name, hosts = options.get("replicaset"), told["nodelist"]
    if not name:
        raise WrongConfiguration(
            "MONGO_URL names no replica set; it would be right with /?replicaSet=NAME at its end."
        )
    host, port = hosts[0]
    members = [{"_id": number, "host": f"{each}:{at}"} for number, (each, at) in enumerate(hosts)]
    try:
        with MongoClient[dict[str, Any]](
            host,
            port,
            username=told["username"],
            password=told["password"],
            directConnection=True,
            serverSelectionTimeoutMS=2000,
        ) as client:
            return _initiate(client, name, members)
    except ConfigurationError as error:
        raise WrongConfiguration(f"MONGO_URL cannot be used: {str(error).rstrip('.')}.") from error
    except OperationFailure as refusal:
        why = str((refusal.details or {}).get("errmsg", refusal)).rstrip(".")
        raise WrongConfiguration(f"The MongoDB at {host}:{port} refuses: {why}.") from refusal
    except PyMongoError as error:
        raise Unavailable(f"No MongoDB answers at {without_login(url)}: is it running?") from error


def _initiate(client: MongoClient[dict[str, Any]], name: str, members: list[dict[str, Any]]) -> bool:
    try:
        found: str = client.admin.command("replSetGetConfig")["config"]["_id"]
    except OperationFailure as refusal:
        if refusal.code != _NOT_YET_INITIALIZED:
            raise
    else:
        if found != name:
            raise WrongConfiguration(f"The replica set is called {found}, and MONGO_URL says {name}.")
        return False
    try:
        client.admin.command("replSetInitiate", {"_id": name, "members": members})
    except OperationFailure as refusal:
        if refusal.code != _ALREADY_INITIALIZED:
            raise
        return False
    return True
