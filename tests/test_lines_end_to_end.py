"""Lines through real sockets: the right bot answers, and it knows the caller."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

import demo
from gateway.agents import Agent
from gateway.echo import echo
from simulator.__main__ import CARRIERS
from simulator.__main__ import main as simulator
from tests.running_gateway import running as gateway_running

NUMBERS = """\
[default]
agent = "reception"
body = { k = ">>>???", vip = true }

["+14155550101"]
agent = "support"

["+14155550102"]
accept = "busy"

["+14155550103"]
agent = "open"
websocket_auth = "none"
"""
AGENTS = (
    Agent("reception", "local-org", needs_token=True),
    Agent("support", "local-org", needs_token=True),
    Agent("open", "local-org"),
)


@dataclass
class House:
    """A bridge with lines, and what its bots were told."""

    env: dict[str, str]
    url: str
    told: list[dict[str, Any]] = field(default_factory=list)
    log: Path = Path()

    def ring(self, carrier: str, to_number: str, expected_exit: int = 0) -> dict[str, Any]:
        """Simulate a call and return its report."""
        self.told.clear()
        arguments = [carrier, f"--url={self.url}/{carrier}/voice", f"--to={to_number}", "--json"]
        short = ["--tone=0.1", "--listen=0.1"]
        result = CliRunner().invoke(simulator, [*arguments, *short], env=self.env)
        assert result.exit_code == expected_exit, result.output + self.log.read_text()
        call: dict[str, Any] = json.loads(result.stdout)["calls"][0]
        return call


class Listening:
    """Passes a socket on to the echo bot and keeps the `start` message that comes first."""

    def __init__(self, socket: web.WebSocketResponse, told: dict[str, Any]) -> None:
        self._socket = socket
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def __aiter__(self) -> "Listening":
        return self

    async def __anext__(self) -> Any:
        frame = await self._socket.__anext__()
        start = json.loads(frame.data).get("start") or {}
        self._told.update(start.get("customParameters") or {})
        return frame


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One gateway with three agents, one bridge."""
    folder = tmp_path_factory.mktemp("house")
    told: list[dict[str, Any]] = []

    async def bot(socket: web.WebSocketResponse, body: dict[str, Any] | None) -> None:
        told.append(dict(body or {}))
        await echo(Listening(socket, told[-1]), body)  # type: ignore[arg-type]

    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_running(*AGENTS, bot=bot))
        url = f"http://127.0.0.1:{demo.free_port()}"
        env = demo.environment(f"http://{gateway.origin}", url, folder) | {
            "NUMBERS": NUMBERS,
            "PIPECAT_ORGANIZATION": "local-org",
            "PIPECAT_SOCKET_URL": f"ws://{gateway.origin}/ws/generic/{{agent}}.{{organization}}",
        }
        log = folder / "bridge.log"
        demo.start(stack, demo.procfile_command(), env, log, url)
        yield House(env, url, told, log)


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_bot_is_told_what_the_line_says(house: House, carrier: str) -> None:
    """{"k": ">>>???"} arrives intact, beside who calls whom."""
    house.ring(carrier, "+14155550123")

    [told] = house.told
    assert told["k"] == ">>>???"
    assert told["vip"] == ("true" if carrier == "twilio" else True)
    names = ("from_number", "to_number") if carrier == "twilio" else ("from", "to")
    assert [told[name] for name in names] == ["+14155550100", "+14155550123"]
    assert told["direction"] == "inbound"


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_number_reaches_its_agent(house: House, carrier: str) -> None:
    """Plivo sends it without the plus; the socket is the agent's own."""
    for number, agent in (("+14155550101", "support"), ("+14155550123", "reception")):
        call = house.ring(carrier, number)
        steps = " ".join(step["what"] for step in call["timeline"])
        assert f"/ws/generic/{agent}.local-org/" in steps


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_line_that_is_busy_turns_the_caller_away(house: House, carrier: str) -> None:
    """Nobody answers, nobody is billed, and the simulator says how the call ended."""
    call = house.ring(carrier, "+14155550102", expected_exit=3)

    assert "turned away (busy)" in call["reason"]
    assert house.told == []


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_agent_without_tokens_is_reached_without_start(house: House, carrier: str) -> None:
    """websocket_auth = "none": the socket's URL is built, and the bot is told the same."""
    house.ring(carrier, "+14155550103")

    assert house.told[0]["k"] == ">>>???"
    assert "no token asked for" in house.log.read_text()
    assert "websocket_auth is none for open" in house.log.read_text()
