"""Pipecat's own parser, serializers, runner and client, against the bridge and the gateway.

`make interop` runs these: Pipecat is installed in an environment of its own.
"""

from pathlib import Path
from typing import Any

import pytest

from gateway.agents import Agent
from simulator.__main__ import CARRIERS
from tests.interop.conftest import Answering, refused_host, start_session
from tests.running_gateway import running

pytestmark = pytest.mark.interop

CALLER, CALLEE = "+14155550100", "+14155550123"


def handed_over(told: dict[str, Any]) -> dict[str, Any]:
    """Return the caller's data: Twilio's Parameters, the others' ?body=."""
    data: dict[str, Any] = told["parameters" if told["carrier"] == "twilio" else "body"]
    return data


@pytest.fixture(params=["hosted", "runner"])
def answering(request: pytest.FixtureRequest) -> Answering:
    """Both ways in which a bot is run."""
    found: Answering = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_call_is_answered_and_its_replay_is_refused(answering: Answering, carrier: str) -> None:
    """Pipecat's parser names carrier and call, its serializer speaks, a spent token gets 403."""
    report, told = answering.call(carrier)

    assert report["outcome"] == "answered"
    assert report["heard_s"] >= 0.4
    assert report["ignored"] == {}
    assert any("refused with 403" in step["what"] for step in report["timeline"])
    assert (told["carrier"], told["call_id"]) == (carrier, report["call_id"])


@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])
def test_parser_names_the_numbers(answering: Answering, carrier: str) -> None:
    """Twilio's come from Parameters, Telnyx's from its start message; Plivo's parser has none."""
    _, told = answering.call(carrier)

    assert (told["caller"], told["callee"]) == (CALLER, CALLEE)


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_hosted_bot_is_told_who_calls(hosted: Answering, carrier: str) -> None:
    """As README's table says it; for Plivo ?body= is the only place, and the runner ignores it."""
    report, told = hosted.call(carrier)
    from_name, to_name = ("from_number", "to_number") if carrier == "twilio" else ("from", "to")
    expected = {from_name: CALLER, to_name: CALLEE, "call_id": report["call_id"]}

    assert told["arguments"] == "WebSocketSessionArguments"
    assert expected.items() <= handed_over(told).items()
    assert told["body"].get("provider", "twilio") == carrier


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_body_of_a_line_arrives_intact(hosted: Answering, carrier: str) -> None:
    """The characters whose base64 has "+" and "/" in it, and the direction of the call."""
    _, told = hosted.call(carrier)

    assert {"k": ">>>???", "direction": "inbound"}.items() <= handed_over(told).items()


def test_runner_ignores_the_body(runner: Answering) -> None:
    """The development runner drops ?body=: a Plivo bot is told no numbers there."""
    _, told = runner.call("plivo")

    assert told["arguments"] == "WebSocketRunnerArguments"
    assert (told["caller"], told["callee"]) == (None, None)
    assert not told["body"]


def test_nothing_leaves_this_machine(answering: Answering) -> None:
    """No bot has looked up or called a host that is not loopback, and it would have been told."""
    for carrier in sorted(CARRIERS):
        answering.call(carrier)

    assert answering.lines("left") == []
    assert refused_host("http://carrier.example.com/") == "carrier.example.com"
    assert refused_host("http://192.0.2.1/") == "192.0.2.1"


# pipecatcloud's Session


def test_session_starts(tmp_path: Path) -> None:
    """It names no transport: a session id comes back, and no socket."""
    with running() as gateway:
        host = f"http://{gateway.origin}"
        plain = start_session(tmp_path, host, "my-agent", "pk_local")
        with_body = start_session(tmp_path, host, "my-agent", "pk_local", '{"k": ">>>???"}')

    assert set(plain["returned"]) == set(with_body["returned"]) == {"sessionId"}
    assert plain["returned"] != with_body["returned"]


@pytest.mark.parametrize(
    ("agent", "key", "code", "words"),
    [
        ("my-agent", "pk_wrong", "PCC-1002", "without a valid public api key"),
        ("nobody", "pk_local", "404", "agent deployment not found"),
        ("full", "pk_local", "PCC-AGENT-AT-CAPACITY", "maximum agent instances reached"),
    ],
    ids=["401", "404", "429"],
)
def test_session_understands_refusals(
    tmp_path: Path, agent: str, key: str, code: str, words: str
) -> None:
    """AgentStartError, with the gateway's code and its words."""
    full = Agent("full", "local-org", needs_token=True, max_agents=1, running=1)
    with running(Agent("my-agent", "local-org", needs_token=True), full) as gateway:
        outcome = start_session(tmp_path, f"http://{gateway.origin}", agent, key)

    assert outcome["error_code"] == code
    assert words in outcome["raised"]
