"""What the bot is told about a call, and what is left out when there is no room for it."""

import json
import logging
from base64 import b64decode
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from werkzeug.test import TestResponse

from bridge.caller_data import NAMES, as_parameters, caller_data, in_url
from bridge.errors import ConfigError
from bridge.settings import Settings
from bridge.start import Session
from providers import PROVIDERS
from providers.base import Call, Provider
from tests.conftest import BY_NAME, Bridge, FakeStart, Recording, environment, signed

VECTOR = {"k": ">>>???"}  # in base64 it has a plus and a slash
SOCKET = "wss://us-west.api.pipecat.daily.co/ws/generic/my-agent.my-org"


def told(response: TestResponse) -> dict[str, Any]:
    """Return what an answer tells the bot, as Pipecat Cloud and Pipecat's parser decode it."""
    root = ElementTree.fromstring(response.text)
    stream = next(root.iter("Stream"))
    url = stream.get("url") or stream.text or ""
    if body := parse_qs(urlsplit(url).query).get("body"):
        return dict(json.loads(b64decode(body[0], validate=True)))
    return {p.get("name", ""): p.get("value") for p in root.iter("Parameter")}


def ring(
    carrier: str, fields: dict[str, str], numbers: str = "", start: FakeStart | None = None
) -> tuple[Bridge, TestResponse]:
    """Ring a bridge with these fields; return it and its answer."""
    env = environment(**({"NUMBERS": numbers} if numbers else {}))
    bridge = Bridge(start or FakeStart(), env)
    return bridge, bridge.ring(signed(carrier, call_fields() | fields))


def answer(carrier: str, numbers: str = "", **fields: str) -> TestResponse:
    """Return what a bridge answers to a call with these fields."""
    return ring(carrier, fields, numbers)[1]


def call_fields() -> dict[str, str]:
    """Return what every carrier's webhook has, under every carrier's names."""
    return {
        "CallSid": "CA1",
        "CallUUID": "CA1",
        "From": "+14155550100",
        "To": "+14155550199",
    }


def test_every_name_is_where_pipecat_looks_for_it(carrier: type[Provider]) -> None:
    """Twilio's bots read from_number and to_number; the others from and to."""
    names = ("from_number", "to_number") if carrier.name == "twilio" else ("from", "to")
    data = told(answer(carrier.name))

    assert (data[names[0]], data[names[1]]) == ("+14155550100", "+14155550199")
    assert (data["call_id"], data["provider"]) == ("CA1", carrier.name)
    assert data["direction"] == "inbound"


@pytest.mark.parametrize("word", ["outbound", "outbound-api", "outbound-dial"])
def test_direction_is_one_of_two_words(carrier: type[Provider], word: str) -> None:
    """Each carrier has its own words for a call that was placed."""
    assert told(answer(carrier.name, Direction=word))["direction"] == "outbound"
    assert told(answer(carrier.name, Direction="inbound"))["direction"] == "inbound"


ATTESTATIONS = [
    ("twilio", {"StirVerstat": "TN-Validation-Passed-A"}, "A"),
    ("twilio", {"StirVerstat": "TN-Validation-Passed-C"}, "C"),
    ("twilio", {"StirVerstat": "TN-Validation-Passed-B-Diverted"}, "B"),
    ("twilio", {"StirVerstat": "TN-Validation-Failed-A"}, "unverified"),
    ("twilio", {"StirVerstat": "No-TN-Validation"}, "unverified"),
    ("twilio", {"StirVerstat": ""}, None),
    ("twilio", {}, None),
    ("plivo", {"STIRVerification": "Verified"}, "A"),
    ("plivo", {"STIRVerification": "Not Verified"}, "unverified"),
    ("plivo", {"STIRVerification": "Not Applicable"}, None),
    ("plivo", {}, None),
    ("telnyx", {"ShakenStirAttestation": "B", "ShakenStirValidated": "true"}, "B"),
    ("telnyx", {"ShakenStirAttestation": "A", "ShakenStirValidated": "false"}, "unverified"),
    ("telnyx", {"ShakenStirAttestation": "A"}, "unverified"),
    ("telnyx", {"ShakenStirAttestation": "X", "ShakenStirValidated": "true"}, "unverified"),
    ("telnyx", {}, None),
]


@pytest.mark.parametrize(("name", "fields", "expected"), ATTESTATIONS)
def test_attestation_is_one_word_for_all_carriers(
    name: str, fields: dict[str, str], expected: str | None
) -> None:
    """A letter only where the carrier has verified it; absent where the carrier says nothing."""
    assert told(answer(name, **fields)).get("stir_attestation") == expected


