"""A gateway on loopback, in a thread of this process, with a clock that tests can turn."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from aiohttp import web
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gateway.agents import Agent
from gateway.server import create_gateway
from gateway.tokens import Tokens

PUBLIC_KEY = "pk_local"
AGENT = Agent("my-agent", "local-org", needs_token=True)


@dataclass
class Clock:
    """Unix seconds that stand still until a test moves them."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@dataclass
class Gateway:
    """How tests talk to it: other libraries than the one it is written with."""

    origin: str  # "127.0.0.1:41234"
    tokens: Tokens
    clock: Clock
    agents: tuple[Agent, ...] = field(default=(AGENT,))

    def post_start(
        self, agent: str = "my-agent", key: str = PUBLIC_KEY, **asked: Any
    ) -> requests.Response:
        """Ask /start for a session."""
        return requests.post(
            f"http://{self.origin}/v1/public/{agent}/start",
            headers={"Authorization": f"Bearer {key}"},
            json={"transport": "websocket"} | asked,
            timeout=10,
        )

    def open(
        self, path: str, headers: dict[str, str] | None = None
    ) -> AbstractContextManager[ClientConnection]:
        """Open a socket for a `with` block; InvalidStatus is raised when it is refused."""
        return connect(
            f"ws://{self.origin}{path}",
            additional_headers=headers or {},
            proxy=None,
            compression=None,
        )

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        """Open a socket and close it; return 101 or the status that refused it."""
        try:
            with self.open(path, headers):
                return 101
        except InvalidStatus as error:
            return error.response.status_code


@contextmanager
def running(*agents: Agent, port: int = 0, **options: Any) -> Iterator[Gateway]:
    """Run a gateway until the block ends."""
    agents = agents or (Agent("my-agent", "local-org", needs_token=True),)
    clock = Clock()
    tokens = Tokens(b"test key of the gateway", clock)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(
        create_gateway(agents, PUBLIC_KEY, tokens=tokens, **options),
        access_log=None,
        shutdown_timeout=0.05,
    )

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        bound: int = runner.addresses[0][1]
        return bound

    async def stop() -> None:
        await runner.cleanup()
        await asyncio.sleep(0.02)  # what was cancelled closes its transport a moment later

    bound = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Gateway(f"127.0.0.1:{bound}", tokens, clock, agents)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
