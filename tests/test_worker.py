"""How requests are taken, over real sockets, by the bridge as the Procfile runs it."""

import errno
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import ThreadWorker

import demo
from bridge.headers import SECURITY_HEADERS
from bridge.worker import PATIENCE_S, Connection, Worker, check_gunicorn
from tests.test_faults import House, house

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
UNSIGNED = b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One bridge for all of them; nobody calls."""
    with house(tmp_path_factory.mktemp("worker")) as running:
        yield running


@pytest.fixture
def line(home: House) -> Iterator[socket.socket]:
    """A connection to it."""
    with connect(home) as sock:
        yield sock


def connect(home: House) -> socket.socket:
    """Open a connection; the caller closes it."""
    address = ("127.0.0.1", int(demo.port_of(home.bridge_url)))
    return socket.create_connection(address, timeout=20)


def answer(line: socket.socket) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of the next answer; its body is read too."""
    with line.makefile("rb", buffering=0) as reader:
        status = int(reader.readline().split()[1])
        headers = {}
        while text := reader.readline().decode().strip():
            name, _, value = text.partition(": ")
            headers[name] = value
        reader.read(int(headers.get("Content-Length", "0")))
    return status, headers


ODD = {
    "200": (HEALTH, 200),
    "403": (UNSIGNED, 403),
    "404": (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "405": (b"PUT /twilio/voice HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "413": (b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413),
    "no request": (b"\x16\x03\x01\x02\r\n\r\n", 400),
    "no header": (b"GET /health HTTP/1.1\r\nHost: a\r\nb ad\r\n\r\n", 400),
    "two lengths": (
        b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\nabcdef",
        400,
    ),
    "length and chunks": (
        b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "long line": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long field": (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
    "many fields": (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 60 + b"\r\n", 431),
    "no end": (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: aaaaaaaaaaaa\r\n" * 3000, 431),
}


@pytest.mark.parametrize("name", ODD)
def test_every_answer_has_its_headers_and_no_banner(line: socket.socket, name: str) -> None:
    """The bridge's own answers and those that gunicorn gives before it is asked."""
    request, expected = ODD[name]
    line.sendall(request)
    status, headers = answer(line)

    assert status == expected
    assert headers.items() >= SECURITY_HEADERS.items()
    assert "Server" not in headers
    assert not any("gunicorn" in value.lower() for value in headers.values())


def test_connection_serves_one_request_after_the_other(line: socket.socket) -> None:
    """Kept alive, as Heroku's router keeps them, and whatever pieces a request comes in."""
    for request in (UNSIGNED, HEALTH, UNSIGNED):
        for at in range(0, len(request), 20):
            line.sendall(request[at : at + 20])
        assert answer(line)[0] == (200 if request is HEALTH else 403)


def test_requests_that_come_together_are_answered_in_turn(line: socket.socket) -> None:
    """Two and a half in one piece; the last one when its other half is there."""
    line.sendall(UNSIGNED + HEALTH + UNSIGNED[:30])
    assert [answer(line)[0] for _ in range(2)] == [403, 200]
    line.sendall(UNSIGNED[30:])
    assert answer(line)[0] == 403


def test_large_request_behind_another_is_not_too_long_a_head(line: socket.socket) -> None:
    """Its head came with the first one; 40,000 bytes of its body come alone."""
    line.sendall(UNSIGNED + UNSIGNED.replace(b"Content-Length: 5", b"Content-Length: 40005"))
    assert answer(line)[0] == 403
    line.sendall(b"a" * 39_000)
    line.settimeout(0.5)
    with pytest.raises(TimeoutError):
        line.recv(100)
    line.settimeout(20)
    line.sendall(b"a" * 1_000)
    assert answer(line)[0] == 403


def test_no_more_is_read_while_a_request_waits_for_its_turn() -> None:
    """Whoever sends without end, and one request behind the other, cannot fill the memory."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn = Connection(Config(), ours, "", "")
        theirs.sendall(HEALTH * 2)
        assert conn.is_ready()
        theirs.sendall(HEALTH)
        assert conn.is_ready()
        assert conn.incoming.received == HEALTH * 2
        conn.hand_over()
        assert conn.parser.unreader.read(len(HEALTH)) == HEALTH  # a thread serves one
        assert conn.is_ready()
        assert conn.incoming.received == HEALTH


def test_line_ends_that_gunicorn_refuses_are_refused_at_once(line: socket.socket) -> None:
    """LF without CR: a head that never ends as it has to is not waited for."""
    started = time.monotonic()
    line.sendall(HEALTH.replace(b"\r\n", b"\n"))
    assert answer(line)[0] == 400
    assert time.monotonic() - started < PATIENCE_S


def test_client_that_asks_first_is_told_to_go_on(line: socket.socket) -> None:
    """Expect: 100-continue, as some HTTP clients send it with a form."""
    head = UNSIGNED[:-5].replace(b"Host: a", b"Host: a\r\nExpect: 100-continue")
    line.sendall(head)
    assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.sendall(b"abcde")
    status = answer(line)[0]
    assert (answer(line)[0] if status == 100 else status) == 403  # gunicorn says it once more


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        ([b"5\r\nabcde\r\n", b"0\r\n\r\n"], 403),
        ([b"5\r\nab", b"cde\r\n0\r\nX-Sum: 1\r\n", b"\r\n"], 403),
        ([b"5;x=1\r\nabcde\r\n", b"0\r\n\r\n"], 403),
        ([b"4000\r\n" + b"a" * 0x4000 + b"\r\n"] * 5 + [b"0\r\n\r\n"], 413),
        ([b"0 x\r\n"], 400),
    ],
)
def test_chunks_are_counted(line: socket.socket, chunks: list[bytes], status: int) -> None:
    """A body without a length is read to its end, or refused at 64 KiB."""
    line.sendall(b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for chunk in chunks:
        line.sendall(chunk)

    assert answer(line)[0] == status


def test_half_a_request_is_hung_up_on(home: House) -> None:
    """Whoever stalls loses the connection, and nothing is said: at the start, in head and body."""
    with ExitStack() as stack:
        lines = [stack.enter_context(connect(home)) for _ in range(4)]
        for line, sent in zip(lines, (b"", UNSIGNED[:30], UNSIGNED[:-1], b"x" * 4000), strict=True):
            line.sendall(sent)
        assert [line.recv(100) for line in lines] == [b""] * 4


def test_second_signal_does_not_wait_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches a worker twice, from the terminal and from the master."""
    worker = object.__new__(Worker)
    worker.quitting = False
    worker.tpool = None  # whoever touches it may wait for ever
    quits: list[int] = []

    def quit_again(self: Worker, sig: int, frame: object) -> None:
        quits.append(sig)
        self.handle_quit(sig, frame)  # the second signal arrives inside

    monkeypatch.setattr(BaseWorker, "handle_quit", quit_again)
    worker.handle_quit(2, None)

    assert quits == [2]


def test_client_that_leaves_early_is_let_go(line: socket.socket) -> None:
    """The end of what it sends is the end of the connection, not of somebody's patience."""
    line.sendall(UNSIGNED[:-1])
    line.shutdown(socket.SHUT_WR)
    while line.recv(1000):
        pass


def test_client_that_does_not_read_holds_a_thread_for_seconds_only(
    gunicorn_settings: dict[str, Any],
) -> None:
    """Every accepted connection has a limit for each read and write, whoever made the listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gunicorn_settings["post_fork"](None, Mock(sockets=[listener]))
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                limits = [
                    struct.unpack("ll", accepted.getsockopt(socket.SOL_SOCKET, option, 16))
                    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
                ]

    assert limits == [(gunicorn_settings["SLOWEST_CLIENT_S"], 0)] * 2


def test_other_gunicorn_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has renamed what the worker overrides: a message, and no calls are dropped."""
    monkeypatch.delattr(ThreadWorker, "finish_request")
    with pytest.raises(ImportError, match=r"ThreadWorker has no finish_request: .*gthread"):
        check_gunicorn()


def test_process_without_free_files_makes_room() -> None:
    """Too many open files: who has stalled longest has to go, and the worker does not crash."""

    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "too many open files")

    worker = Worker(1, 1, [], None, 30, Config(), None)
    ours, theirs = socket.socketpair()
    with theirs, selectors.DefaultSelector() as worker.poller:
        worker.nr_conns = 1
        worker.enqueue_req(Connection(Config(), ours, "", ""))
        assert len(worker.pending_conns) == 1
        for _ in range(2):
            worker.accept(Full())
        assert (len(worker.pending_conns), worker.nr_conns) == (0, 0)
        assert theirs.recv(1) == b""
    worker.tmp.close()


def test_connection_that_had_to_make_room_is_not_read() -> None:
    """It may have been told of at the same moment: reading it would end the worker."""
    gone = Connection.__new__(Connection)
    gone.closed = True

    Worker.__new__(Worker).on_pending_socket_readable(gone, None)
