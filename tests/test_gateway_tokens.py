"""Which tokens open the gateway's socket, and which of three places decides."""

import base64
import itertools
import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.agents import Agent
from gateway.tokens import LIFETIME_S, TokenRefused, Tokens
from tests.running_gateway import Gateway, running

HOST = "my-agent.local-org"
PLACES = ("header", "query", "path")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Two agents, so that a token can be the other one's."""
    with running(
        Agent("my-agent", "local-org", needs_token=True),
        Agent("other-agent", "local-org", needs_token=True),
    ) as running_gateway:
        yield running_gateway


def good(gateway: Gateway) -> str:
    return gateway.tokens.mint(HOST)


def altered(gateway: Gateway) -> str:
    token = good(gateway)
    return ("f" if token[0] == "e" else "e") + token[1:]


def signed_by_another(gateway: Gateway) -> str:
    return Tokens(b"another key", gateway.clock).mint(HOST)


def expired(gateway: Gateway) -> str:
    gateway.clock.now -= LIFETIME_S
    token = good(gateway)
    gateway.clock.now += LIFETIME_S
    return token


def replayed(gateway: Gateway) -> str:
    token = good(gateway)
    assert gateway.status(f"/ws/generic/{HOST}/{token}") == 101
    return token


def wrong_agent(gateway: Gateway) -> str:
    return gateway.tokens.mint("other-agent.local-org")


def wrong_organisation(gateway: Gateway) -> str:
    return gateway.tokens.mint("my-agent.other-org")


def empty(_: Gateway) -> str:
    return ""


BAD: dict[Callable[[Gateway], str], str] = {
    altered: "altered",
    signed_by_another: "not one of ours",
    expired: "expired",
    replayed: "already used",
    wrong_agent: "issued for 'other-agent.local-org'",
    wrong_organisation: "issued for 'my-agent.other-org'",
}


def connect_with(gateway: Gateway, presented: dict[str, str]) -> int:
    """Open a socket with a token in each named place; return 101 or the refusal."""
    path = f"/ws/generic/{HOST}"
    if "path" in presented:
        path += f"/{presented['path']}"
    if "query" in presented:
        path += f"?token={presented['query']}"
    headers = {"Authorization": f"Bearer {presented['header']}"} if "header" in presented else {}
    return gateway.status(path, headers)


@pytest.mark.parametrize("place", PLACES)
def test_good_token_opens_from_every_place(gateway: Gateway, place: str) -> None:
    """Header, query or last path segment."""
    assert connect_with(gateway, {place: good(gateway)}) == 101


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_token_is_refused_before_the_upgrade(
    gateway: Gateway,
    place: str,
    make: Callable[[Gateway], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """403, with the reason and the place in the log, and without the token."""
    token = make(gateway)
    caplog.clear()
    caplog.set_level("INFO")

    assert connect_with(gateway, {place: token}) == 403
    assert f"refused with 403: token in the {place}: " in caplog.text
    assert BAD[make] in caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(PLACES, 2)])
@pytest.mark.parametrize("make", [*BAD, empty], ids=lambda make: make.__name__)
def test_first_place_decides(
    gateway: Gateway, first: str, second: str, make: Callable[[Gateway], str]
) -> None:
    """Header before query before path: a bad one is not saved by a good one behind it."""
    bad = make(gateway)
    token = good(gateway)

    assert connect_with(gateway, {first: bad, second: token}) == 403
    # The good one was not looked at, so it is unspent; and a bad one behind it does no harm.
    assert connect_with(gateway, {first: token, second: bad}) == 101


def test_header_of_another_scheme_is_no_token(gateway: Gateway) -> None:
    """Authorization: Basic is present, and decides."""
    path = f"/ws/generic/{HOST}/{good(gateway)}"

    assert gateway.status(path, {"Authorization": "Basic eDp5"}) == 403