def test_callers_name_is_told_when_it_is_one(carrier: type[Provider]) -> None:
    """Some carriers send the number again for want of a name."""
    for sent, expected in (
        ('Jürgen <O\'Brien> & "Co"', 'Jürgen <O\'Brien> & "Co"'),
        ("+14155550100", None),
        ("14155550100", None),
        ("", None),
        ("  ", None),
    ):
        data = told(answer(carrier.name, **{carrier.caller_name_field: sent}))
        assert data.get("caller_name") == expected


def test_body_of_the_line_reaches_the_bot(carrier: type[Provider]) -> None:
    """Besides the caller's data; nested values are JSON where a carrier knows text only."""
    numbers = '[default]\nbody = { k = ">>>???", vip = true, n = 4.5, deep = { a = [1, "é"] } }\n'
    data = told(answer(carrier.name, numbers))

    assert data["k"] == VECTOR["k"]
    if carrier.longest_parameter is None:
        assert (data["vip"], data["n"], data["deep"]) == (True, 4.5, {"a": [1, "é"]})
    else:
        assert (data["vip"], data["n"]) == ("true", "4.5")
        assert json.loads(data["deep"]) == {"a": [1, "é"]}


def test_words_over_several_lines_arrive_as_they_are(carrier: type[Provider]) -> None:
    """A prompt in a line's body keeps its line breaks, also in an XML attribute."""
    numbers = '[default]\nbody.prompt = """Be kind.\n\tBe brief.\\r\n"""\n'

    assert told(answer(carrier.name, numbers))["prompt"] == "Be kind.\n\tBe brief.\r\n"


def test_line_cannot_pretend_to_be_the_caller() -> None:
    """What the bridge says itself is never what numbers.toml says."""
    for name in NAMES:
        numbers = f'[default]\nbody = {{ {name} = "x" }}'
        with pytest.raises(ConfigError) as caught:
            Settings.from_env(environment(NUMBERS=numbers), PROVIDERS)
        assert repr(name) in str(caught.value)


def test_what_does_not_fit_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line's keys, last to first, then the name; the call goes on, no value is logged."""
    body = ", ".join(f'k{n} = "{"canary" * 15}"' for n in range(8))
    numbers = f"[default]\nbody = {{ {body} }}"
    long = FakeStart(session=Session(f"{SOCKET}?{'x' * 500}", "a" * 300, "1"))
    for name in ("plivo", "telnyx"):
        caplog.clear()
        _, response = ring(name, {}, numbers, long)

        kept = [key for key in told(response) if key.startswith("k")]
        assert 0 < len(kept) < 8
        assert kept == [f"k{n}" for n in range(len(kept))]
        gone = ", ".join(f"k{n}" for n in range(7, len(kept) - 1, -1))
        assert f"no room to tell the bot {gone}\n" in caplog.text
        assert "canary" not in caplog.text
        assert "from" in told(response)


def test_name_goes_before_the_rest_of_the_caller(carrier: type[Provider]) -> None:
    """A caller who writes an endless name loses the name, not the call."""
    endless = "x" * 3000
    numbers = '[default]\nbody = { k = "v" }'
    data = told(answer(carrier.name, numbers, **{carrier.caller_name_field: endless}))

    assert "caller_name" not in data
    assert data["direction"] == "inbound"
    # In a URL the line's keys are the first to go; among <Parameter>s each has its own limit.
    assert ("k" in data) is (carrier.longest_parameter is not None)


@given(
    body=st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=9),
        st.text(st.characters(codec="utf-8"), max_size=700),
        max_size=6,
    ),
    name=st.text(st.characters(codec="utf-8"), max_size=900),
    caller=st.text(st.characters(codec="utf-8"), max_size=900),
)
def test_no_carriers_limit_is_ever_passed(body: dict[str, str], name: str, caller: str) -> None:
    """Whatever is to be said: what is said fits, and what is left out stood behind it."""
    call = Call("CA1", caller, "+14155550199", name=name)
    for carrier in BY_NAME.values():
        data = caller_data(carrier.name, call, body)
        if carrier.longest_parameter is not None:
            parameters, left_out = as_parameters(data, carrier.longest_parameter)
            assert all(len(n) + len(v) < 500 for n, v in parameters.items())
            assert len(parameters) + len(left_out) == len(data)
        else:
            url, left_out = in_url(data, f"{SOCKET}/token", carrier.longest_stream_url)
            assert len(url) < 2048
            assert left_out == list(reversed(data))[: len(left_out)]


def test_url_that_is_too_long_by_itself_gets_the_apology() -> None:
    """Plivo and Telnyx would drop the stream; Twilio names no limit."""
    long = FakeStart(session=Session(SOCKET, "a" * 2100, "1"))
    for name, apology in (("plivo", True), ("telnyx", True), ("twilio", False)):
        bridge, response = ring(name, {}, "", long)
        assert ("Sorry" in response.text) is apology
        if apology:
            assert "characters" in bridge.ledger.row["reason"]
            assert "aaaa" not in bridge.ledger.row["reason"]


