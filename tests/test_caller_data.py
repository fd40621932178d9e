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
from bridge.errors import ConfigError, StartFailed
from bridge.ledger.memory import StreamSeen
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
    said = ("call_id", "provider", "from", "to", "direction", "stir_attestation", "caller_name")
    assert {*said, "from_number", "to_number"} == set(NAMES)
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


def test_endless_name_takes_no_room_from_the_line(carrier: type[Provider]) -> None:
    """It is cut: who calls must not decide what the line can tell its bot."""
    endless = "名" * 3000
    numbers = f'[default]\nbody = {{ k = "{"v" * 400}" }}'
    data = told(answer(carrier.name, numbers, **{carrier.caller_name_field: endless}))

    assert data["k"] == "v" * 400
    assert data["caller_name"] == "名" * 80


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
            parameters, left_out = as_parameters(data, carrier.longest_parameter, 64_000)
            assert all(len(n) + len(v) < 500 for n, v in parameters.items())
            assert len(parameters) + len(left_out) == len(data)
        else:
            url, left_out = in_url(data, f"{SOCKET}/token", carrier.longest_stream_url)
            assert len(url) < 2048
            assert left_out == list(reversed(data))[: len(left_out)]


@pytest.mark.parametrize(
    ("room", "gone"),
    [
        (0, []),
        (1, ["last"]),
        (40, ["last", "first"]),
        (60, ["last", "first", "caller_name"]),
        (80, ["last", "first", "caller_name", "stir_attestation"]),
    ],
)
def test_what_stands_last_goes_first(room: int, gone: list[str]) -> None:
    """The line's keys from the end, then the name, then the attestation; to the character."""
    call = Call("CA1", "+1", "+2", attestation="A", name="Jane")
    data = caller_data("plivo", call, {"first": "1234567", "last": "1234567"})
    whole, _ = in_url(data, SOCKET, 10_000)
    fitted, left_out = in_url(data, SOCKET, len(whole) - room)

    assert left_out == gone
    assert len(fitted) <= len(whole) - room


def test_parameter_fits_to_the_character() -> None:
    """Name and value under 500 together, the name that Pipecat reads; all under 64 kB as XML."""
    for name, longest in (("k", 498), ("from", 499 - len("from_number"))):
        good, _ = as_parameters({name: "x" * longest}, 499, 64_000)
        assert len(good) == 1
        _, left_out = as_parameters({name: "x" * (longest + 1)}, 499, 64_000)
        assert left_out == [name]
    data = {f"k{n}": "&" * 480 for n in range(60)}
    parameters, left_out = as_parameters(data, 499, 64_000)
    assert sum(len(v) * len("&amp;") for v in parameters.values()) < 60_000
    assert left_out == [f"k{n}" for n in range(59, len(parameters) - 1, -1)]


def test_parameter_that_does_not_fit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Twilio's, too: a SIP address can be as long as its caller likes."""
    _, response = ring("twilio", {"From": f"sip:{'a' * 600}@host"})

    assert "from_number" not in told(response)
    assert "no room to tell the bot from\n" in caplog.text


def test_limits_are_the_carriers() -> None:
    """Twilio's 500 and 64 kB, Plivo's 2048; Telnyx names 2000 for URLs elsewhere."""
    limits = {n: (c.longest_parameter, c.longest_stream_url) for n, c in BY_NAME.items()}

    assert limits["twilio"][0] == 499
    assert limits["plivo"] == (None, 2047)
    assert limits["telnyx"] == (None, 2000)
    assert BY_NAME["twilio"].longest_document == 64_000


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


def test_line_has_its_own_apology_and_human(carrier: type[Provider], recorded: Recording) -> None:
    """Not those of [default]: on a failed start, on a failed stream, and after a surprise."""
    number = "+" + recorded.webhook().fields.first("To").removeprefix("+")
    numbers = (
        f'[default.sorry]\nmessage = "Default."\n["{number}".sorry]\n'
        'message = "Own words."\ndial = "+14155550142"\nvoice = "Polly.Joanna"\n'
    )
    for error in (StartFailed("refused", "no"), ZeroDivisionError("boom")):
        bridge = Bridge(FakeStart(error=error), environment(NUMBERS=numbers))
        root = ElementTree.fromstring(bridge.ring(recorded).text)
        assert root[0].text == "Own words."
        assert root[0].get("voice") == "Polly.Joanna"
        assert "".join(root[1].itertext()).strip().removeprefix("+") == "14155550142"
    after = signed(
        carrier.name,
        {carrier.call_id_field: "1", "From": "+1", "To": number},
        target=f"/{carrier.name}/after",
    )
    bridge = Bridge(env=environment(NUMBERS=numbers))
    bridge.ledger.memory.stream_event((carrier.name, "1"), StreamSeen(failed="no"))
    assert "Own words." in bridge.ring(after).text


def test_line_has_its_own_hold(carrier: type[Provider], recorded: Recording) -> None:
    """Its words in its voice, as often as HOLD_ATTEMPTS says."""
    numbers = '[default]\nhold_message = "Own hold."\n[default.sorry]\nvoice = "Polly.Joanna"'
    full = FakeStart(error=StartFailed("at_capacity", "full"))
    env = environment(NUMBERS=numbers, HOLD_ATTEMPTS="5")
    root = ElementTree.fromstring(Bridge(full, env).ring(recorded).text)

    assert (root[0].text, root[0].get("voice")) == ("Own hold.", "Polly.Joanna")
    held_often = signed(carrier.name, call_fields(), target=f"/{carrier.name}/voice?held=4")
    assert "held=5" in Bridge(full, env).ring(held_often).text
    assert Settings.from_env(env, PROVIDERS).lines.default.hold.attempts == 5


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
    env = environment(PIPECAT_WEBSOCKET_AUTH="none", PIPECAT_ORGANIZATION="my-org")
    elsewhere = Bridge(env=env | {"PIPECAT_REGION": "ap-south"})
    assert "wss://ap-south.api." in elsewhere.ring(signed(carrier.name, call_fields())).text
    bridge = Bridge(env=env)
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
    assert "websocket_auth is none for agent my-agent, and PIPECAT_ORGANIZATION" in fault
    Settings.from_env(env | {"PIPECAT_ORGANIZATION": "my-org"}, PROVIDERS)
    for changes in (
        {"PIPECAT_SOCKET_URL": "http://x/{agent}"},
        {"PIPECAT_SOCKET_URL": "wss://x/{agnet}"},
        {"PIPECAT_REGION": "us west"},
        {"PIPECAT_ORGANIZATION": "o/@"},
        {"PIPECAT_AGENT": "a.b"},
    ):
        with pytest.raises(ConfigError) as caught:
            Settings.from_env(env | {"PIPECAT_ORGANIZATION": "o"} | changes, PROVIDERS)
        [fault] = caught.value.faults
        assert next(iter(changes)) in fault
    pattern = {"PIPECAT_SOCKET_URL": "wss://sockets.example.com/{agent}"}
    assert Settings.from_env(env | pattern, PROVIDERS)  # nobody asks for the organisation there


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
