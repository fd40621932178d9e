"""The rest of Pipecat Cloud that the gateway plays: /start, bots, faults."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.server import ServerConnection, serve

from gateway.agents import Agent, BadDeployFile, read_agent
from gateway.faults import Faults
from gateway.relay import relay_to
from tests.running_gateway import Gateway, running
from tests.waiting import eventually

HOST = "my-agent.local-org"
BODY = {"k": ">>>???"}
ENCODED = "eyJrIjoiPj4+Pz8/In0="  # what base64.b64encode of its JSON is


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running() as running_gateway:
        yield running_gateway


def open_socket(gateway: Gateway, query: str = "") -> AbstractContextManager[ClientConnection]:
    """Open a socket with a fresh token."""
    return gateway.open(f"/ws/generic/{HOST}/{gateway.tokens.mint(HOST)}{query}")


def test_start_hands_out_a_session(gateway: Gateway) -> None:
    """token, wsUrl and sessionId; the three of them open a socket."""
    answer = gateway.post_start()

    assert answer.status_code == 200
    assert answer.json().keys() == {"token", "wsUrl", "sessionId"}
    assert answer.json()["wsUrl"] == f"ws://{gateway.origin}/ws/generic/{HOST}"
    path = answer.json()["wsUrl"].partition(gateway.origin)[2]
    assert gateway.status(f"{path}/{answer.json()['token']}") == 101


def test_body_comes_back_encoded(gateway: Gateway) -> None:
    """Standard base64 of the JSON, ready to be percent-encoded into ?body=."""
    answer = gateway.post_start(body=BODY)

    assert answer.json()["body"] == ENCODED
    assert json.loads(base64.b64decode(ENCODED)) == BODY


def test_body_of_4_kib_is_the_limit(gateway: Gateway) -> None:
    """4,096 bytes of JSON are taken, one more is 413."""
    fits = {"k": "x" * (4096 - len('{"k":""}'))}

    assert gateway.post_start(body=fits).status_code == 200
    too_long = gateway.post_start(body={"k": fits["k"] + "x"})
    assert too_long.status_code == 413
    assert set(too_long.json()) == {"error", "code"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"key": "pk_wrong"}, 401, "PCC-1002"),
        ({"key": ""}, 401, "PCC-1002"),
        ({"agent": "nobody"}, 404, "404"),
        ({"transport": "daily"}, 400, "400"),
        ({"transport": None}, 400, "400"),
        ({"body": "text"}, 400, "400"),
        ({"body": [1]}, 400, "400"),
    ],
)
def test_refusals_have_the_two_fields_that_clients_read(
    gateway: Gateway, change: dict[str, Any], status: int, code: str
) -> None:
    """error and code, both strings."""
    answer = gateway.post_start(**change)

    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("needs_token", [True, False])
def test_start_with_neither_room_nor_transport_is_a_session_without_a_socket(
    needs_token: bool,
) -> None:
    """What pipecatcloud's Session asks for: an id, no token; the capacity counts here too."""
    agent = Agent("my-agent", "local-org", needs_token, max_agents=1)
    with running(agent) as gateway:
        url = f"http://{gateway.origin}/v1/public/my-agent/start"
        ask = partial(requests.post, url, headers={"Authorization": "Bearer pk_local"}, timeout=10)
        started = ask(json={"createDailyRoom": False, "body": {"k": "v"}})
        with_room = ask(json={"createDailyRoom": True})
        forgotten = ask(json={})
        agent.running = 1
        full = ask(json={"createDailyRoom": False})

    assert started.status_code == 200
    assert set(started.json()) == {"sessionId"}
    assert (with_room.status_code, forgotten.status_code, full.status_code) == (400, 400, 429)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 9000])
def test_start_with_anything_but_an_object_is_400(gateway: Gateway, content: bytes) -> None:
    """Not JSON, or not an object."""
    answer = requests.post(
        f"http://{gateway.origin}/v1/public/my-agent/start",
        headers={"Authorization": "Bearer pk_local"},
        data=content,
        timeout=10,
    )

    assert answer.status_code == 400


