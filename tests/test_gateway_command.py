"""python -m gateway, as a process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import ROOT


@contextmanager
def gateway_process(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; give the process and its origin."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"listening on http://(\S+)", line):
                yield process, found.group(1)
                break
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_sigterm_says_goodbye() -> None:
    """Open sockets are closed with 1001, the process ends with 0, and it logged no token."""
    with gateway_process() as (process, origin):
        answer = requests.post(
            f"http://{origin}/v1/public/my-agent/start",
            headers={"Authorization": "Bearer pk_local"},
            json={"transport": "websocket"},
            timeout=10,
        ).json()
        with connect(f"{answer['wsUrl']}/{answer['token']}", proxy=None) as ws:
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=10)
        assert process.wait(10) == 0
        assert process.stdout is not None
        log = process.stdout.read()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert "stopped" in log
    assert f"open, session {answer['sessionId']}, 1 of 50 bots" in log
    assert f"closed, session {answer['sessionId']}" in log
    assert answer["token"] not in log


def test_options_reach_the_gateway() -> None:
    """Organisation, key, tunnel and faults, as typed."""
    with gateway_process(
        "--organization=acme",
        "--public-key=pk_mine",
        "--public-url=https://x.example/",
        "--start-delay=0.01",
    ) as (_, origin):
        answer = requests.post(
            f"http://{origin}/v1/public/my-agent/start",
            headers={"Authorization": "Bearer pk_mine"},
            json={"transport": "websocket"},
            timeout=10,
        )
    assert answer.json()["wsUrl"] == "wss://x.example/ws/generic/my-agent.acme"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--config", "none.toml"], "none.toml: No such file"),
        (["--bot", "http://x"], "'http://x' is neither"),
        (["--bot", "ws://"], "'ws://' is neither"),
        (["--public-url", "x.example"], "'x.example' is no http(s) URL"),
        (["--port", "70000"], "70000"),
        (["--host", "203.0.113.1"], "choose another --port or --host"),
    ],
)
def test_wrong_option_is_named(options: list[str], problem: str) -> None:
    """Exit code 2 and one sentence."""
    result = subprocess.run(
        [sys.executable, "-m", "gateway", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.returncode == 2
    assert problem in " ".join(result.stderr.split())