@pytest.mark.parametrize("accept", ["reject", "busy"])
def test_line_that_accepts_no_calls_turns_them_away(
    carrier: type[Provider], recorded: Recording, accept: str, xml_snapshot: SnapshotAssertion
) -> None:
    """In the carrier's own way, as the first thing it is told, without asking for a session."""
    bridge = Bridge(env=environment(NUMBERS=f'[default]\naccept = "{accept}"'))
    for _ in range(5):  # also when it is sent again
        response = bridge.ring(recorded)
        assert response.text == xml_snapshot(name=f"{carrier.name}-{accept}")

    assert bridge.start.asked == []
    assert bridge.ledger.row["outcome"] == "reject"


def test_voice_of_the_line_reads_its_messages(carrier: type[Provider]) -> None:
    """The one that is wanted; the usual one where the carrier does not have it."""
    for voice, shown in (("Polly.Joanna", "Polly.Joanna"), ("Google.en-US-Standard-B", None)):
        numbers = f'[default.sorry]\nvoice = "{voice}"'
        _, response = ring(carrier.name, {}, numbers, FakeStart(error=ValueError("broken")))
        [spoken, *_] = ElementTree.fromstring(response.text)
        if shown or carrier.name == "twilio":
            assert spoken.get("voice") == voice
        else:
            assert (spoken.get("voice") or "").lower() == "woman"


def test_agent_without_a_token_is_reached_at_its_documented_url(carrier: type[Provider]) -> None:
    """No /start; region, agent and organisation make the URL; the caller's data travel with it."""
    bridge = Bridge(env=environment(PIPECAT_WEBSOCKET_AUTH="none", PIPECAT_ORGANIZATION="my-org"))
    response = bridge.ring(signed(carrier.name, call_fields()))
    root = ElementTree.fromstring(response.text)
    stream = next(root.iter("Stream"))
    url = stream.get("url") or stream.text or ""

    assert url.partition("?")[0] == SOCKET
    assert told(response)["call_id"] == "CA1"
    assert bridge.start.asked == []
    assert bridge.ledger.row["outcome"] == "stream"


def test_websocket_auth_is_the_lines_own(caplog: pytest.LogCaptureFixture) -> None:
    """One line without tokens among others, in its own organisation and region; warned about."""
    numbers = (
        '["+14155550199"]\nagent = "open"\nwebsocket_auth = "none"\n'
        'organization = "other-org"\nregion = "eu-central"\n'
    )
    _, response = ring("twilio", {}, numbers)

    assert "wss://eu-central.api.pipecat.daily.co/ws/generic/open.other-org" in response.text
    assert "websocket_auth is none for open" in caplog.text
    other, _ = ring("twilio", {"To": "+14155550177"}, numbers)
    assert other.start.asked


def test_agents_without_tokens_need_an_organization_and_no_key() -> None:
    """What is missing is named; what is not asked for is not."""
    env = environment(PIPECAT_WEBSOCKET_AUTH="none", PIPECAT_PUBLIC_KEY="")
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(env, PROVIDERS)
    [fault] = caught.value.faults
    assert "PIPECAT_ORGANIZATION is not set" in fault
    Settings.from_env(env | {"PIPECAT_ORGANIZATION": "my-org"}, PROVIDERS)
    for changes in (
        {"PIPECAT_SOCKET_URL": "http://x/{agent}"},
        {"PIPECAT_SOCKET_URL": "wss://x/{agnet}"},
    ):
        with pytest.raises(ConfigError) as caught:
            Settings.from_env(env | {"PIPECAT_ORGANIZATION": "o"} | changes, PROVIDERS)
        assert "PIPECAT_SOCKET_URL" in str(caught.value)


@pytest.mark.parametrize("value", ["None", "yes", "tokens"])
def test_websocket_auth_is_token_or_none(value: str) -> None:
    """A typing error does not leave an agent open, nor a caller without one."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(environment(PIPECAT_WEBSOCKET_AUTH=value), PROVIDERS)

    [fault] = caught.value.faults
    assert f'PIPECAT_WEBSOCKET_AUTH is {value!r}: give "token" or "none"' in fault


def test_token_is_asked_for_unless_it_is_said_otherwise(
    recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """`none` is off by default, and nothing is warned about then."""
    caplog.set_level(logging.WARNING)
    bridge = Bridge()
    bridge.ring(recorded)

    assert len(bridge.start.asked) == 1
    assert "websocket_auth" not in caplog.text
