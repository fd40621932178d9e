"""Nothing that a bot does may leave this machine: it is refused, and written down."""

import asyncio
import contextlib
import ipaddress
import sys
from collections.abc import Callable
from typing import Any

import aiohttp

# uvloop connects without telling Python's audit hooks; without it uvicorn takes asyncio's loop.
sys.modules["uvloop"] = None  # type: ignore[assignment]


class LeavesThisMachine(OSError):
    """A connection or a look-up that is not for loopback."""


def stay_on_loopback(tell: Callable[..., None]) -> None:
    """Refuse every other host from now on, and tell which it was."""

    def look(event: str, args: tuple[Any, ...]) -> None:
        host = args[0] if event == "socket.getaddrinfo" else None
        if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
            host = args[1][0]
        if host and not is_loopback(str(host)):
            tell("left", host=str(host))
            raise LeavesThisMachine(f"{host} is not this machine")

    sys.addaudithook(look)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def ask(url: str) -> None:
    """Ask for a page with the client that Pipecat's serializers use, and be refused."""
    stay_on_loopback(lambda _, host: print(host))  # noqa: T201
    with contextlib.suppress(aiohttp.ClientConnectionError):
        async with aiohttp.ClientSession() as client, client.get(url):
            pass


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1]))
