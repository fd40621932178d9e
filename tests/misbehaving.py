"""A tiny HTTP server on loopback that does to each request what a list says."""

import contextlib
import json
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

GOOD = {
    "token": "eyJzaCI6.c2ln",
    "wsUrl": "wss://us-west.api.pipecat.daily.co/ws/generic/my-agent.my-org",
    "sessionId": "639f91d8-d511-4677-a83b-bd7564d5d92f",
}

Behaviour = Callable[[socket.socket, "Server"], bool]  # True: keep the connection open


class Server:
    """Notes each request and runs the next behaviour, the last one again and again."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = behaviours
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.requests: list[bytes] = []
        self.connections = 0
        port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1/public/{{agent}}/start"

    def __enter__(self) -> "Server":
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than the test; say whether the test is over."""
        return self._stopped.wait(seconds)

    def _spawn(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        for connection in self._each(self._listener):
            self.connections += 1
            self._spawn(self._serve, connection)

    def _each(self, listener: socket.socket) -> Iterator[socket.socket]:
        listener.settimeout(0.01)
        while not self._stopped.is_set():
            with contextlib.suppress(OSError):  # a time-out, or a TLS handshake that failed
                yield listener.accept()[0]

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (request := self._read(connection)) is not None:
                with self._lock:
                    behaviour = self._behaviours[min(len(self.requests), len(self._behaviours) - 1)]
                    self.requests.append(request)
                if not behaviour(connection, self):
                    return

    def _read(self, connection: socket.socket) -> bytes | None:
        request = b""
        while not self._stopped.is_set():
            if select.select([connection], [], [], 0.01)[0]:
                part = connection.recv(65536)
                if not part:
                    return None
                request += part
                head, end, body = request.partition(b"\r\n\r\n")
                length = re.search(rb"(?im)^content-length: (\d+)", head)
                if end and len(body) >= int(length.group(1) if length else 0):
                    return request
        return None


def answer(
    status: int = 200,
    body: object = GOOD,
    headers: Mapping[str, str] | None = None,
    close: bool = False,
) -> Behaviour:
    """Answer with JSON, or with the bytes given; `close` hangs up right after answering."""

    def behave(connection: socket.socket, _: Server) -> bool:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        return not close

    return behave


def hang_up(connection: socket.socket, _: Server) -> bool:
    """Read the request and close without a word."""
    return False


def say_nothing(connection: socket.socket, server: Server) -> bool:
    """Keep the connection open and never answer."""
    server.wait(30)
    return False


def drip(text: bytes) -> Behaviour:
    """Send `text`, then one byte every 20 ms: no read ever times out."""

    def behave(connection: socket.socket, server: Server) -> bool:
        connection.sendall(text)
        while not server.wait(0.02):
            connection.sendall(b"x")
        return False

    return behave
