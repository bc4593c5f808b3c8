"""Why no broker answers, as far as that can be told from here."""

from __future__ import annotations

import asyncio
import socket


async def why_away(servers: str, error: BaseException) -> str:
    """For a person who reads a log: a name that nobody knows is told from a broker that is away.

    servers: `HOST:PORT`, with commas between them.
    """
    hosts = list(dict.fromkeys(server.rpartition(":")[0] for server in servers.split(",")))
    known = await asyncio.gather(*map(_is_known, hosts))
    unknown = [host for host, is_known in zip(hosts, known, strict=True) if not is_known]
    if unknown:
        return f"no address is known for {', '.join(unknown)}"
    return f"no answer ({type(error).__name__})"


async def _is_known(host: str) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), None)
    except socket.gaierror:
        return False
    return True
