"""Loopback ports for the engines."""

import random
import socket

import psutil

from cli.engines.errors import PortTaken

LOOPBACK = "127.0.0.1"

# Below the range that systems give to outgoing connections: a client that keeps trying to reach
# a stopped engine there can be connected to itself, and then holds the port the engine wants back.
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def listens(pid: int, port: int) -> bool:
    """Whether it is this process that listens there."""
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # it has just ended: who watches it will tell
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)


def choose(engine: str, wanted: int | None = None) -> int:
    """The wanted port if it is free, else `PortTaken`; any free one if none is wanted."""
    if wanted is not None:
        if not is_free(wanted):
            raise PortTaken(engine, wanted)
        return wanted
    return next(port for port in random.sample(_CANDIDATES, k=200) if is_free(port))