def test_agent_without_token_is_open() -> None:
    """websocket_auth = "none": no token, no body on /start, and a socket for everybody."""
    with running(Agent("my-agent", "local-org")) as gateway:
        answer = gateway.post_start()
        assert answer.json().keys() == {"wsUrl", "sessionId"}
        assert gateway.post_start(body=BODY).status_code == 400
        assert gateway.status(f"/ws/generic/{HOST}") == 101
        assert (
            gateway.status(f"/ws/generic?serviceHost={HOST}&body={quote(ENCODED, safe='')}") == 101
        )


def test_at_capacity_start_is_429() -> None:
    """As many open sockets as max_agents: /start says so, and takes calls again afterwards."""
    with running(Agent("my-agent", "local-org", needs_token=True, max_agents=1)) as gateway:
        minted = gateway.post_start().json()["token"]
        with open_socket(gateway):
            full = gateway.post_start()
            assert (full.status_code, full.json()["code"]) == (429, "PCC-AGENT-AT-CAPACITY")
            assert gateway.status(f"/ws/generic/{HOST}/{minted}") == 429
        assert eventually(lambda: gateway.post_start().status_code == 200)
        # The token that found no place was not spent on it.
        assert gateway.status(f"/ws/generic/{HOST}/{minted}") == 101


