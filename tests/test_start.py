"""What the client of /start makes of servers that behave, and of servers that do not."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import StartFailed
from bridge.start import Session, StartClient, read_session
from tests.conftest import LINE
from tests.misbehaving import GOOD, Server, answer, drip, hang_up, say_nothing


def client(url: str, waits: list[float] | None = None) -> StartClient:
    """Return a client that notes how long it would have waited, instead of waiting."""
    noted = waits if waits is not None else []
    return StartClient(url, "websocket", sleep=noted.append)


def ask(start: StartClient, within_s: float = 5.0) -> Session:
    return start.start(LINE, "twilio", time.monotonic() + within_s)


def failure(url: str, within_s: float = 5.0) -> StartFailed:
    """Return why there is no session; no request outlives its failure."""
    start = client(url)
    with pytest.raises(StartFailed) as caught:
        ask(start, within_s)
    assert "pk_test_canary" not in str(caught.value)
    return caught.value


def test_session_is_what_start_returned() -> None:
    """URL, token and id arrive as they were sent."""
    with Server(answer()) as server:
        session = ask(client(server.url))

    assert session == Session(GOOD["wsUrl"], GOOD["token"], GOOD["sessionId"])


def test_request_is_the_documented_one() -> None:
    """POST /v1/public/{agent}/start, the public key as Bearer, transport websocket."""
    with Server(answer()) as server:
        ask(client(server.url))

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/public/my-agent/start HTTP/1.1\r\n")
    assert b"Authorization: Bearer pk_test_canary\r\n" in head
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {"transport": "websocket"}


def test_transport_and_agent_are_filled_in() -> None:
    """The development runner wants the carrier's name; an agent's name is encoded into the path."""
    with Server(answer()) as server:
        start = StartClient(server.url, "{provider}")
        start.start(replace(LINE, agent="a/b c"), "plivo", time.monotonic() + 5)

    assert server.requests[0].startswith(b"POST /v1/public/a%2Fb%20c/start ")
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2]) == {"transport": "plivo"}


def test_session_id_is_optional() -> None:
    """Pipecat's development runner sends none."""
    without = {name: GOOD[name] for name in ("token", "wsUrl")}
    with Server(answer(body=without)) as server:
        assert ask(client(server.url)).id is None


def test_one_connection_serves_many_calls() -> None:
    """The pool keeps the connection: no call but the first pays for a handshake."""
    with Server(answer()) as server:
        start = client(server.url)
        for _ in range(5):
            ask(start)

        assert (len(server.requests), server.connections) == (5, 1)


def test_cookies_and_redirects_are_not_followed() -> None:
    """One caller's cookie never travels with another's; a redirect is a failure with its status."""
    with Server(answer(headers={"Set-Cookie": "a=b; Path=/"})) as server:
        start = client(server.url)
        ask(start)
        ask(start)
        assert b"ookie" not in server.requests[1]
    with Server(answer(302, headers={"Location": "/elsewhere"})) as server:
        assert "status 302" in str(failure(server.url))
        assert len(server.requests) == 1


def test_proxy_settings_are_read_once_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY counts when the client is made, not when a call comes in."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Server(answer()) as proxy:
        address = proxy.url.partition("/v1")[0]
        monkeypatch.setenv("http_proxy", address)
        through_proxy = client("http://start.example/{agent}")
        monkeypatch.delenv("http_proxy")
        ask(through_proxy)

        assert proxy.requests[0].startswith(b"POST http://start.example/my-agent ")


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_server_trouble_is_tried_again(status: int) -> None:
    """5xx and 429 are asked again while there is time, each time after a longer wait."""
    waits: list[float] = []
    with Server(answer(status), answer(status), answer()) as server:
        ask(client(server.url, waits))

        assert len(server.requests) == 3
    assert waits == [0.1, 0.2]


def test_closed_kept_alive_connection_is_replaced_at_once() -> None:
    """A server that hangs up instead of answering is asked again without a wait."""
    waits: list[float] = []
    with Server(answer(), hang_up, answer()) as server:
        start = client(server.url, waits)
        ask(start)
        ask(start)

        assert len(server.requests) == 3
    assert waits == [0.0]