def test_missing_token_is_refused(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """403, and the log says what is missing."""
    for path in (f"/ws/generic/{HOST}", f"/ws/generic/{HOST}/", f"/ws/generic?serviceHost={HOST}"):
        assert gateway.status(path) == 403
    assert caplog.text.count("token: missing") == 3


def test_service_host_may_stand_in_the_query(gateway: Gateway) -> None:
    """?serviceHost=agent.org, with the token in any of the three places."""
    base = f"serviceHost={HOST}"

    assert gateway.status(f"/ws/generic/{good(gateway)}?{base}") == 101
    assert gateway.status(f"/ws/generic?{base}&token={good(gateway)}") == 101
    header = {"Authorization": f"Bearer {good(gateway)}"}
    assert gateway.status(f"/ws/generic?{base}", header) == 101
    assert gateway.status(f"/ws/generic/{altered(gateway)}?{base}") == 403


def test_foreign_query_parameters_are_tolerated(gateway: Gateway) -> None:
    """Whatever else a carrier appends does not matter."""
    assert gateway.status(f"/ws/generic/{HOST}/{good(gateway)}?utm=1&x=&x=2") == 101


def test_token_lives_300_seconds_to_the_second(gateway: Gateway) -> None:
    """Good at 299 s, expired at 300 s."""
    first, second = good(gateway), good(gateway)
    gateway.clock.now += 299
    assert connect_with(gateway, {"path": first}) == 101
    gateway.clock.now += 1
    assert connect_with(gateway, {"path": second}) == 403
    gateway.clock.now -= 300


def test_plain_get_never_spends_a_token(gateway: Gateway) -> None:
    """A link preview, a health check or a curious person leaves the call its token."""
    import requests

    token = good(gateway)
    url = f"http://{gateway.origin}/ws/generic/{HOST}/{token}"
    assert requests.get(url, timeout=10).status_code == 426
    half = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert requests.get(url, headers=half, timeout=10).status_code == 400

    assert connect_with(gateway, {"path": token}) == 101


def test_unknown_agent_is_refused(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """403, the log names the agents there are, and not the path: a token may stand there."""
    token = good(gateway)

    assert gateway.status(f"/ws/generic/{token}") == 403
    assert gateway.status(f"/ws/generic/nobody.local-org/{token}") == 403
    assert HOST in caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize("spelling", ["{}=", "{}.", "{}%0A", "{}%20", ".{}", "{}é", "{}%ff"])
def test_one_token_has_one_spelling(gateway: Gateway, spelling: str) -> None:
    """Padding, blanks and trailing bits do not make a second token out of the first."""
    assert gateway.status(f"/ws/generic/{HOST}/{spelling.format(good(gateway))}") == 403


def test_trailing_bits_of_the_signature_are_refused() -> None:
    """Base64 of 32 bytes leaves two bits that decoders ignore; here they must be zero."""
    tokens = Tokens(b"key", lambda: 0)
    token = tokens.mint(HOST)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    padded = [part + "=" * (-len(part) % 4) for part in (token, other) for part in [part[-43:]]]
    assert base64.urlsafe_b64decode(padded[0]) == base64.urlsafe_b64decode(padded[1])

    with pytest.raises(TokenRefused, match="malformed"):
        tokens.check(other, HOST)


def test_token_has_the_published_shape() -> None:
    """{"sh", "exp", "nonce"} in this order, base64url without padding, a dot, a signature."""
    payload, _, signature = (
        Tokens(b"key", lambda: 1_712_799_700).mint("my-agent.my-org").partition(".")
    )
    decoded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()

    assert decoded.startswith('{"sh":"my-agent.my-org","exp":1712800000,"nonce":"')
    assert list(json.loads(decoded)) == ["sh", "exp", "nonce"]
    assert len(base64.urlsafe_b64decode(signature + "=")) == 32


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{1,20}\.[A-Za-z0-9_-]{1,43}", fullmatch=True))
def test_no_other_text_is_a_token(text: str) -> None:
    """Anything at all is refused, and nothing crashes."""
    with pytest.raises(TokenRefused):
        Tokens(b"key", lambda: 0).check(text, HOST)


@given(position=st.integers(0, 10_000), change=st.integers(1, 63))
def test_no_altered_token_is_a_token(position: int, change: int) -> None:
    """One character replaced anywhere: refused."""
    tokens = Tokens(b"key", lambda: 0)
    token = tokens.mint(HOST)
    at = position % len(token)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    replacement = "A" if token[at] == "." else alphabet[(alphabet.index(token[at]) + change) % 64]

    with pytest.raises(TokenRefused):
        tokens.check(token[:at] + replacement + token[at + 1 :], HOST)


def test_one_token_opens_one_of_many_sockets_at_once(gateway: Gateway) -> None:
    """Twenty carriers race with the same token: one wins."""
    from concurrent.futures import ThreadPoolExecutor

    path = f"/ws/generic/{HOST}/{good(gateway)}"
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(gateway.status, [path] * 20))

    assert sorted(statuses) == [101] + [403] * 19
