"""Pipecat's bot, in its own environment, behind our gateway or straight behind our bridge."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import demo
from tests.conftest import ROOT
from tests.stage import Stage, stage
from tests.waiting import eventually

INSIDE = ROOT / "tests" / "interop" / "inside"
# The base64 of this body has both characters that a URL can lose.
NUMBERS = """
[default]
agent = "my-agent"
body = { k = ">>>???" }
"""


def interpreter() -> str:
    """Return the Python that has Pipecat."""
    found = os.environ.get("INTEROP_PYTHON")
    assert found, "INTEROP_PYTHON is not set: `make interop` sets it"
    return found


def environment(folder: Path) -> dict[str, str]:
    """Return what a process of Pipecat's sees: no key of anybody, a home of its own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "INTEROP_HEARD": str(folder / "heard.jsonl"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **{name: value for name, value in os.environ.items() if name == "TEST_RUN"},
    }


@dataclass
class Answering:
    """Everything between a simulated caller and Pipecat's bot."""

    stage: Stage
    folder: Path

    def call(self, carrier: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make one call with --replay; return the simulator's report and what the bot was told."""
        result = self.stage.simulate(carrier, "--tone=0.5", "--listen=0.5", "--replay", "--json")
        assert result.exit_code == 0, result.stdout + result.stderr + self.stage.logs()
        [report] = json.loads(result.stdout)["calls"]
        told = self.told(report["call_id"], "call")
        assert eventually(lambda: bool(self.told(report["call_id"], "over"))), self.stage.logs()
        assert len(told) == 1
        return report, told[0]

    def told(self, call_id: str, what: str) -> list[dict[str, Any]]:
        """Return the lines about one call."""
        return [line for line in self.lines(what) if line["call_id"] == call_id]

    def lines(self, what: str) -> list[dict[str, Any]]:
        """Return what the bot wrote down."""
        path = self.folder / "heard.jsonl"
        written = path.read_text("utf-8").splitlines() if path.exists() else []
        return [line for line in map(json.loads, written) if line["what"] == what]


@contextmanager
def pipecat(folder: Path, port: int, script: str, *arguments: str) -> Iterator[None]:
    """Run one of the scripts until the block ends; it listens on `port`."""
    with ExitStack() as processes:
        demo.start(
            processes,
            [interpreter(), str(INSIDE / script), *arguments],
            environment(folder),
            folder / "pipecat.log",
            f"http://127.0.0.1:{port}",
        )
        yield


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    """Bridge, gateway, and the bot behind the gateway's --bot, as Pipecat Cloud hosts it."""
    folder = tmp_path_factory.mktemp("hosted")
    port = demo.free_port()
    bot = f"ws://127.0.0.1:{port}/ws"
    with pipecat(folder, port, "hosted.py", str(port)):
        with stage(folder, f"--bot={bot}", NUMBERS=NUMBERS) as running:
            yield Answering(running, folder)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    """Bridge, and straight behind it the bot in Pipecat's development runner."""
    folder = tmp_path_factory.mktemp("runner")
    port, bridge_url = demo.free_port(), f"http://127.0.0.1:{demo.free_port()}"
    env = demo.environment(f"http://127.0.0.1:{port}", bridge_url, folder)
    env |= {
        "PIPECAT_START_URL": f"http://127.0.0.1:{port}/start",
        "PIPECAT_TRANSPORT": "{provider}",
    }
    with pipecat(folder, port, "bot.py", "--ws-auth=token", f"--port={port}"):
        with ExitStack() as processes:
            demo.start(processes, demo.procfile_command(), env, folder / "bridge.log", bridge_url)
            yield Answering(Stage(env, bridge_url, folder), folder)


def start_session(folder: Path, api_host: str, *arguments: str) -> dict[str, Any]:
    """Let pipecatcloud's Session start an agent; return the outcome."""
    result = subprocess.run(
        [interpreter(), str(INSIDE / "session.py"), *arguments],
        env=environment(folder) | {"PIPECAT_API_HOST": api_host},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    outcome: dict[str, Any] = json.loads(result.stdout)
    return outcome


def refused_host(url: str) -> str:
    """Ask for a page as Pipecat's serializers call a carrier's API; return who was not reached."""
    result = subprocess.run(
        [interpreter(), str(INSIDE / "loopback.py"), url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout.strip()