def test_refused_connection_is_tried_again() -> None:
    """A process that is just being restarted is given until the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    waits: list[float] = []
    started: list[Server] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3 and not started:
            server = Server(answer())
            server._listener.close()
            server._listener = socket.create_server(("127.0.0.1", port))
            started.append(server.__enter__())

    try:
        start = StartClient(f"http://127.0.0.1:{port}/{{agent}}", "websocket", sleep=wait)
        assert ask(start).token == GOOD["token"]
    finally:
        for server in started:
            server.__exit__(None, None, None)
    assert waits == [0.0, 0.2, 0.4]


def test_retry_after_is_honoured() -> None:
    """A server that says when to come back is believed while there is time."""
    waits: list[float] = []
    with Server(answer(429, headers={"Retry-After": "2"}), answer()) as server:
        ask(client(server.url, waits))

    assert waits == [2.0]


def test_retry_after_beyond_the_deadline_ends_it() -> None:
    """No caller waits for an answer that cannot come in time."""
    with Server(answer(429, headers={"Retry-After": "60"})) as server:
        failed = failure(server.url)

        assert len(server.requests) == 1
    assert (failed.kind, failed.attempts) == ("at_capacity", 1)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413])
def test_refusal_is_not_tried_again(status: int) -> None:
    """Asking again changes nothing: one request, and the server's own words in the message."""
    body = {"error": "Because", "code": "PCC-1002", "secret": "not shown"}
    with Server(answer(status, body)) as server:
        failed = failure(server.url)

        assert len(server.requests) == 1
    assert failed.kind == "refused"
    assert str(failed).startswith(f"status {status}, error 'Because', code 'PCC-1002'")
    assert "not shown" not in str(failed)


def test_refusals_name_the_setting_to_check() -> None:
    """401 and 404 are nearly always one wrong variable."""
    for status, variable in ((401, "PIPECAT_PUBLIC_KEY"), (404, "PIPECAT_AGENT")):
        with Server(answer(status, b"<html>")) as server:
            assert variable in str(failure(server.url))


def test_both_documented_capacity_bodies_are_understood() -> None:
    """One 429 says "message" and "code", the other "error" and "code"."""
    bodies = [
        {"status": 429, "code": "429", "message": "Rate limit exceeded"},
        {"error": "Service maximum agent instances reached", "code": "PCC-AGENT-AT-CAPACITY"},
    ]
    for body, words in zip(bodies, ("Rate limit", "PCC-AGENT-AT-CAPACITY"), strict=True):
        with Server(answer(429, body, {"Retry-After": "60"})) as server:
            assert words in str(failure(server.url))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"<html>Bad gateway</html>", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        ([], "JSON list"),
        (None, "JSON NoneType"),
        ({}, "websocket_auth"),
        (GOOD | {"token": None}, "websocket_auth"),
        (GOOD | {"token": ""}, "websocket_auth"),
        (GOOD | {"token": 7}, "'token'"),
        (GOOD | {"token": "a/b"}, "'token'"),
        (GOOD | {"token": "a b"}, "'token'"),
        (GOOD | {"token": "a?b"}, "'token'"),
        (GOOD | {"token": "a%2fb"}, "'token'"),
        (GOOD | {"token": "{{a}}"}, "'token'"),
        (GOOD | {"token": "a\n"}, "'token'"),
        (GOOD | {"token": ".."}, "'token'"),
        (GOOD | {"token": "é"}, "'token'"),
        ({"token": "a"}, "'wsUrl'"),
        (GOOD | {"wsUrl": "undefined"}, "'wsUrl'"),
        (GOOD | {"wsUrl": ""}, "'wsUrl'"),
        (GOOD | {"wsUrl": ["wss://a"]}, "'wsUrl'"),
        (GOOD | {"wsUrl": "https://a.example/x"}, "not wss"),
        (GOOD | {"wsUrl": "wss:///x"}, "no host"),
        (GOOD | {"wsUrl": "wss://a.example:port/x"}, "port"),
        (GOOD | {"wsUrl": "wss://[::1/x"}, "host"),
        (GOOD | {"wsUrl": "wss://u:p@a.example/x"}, "user name"),
        (GOOD | {"wsUrl": "wss://a.example/x#y"}, "characters"),
        (GOOD | {"wsUrl": "wss://a.example/{{x}}"}, "characters"),
        (GOOD | {"wsUrl": 'wss://a.example/"'}, "characters"),
        (GOOD | {"wsUrl": "ws://a.example/x"}, "loopback"),
        (GOOD | {"wsUrl": "ws://127.0.0.1.example/x"}, "loopback"),
        (b'{"token": "' + b"a" * 70_000 + b'"}', "more than 65536 bytes"),
    ],
)
def test_garbage_is_no_session(body: object, problem: str) -> None:
    """Every field is checked; what is wrong with it is said, the token is not."""
    with Server(answer(body=body)) as server:
        failed = failure(server.url)

    assert failed.kind == "garbage"
    assert problem in str(failed)
    assert GOOD["token"] not in str(failed)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "[::1]:7860", "a.localhost"])
