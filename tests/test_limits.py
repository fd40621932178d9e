"""What a request may cost before anybody knows who sent it: limits, then the signature, then us."""

import gzip
import time
from urllib.parse import urlencode

import pytest

from app import LARGEST_WEBHOOK_BYTES
from bridge.headers import SECURITY_HEADERS
from bridge.whole import LONGEST_BODY, Incoming
from providers.base import Fields, Provider, Webhook
from tests.conftest import Bridge, Recording, environment, signed


@pytest.fixture
def computed(carrier: type[Provider], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done with requests, in order."""
    done: list[str] = []
    verify, read_call = carrier.verify, carrier.read_call

    def note_verify(self: Provider, webhook: Webhook) -> str:
        done.append("verify")
        return verify(self, webhook)

    def note_read(self: Provider, webhook: Webhook) -> object:
        done.append("read")
        return read_call(self, webhook)

    monkeypatch.setattr(carrier, "verify", note_verify)
    monkeypatch.setattr(carrier, "read_call", note_read)
    return done


def test_limit_comes_before_the_signature_and_that_before_the_call(
    carrier: type[Provider], recorded: Recording, computed: list[str]
) -> None:
    """Too long: 413, nothing computed. Forged: verified, not read. Signed: verified, then read."""
    long = recorded.body + "&x=" + "x" * LARGEST_WEBHOOK_BYTES
    assert Bridge().ring(recorded, body=long).status_code == 413
    assert computed == []
    assert Bridge().ring(recorded, body=recorded.body + "&x=1").status_code == 403
    assert computed == ["verify"]
    assert Bridge().ring(recorded).status_code == 200
    assert computed == ["verify", "verify", "read"]


def test_limit_is_the_same_wherever_it_is_kept() -> None:
    """The worker waits for no more of a body than the app reads."""
    assert LONGEST_BODY == LARGEST_WEBHOOK_BYTES


def test_compressed_body_is_not_inflated(carrier: type[Provider], bridge: Bridge) -> None:
    """64 KB may be 64 MB: it is signed, or not, as it came, and holds no call."""
    recording = signed(carrier.name, {carrier.call_id_field: "1"})
    bomb = gzip.compress(recording.body.encode() + b"&x=" + b"x" * 10_000_000)
    assert len(bomb) < LARGEST_WEBHOOK_BYTES
    response = bridge.client(recording.received_at).post(
        recording.target,
        data=bomb,
        headers={**recording.headers, "Content-Encoding": "gzip"},
    )

    assert response.status_code == 403


def test_many_fields_cost_no_more_than_their_bytes() -> None:
    """16 times the fields cost about 16 times as much: no names collide, nothing is squared."""

    def cost_s(count: int) -> float:
        encoded = urlencode({f"{number:x}": "" for number in range(count)})
        took = []
        for _ in range(5):
            started = time.process_time()
            Fields.parse(encoded)
            took.append(time.process_time() - started)
        return min(took)

    assert cost_s(8_000) / cost_s(500) < 16 * 6


@pytest.mark.parametrize("path", ["/health", "/twilio/voice", "/nowhere", "/twilio/voice/"])
def test_headers_are_on_every_answer(bridge: Bridge, path: str) -> None:
    """200, 403, 404, 405, 413: each has them."""
    client = bridge.client(now=0)
    large = b"x" * (LARGEST_WEBHOOK_BYTES + 1)
    for response in (client.get(path), client.post(path, data=large), client.put(path)):
        assert dict(response.headers).items() >= SECURITY_HEADERS.items()
        assert "max-age=" in response.headers["Strict-Transport-Security"]


def test_headers_are_on_a_500_too(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own in front of every promise: a bare status and the same headers."""
    client = bridge.client(now=0)
    monkeypatch.setattr("bridge.voice.read_webhook", lambda *_: 1 / 0)
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    response = client.post("/twilio/voice")

    assert (response.status_code, response.data) == (500, b"")
    assert dict(response.headers).items() >= SECURITY_HEADERS.items()


def test_headers_promise_https_only_where_there_is_https() -> None:
    """On a loopback bridge a browser is not told to come back with TLS."""
    client = Bridge(env=environment(PUBLIC_URL="http://127.0.0.1:8000")).client(now=0)

    assert "Strict-Transport-Security" not in client.get("/health").headers


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("received", "whole"),
    [
        (b"", False),
        (HEAD, False),
        (HEAD + b"\r\n", True),
        (HEAD + b"Content-Length: 2\r\n\r\n", False),
        (HEAD + b"content-length:2\r\n\r\na", False),
        (HEAD + b"Content-Length: 2\r\n\r\nab", True),
        (HEAD + b"Content-Length: 70000\r\n\r\n", True),
        (HEAD + b"Content-Length: x\r\n\r\n", True),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 9\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", True),
        (HEAD + b"X: a\nY: b\r\n", True),
        (HEAD.replace(b"\r\n", b"\n") + b"\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 11_000, True),
    ],
)
def test_request_is_whole_when_nobody_has_to_wait_for_it(received: bytes, whole: bool) -> None:
    """Head, and as much body as it announces; what will be refused anyway is whole at once."""
    assert Incoming(received).is_whole() == whole
    piecemeal, said = Incoming(), False
    for at in range(len(received)):
        piecemeal.received += received[at : at + 1]
        said = piecemeal.is_whole()
        assert not piecemeal.is_asked_to_go_on()
        if said:
            break
    assert said == whole


def test_head_without_an_end_is_too_long_sooner_or_later() -> None:
    """32 KiB; a body does not count."""

    def is_too_long(received: bytes) -> bool:
        incoming = Incoming(received)
        assert not incoming.is_whole()
        return incoming.is_too_long()

    assert is_too_long(HEAD + b"X: a\r\n" * 6_000)
    assert not is_too_long(HEAD + b"X: a\r\n" * 5_000)
    assert not is_too_long(HEAD + b"Content-Length: 60000\r\n\r\n" + b"a" * 50_000)


def test_only_the_one_who_asks_is_told_to_go_on() -> None:
    """Expect: 100-continue, in any case, before the body has begun; once."""

    def is_asked(received: bytes) -> bool:
        incoming = Incoming(received)
        assert not incoming.is_whole()
        asked = incoming.is_asked_to_go_on()
        assert not incoming.is_asked_to_go_on()
        return asked

    asks = HEAD + b"expect: 100-Continue\r\nContent-Length: 9\r\n\r\n"
    assert is_asked(asks)
    assert not is_asked(asks + b"a\r\n\r\n")
    assert not is_asked(HEAD + b"Content-Length: 2\r\n\r\n")


@pytest.mark.parametrize("start", [HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"])
def test_every_byte_is_looked_at_once(start: bytes) -> None:
    """16 times as much, a byte at a time, costs about 16 times as much: nothing is squared."""

    def cost_s(chunks: int) -> float:
        request = start + b"1\r\na\r\n" * chunks
        took = []
        for _ in range(3):
            incoming = Incoming()
            started = time.process_time()
            for at in range(len(request)):
                incoming.received += request[at : at + 1]
                assert not incoming.is_whole()
            took.append(time.process_time() - started)
        return min(took)

    assert cost_s(1_600) / cost_s(100) < 16 * 4
