"""gunicorn's threaded worker, but a thread gets a request only when all of it is there.

gthread gives a thread to whoever connects: it waits there for a first byte (5 s), for the rest of
a head and of a body, and for what is left of a body that nobody wants (5 s). It waits for clients
to hang up (2 s) in the one loop that accepts for all threads. A few hundred connections of a
stranger who sends nothing, or half, were enough to leave callers without an answer.
Here all of that waiting is done by the poller, as a buffering proxy would do it.

It leans on names that gunicorn calls its own: they are those of the pinned version. Another one
that lacks one of them does not start, and says why; tests/test_worker.py and tests/test_flood.py
tell when it means something else by them.
"""

import errno
import selectors
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.parser import Parser
from gunicorn.http.unreader import Unreader
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import TConn, ThreadWorker

from bridge.headers import SECURITY_HEADERS
from bridge.whole import Incoming

PATIENCE_S = 3.0  # for a whole request, and for a client to hang up
MOST_DISCARDED = 64 * 1024
NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)
NO_ROOM = (errno.EMFILE, errno.ENFILE)
DRAIN_S = 0.05  # for a body that nobody read: it is there already, or the connection ends

LEANS_ON: dict[Any, str] = {
    TConn: "init close",
    ThreadWorker: "accept enqueue_req finish_request handle handle_error murder_pending"
    " on_client_socket_readable on_pending_socket_readable _keepalive_after",
    Parser: "finish_body",
    Unreader: "take_buffered unread",
    wsgi.Response: "default_headers",
    util: "write_error write_nonblock",
}


def check_gunicorn() -> None:
    """Refuse a gunicorn that calls otherwise what is overridden here: it would drop calls."""
    for owner, names in LEANS_ON.items():
        if missing := [name for name in names.split() if not hasattr(owner, name)]:
            raise ImportError(
                f"this gunicorn's {owner.__name__} has no {', '.join(missing)}: install the one of "
                'requirements.txt, or set GUNICORN_CMD_ARGS="--worker-class gthread"'
            )


check_gunicorn()


class Connection(TConn):  # type: ignore[misc]
    """A connection and what has come of its next request."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.incoming = Incoming()
        self.at_end = False  # the client sends no more
        self.leaving = False  # answered; waiting for the client to hang up
        self.closed = False
        self.discarded = 0

    def is_ready(self) -> bool:
        """Say whether a thread can answer without waiting; read on only while it cannot.

        Whoever sends one request behind the other would fill the memory otherwise.
        """
        if self.parser:  # it may have read into the next request
            read_ahead = self.parser.unreader.take_buffered()
            if read_ahead:
                self.incoming = Incoming(read_ahead + bytes(self.incoming.received))
        if not self.incoming.is_whole():
            self.incoming.received += self.receive()
        return self.at_end or self.incoming.is_whole()

    def receive(self) -> bytes:
        """Return what has come; none at the end, or when nothing has."""
        try:
            part: bytes = self.sock.recv(65536)
        except BlockingIOError:
            return b""
        except OSError:
            part = b""
        self.at_end = not part
        return part

    def hand_over(self) -> None:
        """Let gunicorn's parser read what was received."""
        self.init()
        self.parser.unreader.unread(bytes(self.incoming.received))
        self.incoming = Incoming()


class Worker(ThreadWorker):  # type: ignore[misc]
    """What gunicorn.conf.py names as worker_class."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.quitting = False
        # Together less than worker_connections: then it never stops to accept.
        self.max_keepalived = self.worker_connections // 2
        self.most_pending = max(1, self.worker_connections // 4)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Quit once, and touch no lock: Ctrl-C comes from the terminal and from the master.

        gthread shuts its pool down in here, and waits for ever where the signal has interrupted
        a hand-over to the pool, or the first signal's own shutdown. The interpreter does it later.
        """
        if not self.quitting:
            self.quitting = True
            BaseWorker.handle_quit(self, sig, frame)

    def init_process(self) -> None:
        """Answer without a banner, in this process."""
        wsgi.Response = Response
        util.write_error = write_error
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Take a connection; the poller waits for its request."""
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in NO_ROOM:
                self._make_room()  # the listener says at once, and again, that somebody waits
            elif error.errno not in NOT_NOW:
                raise
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self.cfg, sock, address, listener.getsockname()))

    def enqueue_req(self, conn: Connection) -> None:
        """Give a request to a thread, or wait for the rest of it."""
        if self._is_ready(conn):
            super().enqueue_req(conn)
        elif conn.incoming.is_too_long():
            refusal = LimitRequestHeaders("limit request headers fields size")
            self.handle_error(None, conn.sock, conn.client, refusal)
            self._part_from(conn)
        else:
            self._wait_for(conn)

    def on_pending_socket_readable(self, conn: Connection, client: Any) -> None:
        """Read on."""
        if conn.closed:
            return  # to make room, by what else happened at this moment
        if conn.leaving:
            conn.discarded += len(conn.receive())
            if conn.at_end or conn.discarded > MOST_DISCARDED:
                self._forget(conn, client)
                self._close(conn)
        elif self._is_ready(conn) or conn.incoming.is_too_long():
            self._forget(conn, client)
            self.enqueue_req(conn)

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Do as gunicorn does, but let the poller wait until the client hangs up."""
        if fs.cancelled() or (fs.exception() is None and not fs.result()):
            self._part_from(conn)
        else:
            super().finish_request(conn, fs)

    def handle(self, conn: Connection) -> Any:
        """Answer a request, on a thread."""
        if conn.incoming.received:
            conn.hand_over()
        conn.data_ready = True
        return super().handle(conn)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        deadline = time.monotonic() + DRAIN_S
        return keepalive and bool(conn.parser.finish_body(deadline=deadline))

    def _is_ready(self, conn: Connection) -> bool:
        if self.cfg.is_ssl:
            return True  # these bytes say nothing before they are decrypted
        conn.sock.setblocking(False)
        if conn.is_ready():
            return True
        if conn.incoming.is_asked_to_go_on():
            with suppress(OSError):  # gunicorn would say so too, but only once a thread reads
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    def _wait_for(self, conn: Connection) -> None:
        """Wait for a client, but no longer than PATIENCE_S: murder_pending ends it then.

        Where many are waited for, the one that has had the most time has to go.
        """
        if len(self.pending_conns) >= self.most_pending:
            self._make_room()
        conn.timeout = time.monotonic() + PATIENCE_S
        readable = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        self.pending_conns.append(conn)

    def _make_room(self) -> None:
        if self.pending_conns:
            oldest = self.pending_conns[0]
            self._forget(oldest, oldest.sock)
            self._close(oldest)

    def _forget(self, conn: Connection, client: Any) -> None:
        self.poller.unregister(client)
        self.pending_conns.remove(conn)

    def _part_from(self, conn: Connection) -> None:
        """Close as RFC 9112, 9.6 asks for: what was sent last is not to be lost in a reset."""
        conn.leaving = True
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self._wait_for(conn)
        except OSError:
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        conn.closed = True
        self.nr_conns -= 1
        conn.close()


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's, but it does not say whose it is."""

    def default_headers(self) -> list[str]:
        """Leave the banner out."""
        headers: list[str] = super().default_headers()
        return [line for line in headers if not line.startswith("Server:")]


def write_error(sock: socket.socket, status: int, reason: str, _: str) -> None:
    """Answer what gunicorn refuses itself as the bridge does: a bare status, the same headers."""
    lines = [f"HTTP/1.1 {status} {reason}", "Connection: close", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in SECURITY_HEADERS.items()]
    util.write_nonblock(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"))
