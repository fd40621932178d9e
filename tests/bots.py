"""Bots behind a plain WebSocket server, to see what a simulated carrier says and does."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

Talk = Callable[[ServerConnection, dict[str, Any]], None]


@dataclass
class Bot:
    """What a bot saw."""

    url: str = ""
    targets: list[str] = field(default_factory=list)  # path and query of every attempt
    messages: list[dict[str, Any]] = field(default_factory=list)
    close_codes: list[int] = field(default_factory=list)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def wait_for_the_end(self) -> None:
        """Wait until the bot has seen its caller hang up, which it does on a thread of its own."""
        assert self.ended.acquire(timeout=10)


@contextmanager
def listening(talk: Talk | None = None, refusals: int = 0, status: int = 403) -> Iterator[Bot]:
    """Serve a bot; it refuses so many sockets first, and runs `talk` on every message."""
    bot = Bot()

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        bot.targets.append(request.path)
        if len(bot.targets) <= refusals:
            return connection.respond(HTTPStatus(status), "no")
        return None

    def run(connection: ServerConnection) -> None:
        try:
            while True:
                message = json.loads(connection.recv())
                bot.messages.append(message)
                if talk:
                    talk(connection, message)
        except ConnectionClosed as closed:
            bot.close_codes.append(closed.rcvd.code if closed.rcvd else 1006)
            bot.ended.release()

    with serve(run, "127.0.0.1", 0, process_request=admit, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        bot.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws/generic/a.b/TOKEN"
        try:
            yield bot
        finally:
            server.shutdown()
            thread.join(10)
