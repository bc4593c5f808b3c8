"""Why no broker answers, as far as that can be told from here."""

from __future__ import annotations

import asyncio
import socket


async def why_away(servers: str, error: BaseException) -> str:
    """For a person who reads a log: the error, and names that have no address here and now. Such a name is
    misspelt, or its broker is away: a container that stops takes its name along.

    servers: `HOST:PORT`, with commas between them.
    """
    hosts = list(dict.fromkeys(server.rpartition(":")[0] for server in servers.split(",")))
    known = await asyncio.gather(*map(_has_address, hosts))
    nameless = [host for host, has_address in zip(hosts, known, strict=True) if not has_address]
    told = type(error).__name__
    return f"{told}; there is no address for {', '.join(nameless)}" if nameless else told


async def _has_address(host: str) -> bool:
    """Also True if the names cannot be asked for at the moment."""
    try:
        await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    except UnicodeError:  # a label of more than 63 letters
        return False
    return True