def test_loopback_may_go_without_tls(host: str) -> None:
    """The gateway and the development runner hand out ws:// URLs."""
    body = json.dumps(GOOD | {"wsUrl": f"ws://{host}/ws"}).encode()

    assert read_session(body, 1).ws_url == f"ws://{host}/ws"


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(), st.lists, max_leaves=4))
def test_no_json_is_taken_for_a_session(value: Any) -> None:
    """Whatever JSON comes back, it is a whole session or StartFailed, never something between."""
    for body in (value, {"token": value, "wsUrl": GOOD["wsUrl"]}, GOOD | {"wsUrl": value}):
        outcome: Session | str
        try:
            outcome = read_session(json.dumps(body).encode(), 1)
        except StartFailed as failed:
            outcome = failed.kind
        if isinstance(outcome, Session):
            assert outcome.ws_url.startswith(("wss://", "ws://"))
            assert "/" not in outcome.token
        else:
            assert outcome == "garbage"


def test_token_is_not_in_a_repr() -> None:
    """A Session can be logged by accident without harm."""
    assert "secret" not in repr(Session("wss://a.example", "secret"))


@pytest.mark.parametrize(
    "behaviour",
    [
        say_nothing,
        drip(b""),
        drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"),
    ],
    ids=["silence", "dripping status", "dripping headers", "dripping body", "dripping chunk"],
)
def test_deadline_holds_whatever_the_server_does(behaviour: Any) -> None:
    """A byte every 20 ms keeps every read alive for ever; the caller is answered all the same."""
    with Server(behaviour) as server:
        start = client(server.url)
        started = time.monotonic()
        with pytest.raises(StartFailed) as caught:
            ask(start, within_s=0.3)
        took_s = time.monotonic() - started

        assert caught.value.kind == "deadline"
        # Without the deadline it is 30 s: the bound tells the two apart on any machine.
        assert took_s < 10
        # The abandoned request is over too: its thread and its socket are not left behind.
        assert requests_end(start)


def test_deadline_holds_for_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name has no timeout of its own."""
    over = threading.Event()

    def hang(*_: object, **__: object) -> Any:
        over.wait(30)
        raise OSError("nothing found")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = client("http://start.example/{agent}")
    started = time.monotonic()
    with pytest.raises(StartFailed) as caught:
        ask(start, within_s=0.3)
    took_s = time.monotonic() - started
    over.set()

    assert caught.value.kind == "deadline"
    assert took_s < 10
    assert requests_end(start)


def test_deadline_after_a_failure_names_both() -> None:
    """The last answer before silence is the better clue."""
    with Server(answer(503), say_nothing) as server:
        failed = failure(server.url, within_s=0.5)

    assert (failed.kind, failed.attempts) == ("deadline", 2)
    assert "status 503" in str(failed)


def test_silence_after_a_429_is_still_a_full_house() -> None:
    """The caller is held, not sent away."""
    with Server(answer(429), say_nothing) as server:
        assert failure(server.url, within_s=0.5).kind == "at_capacity"


def test_no_time_left_is_no_request() -> None:
    """A deadline in the past costs the server nothing."""
    with Server(answer()) as server:
        assert failure(server.url, within_s=-1).kind == "deadline"
        assert server.requests == []


def test_many_calls_share_one_client() -> None:
    """Answers are never mixed up between threads."""
    with Server(answer()) as server:
        start = client(server.url)
        with ThreadPoolExecutor(16) as pool:
            sessions = list(pool.map(lambda _: ask(start), range(100)))

        assert len(server.requests) == 100
        assert server.connections <= 16
    assert {session.token for session in sessions} == {GOOD["token"]}


def requests_end(start: StartClient) -> bool:
    """Say whether the client's threads come back to rest: none is left reading a dead answer."""
    end = time.monotonic() + 10
    while start._http.in_flight and time.monotonic() < end:
        time.sleep(0.01)
    return not start._http.in_flight


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def ca_bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """The file by which somebody comes to know it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[Server]:
    """A server that answers over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = Server(answer())
    server._listener = context.wrap_socket(server._listener, server_side=True)
    server.url = server.url.replace("http://127.0.0.1", "https://localhost")
    with server:
        yield server


def test_unknown_certificate_is_refused(tls_server: Server) -> None:
    """One context for all connections still checks every certificate."""
    start = StartClient(tls_server.url, "websocket")
    with pytest.raises(StartFailed, match="CERTIFICATE_VERIFY_FAILED") as caught:
        ask(start, within_s=0.5)

    assert caught.value.kind == "unreachable"
    assert tls_server.requests == []


def test_ca_bundle_of_the_environment_is_used(
    tls_server: Server, ca_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE counts, and is read once when the client is made."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_bundle))
    start = client(tls_server.url)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")

    assert ask(start).token == GOOD["token"]


def test_ca_bundle_is_loaded_once(
    tls_server: Server, ca_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading it costs 18 ms of CPU: once per process, not once per connection."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_bundle))
    start = client(tls_server.url)

    def loaded_again(*_: object, **__: object) -> None:
        raise AssertionError("the CA bundle was loaded for a connection")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", loaded_again)
    for _ in range(2):
        assert ask(start).token == GOOD["token"]