def test_minting_starts_no_bot() -> None:
    """The bot starts when the socket connects, not before: sessions alone never fill the pool."""
    started = []

    async def bot(ws: Any, body: Any) -> None:
        started.append(body)

    agent = Agent("my-agent", "local-org", needs_token=True, max_agents=1)
    with running(agent, bot=bot) as gateway:
        for _ in range(5):
            assert gateway.post_start().status_code == 200
        assert started == []
        with open_socket(gateway, f"?body={quote(ENCODED, safe='')}"):
            pass
        assert started == [BODY]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (f"?body={ENCODED}", "percent-encode"),
        (f"?body={ENCODED.replace('+', '-').replace('/', '_')}", "URL-safe"),
        ("?body=%25", "not standard base64"),
        ("?body=AAAA", "not JSON"),
        ("?body=W10%3D", "not a JSON object"),
        ("?body=" + "A" * 5600, "4096 are allowed"),
    ],
)
def test_bad_body_is_refused_rather_than_lost(
    gateway: Gateway, query: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400 before the upgrade, a clear line in the log, and the token is still good."""
    path = f"/ws/generic/{HOST}/{gateway.tokens.mint(HOST)}"

    assert gateway.status(path + query) == 400
    assert reason in caplog.text
    assert gateway.status(path) == 101


TWILIO = [
    {"event": "connected", "protocol": "Call", "version": "1.0.0"},
    {"event": "start", "streamSid": "MZ1", "start": {"streamSid": "MZ1", "callSid": "CA1"}},
]
TELNYX = [
    {"event": "connected", "version": "1.0.0"},
    {"event": "start", "stream_id": "s1", "start": {"call_control_id": "v3:a"}},
]
PLIVO = [{"event": "start", "start": {"callId": "c1", "streamId": "s1"}}]


@pytest.mark.parametrize(
    ("opening", "back"),
    [
        (TWILIO, {"event": "media", "streamSid": "MZ1", "media": {"payload": "f39/"}}),
        (TELNYX, {"event": "media", "media": {"payload": "f39/"}}),
        (
            PLIVO,
            {
                "event": "playAudio",
                "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": "f39/"},
            },
        ),
    ],
    ids=["twilio", "telnyx", "plivo"],
)
def test_echo_speaks_every_carrier(
    gateway: Gateway, opening: list[dict[str, Any]], back: dict[str, Any]
) -> None:
    """The caller's audio comes back in the carrier's framing; the bot's own track does not."""
    with open_socket(gateway) as ws:
        for message in opening:
            ws.send(json.dumps(message))
        for track, payload in (("outbound", "AAAA"), ("inbound", "f39/")):
            media = {"event": "media", "media": {"track": track, "payload": payload}}
            ws.send(json.dumps(media))

        assert json.loads(ws.recv(timeout=5)) == back


def test_echo_ignores_what_it_does_not_know(gateway: Gateway) -> None:
    """Binary frames, broken JSON and unknown events do not end a call."""
    with open_socket(gateway) as ws:
        ws.send(json.dumps(PLIVO[0]))
        for frame in (b"\x00", "{", "[]", '{"event":"media"}', '{"event":"dtmf"}'):
            ws.send(frame)
        ws.send(json.dumps({"event": "media", "media": {"payload": "AAAA"}}))

        assert json.loads(ws.recv(timeout=5))["event"] == "playAudio"


def test_echo_hangs_up_on_an_unknown_carrier(gateway: Gateway) -> None:
    """Two messages that are no carrier's: closed with 1003."""
    with open_socket(gateway) as ws:
        ws.send('{"event":"hello"}')
        ws.send('{"event":"hello"}')
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


@contextmanager
def bot_server(handler: Any) -> Iterator[str]:
    """Run a bot of the user's own, on websockets' server."""
    with serve(handler, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/bot"
        server.shutdown()
        thread.join(10)


def test_relay_carries_both_directions() -> None:
    """Text and binary, to the bot and back, with the body behind the bot's own URL."""
    paths = []

    def bot(ws: ServerConnection) -> None:
        assert ws.request is not None
        paths.append(ws.request.path)
        for frame in ws:
            ws.send(frame)

    with bot_server(bot) as url, running(bot=relay_to(url)) as gateway:
        with open_socket(gateway, f"?body={quote(ENCODED, safe='')}") as ws:
            for frame in ("text é", b"\x00\xff"):
                ws.send(frame)
                assert ws.recv(timeout=5) == frame

    assert paths == [f"/bot?body={quote(ENCODED, safe='')}"]


def test_relay_passes_the_bots_close_on() -> None:
    """The bot hangs up with a code of its own: the carrier sees that code."""

    def bot(ws: ServerConnection) -> None:
        ws.recv()
        ws.close(4001, "done")

    with bot_server(bot) as url, running(bot=relay_to(url)) as gateway:
        with open_socket(gateway) as ws:
            ws.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001


def test_relay_passes_the_carriers_close_on() -> None:
    """The carrier hangs up, with a close frame or without: the bot's socket closes too."""
    codes: list[int] = []
    done = threading.Semaphore(0)

    def bot(ws: ServerConnection) -> None:
        try:
            ws.recv()
        except ConnectionClosed as closed:
            codes.append(closed.rcvd.code if closed.rcvd else 0)
        done.release()

    with bot_server(bot) as url, running(bot=relay_to(url)) as gateway:
        with open_socket(gateway):
            pass
        assert done.acquire(timeout=5)
        with open_socket(gateway) as abrupt:
            abrupt.socket.shutdown(socket.SHUT_RDWR)
        assert done.acquire(timeout=5)

    assert codes == [1000, 1000]


def test_unreachable_bot_is_said_so(caplog: pytest.LogCaptureFixture) -> None:
    """The caller's socket is closed with 1011, and the log names the bot's URL."""
    with running(bot=relay_to("ws://127.0.0.1:9/bot")) as gateway, open_socket(gateway) as ws:
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert "ws://127.0.0.1:9/bot cannot be reached" in caplog.text


def test_faults_of_start() -> None:
    """--start-status, --start-garbage and --start-delay."""
    with running(faults=Faults(start_status=503)) as gateway:
        assert gateway.post_start().status_code == 503
        assert gateway.post_start().json()["code"] == "503"
    with running(faults=Faults(start_garbage=True)) as gateway:
        answer = gateway.post_start()
        assert (answer.status_code, answer.headers["Content-Type"][:9]) == (200, "text/html")
    with running(faults=Faults(start_delay_s=30)) as gateway:
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"http://{gateway.origin}/v1/public/my-agent/start", json={}, timeout=0.3)


def test_faults_of_the_socket() -> None:
    """--socket-status refuses without spending the token; --socket-delay keeps carriers waiting."""
    with running(faults=Faults(socket_status=503)) as gateway:
        token = gateway.tokens.mint(HOST)
        assert gateway.status(f"/ws/generic/{HOST}/{token}") == 503
        gateway.tokens.spend(gateway.tokens.check(token, HOST))
    with running(faults=Faults(socket_delay_s=0.3)) as gateway:
        started = time.monotonic()
        assert gateway.status(f"/ws/generic/{HOST}/{gateway.tokens.mint(HOST)}") == 101
        assert time.monotonic() - started >= 0.3


def test_log_holds_no_token(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever a token stands, in a right path or a mistyped one, the log does not show it."""
    caplog.set_level("DEBUG", "gateway")
    token = gateway.post_start().json()["token"]
    for path in (
        f"/ws/generic/{HOST}/{token}",
        f"/ws/generic/{HOST}/{token}",
        f"/ws/generic/{token}",
        f"/ws/generic/{HOST}?token={token}",
        f"/ws/generik/{HOST}/{token}",
        f"/ws/generic?serviceHost={token}",
    ):
        gateway.status(path)
        gateway.status(path, {"Authorization": f"Bearer {token}"})

    assert "GET /ws/generic 101" in caplog.text
    assert "(no such route) 404" in caplog.text
    assert token not in caplog.text
    assert token.partition(".")[2] not in caplog.text


def test_socket_urls_of_a_tunnel() -> None:
    """--public-url: behind a tunnel, wsUrl names the tunnel."""
    with running(socket_origin="wss://x.example") as gateway:
        assert gateway.post_start().json()["wsUrl"] == f"wss://x.example/ws/generic/{HOST}"


def test_deploy_file_is_read(tmp_path: Path) -> None:
    """The same file that `pipecat cloud deploy` reads, with its defaults."""
    path = tmp_path / "pcc-deploy.toml"
    path.write_text('agent_name = "a"\nimage = "x"\n')
    assert read_agent(path, "org") == Agent("a", "org", needs_token=False, max_agents=50)
    path.write_text('agent_name = "a"\nwebsocket_auth = "token"\n[scaling]\nmax_agents = 3\n')
    assert read_agent(path, "org") == Agent("a", "org", needs_token=True, max_agents=3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "agent_name is None"),
        ('agent_name = "a.b"', "agent_name is 'a.b'"),
        ("agent_name = 1", "agent_name is 1"),
        ('agent_name = "a"\nwebsocket_auth = "hmac"', "websocket_auth is 'hmac'"),
        ('agent_name = "a"\n[scaling]\nmax_agents = 0', "max_agents is 0"),
        ('agent_name = "a"\n[scaling]\nmax_agents = true', "max_agents is True"),
        ('agent_name = "a"\nscaling = 1', "max_agents is None"),
        ("agent_name =", "is no TOML"),
    ],
)
def test_deploy_file_errors_name_file_and_key(tmp_path: Path, content: str, problem: str) -> None:
    """What is wrong, and in which file."""
    path = tmp_path / "pcc-deploy.toml"
    path.write_text(content)
    with pytest.raises(BadDeployFile, match=r"pcc-deploy\.toml") as caught:
        read_agent(path, "org")

    assert problem in str(caught.value)


def test_missing_deploy_file_names_the_option(tmp_path: Path) -> None:
    """The cure is --config."""
    with pytest.raises(BadDeployFile, match="--config"):
        read_agent(tmp_path / "none.toml", "org")
