"""What strangers cost the callers: floods and stalled connections, measured.

Every signed webhook gets its stream whatever else is sent. Figures are printed;
`pytest -m faults -n 0 -s` shows them, docs/security.md has them.
"""

import contextlib
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import quantiles

import pytest

import demo
from simulator.__main__ import CARRIERS
from simulator.carrier import AnswerRefused
from simulator.document import read_document
from simulator.ringing import Ring, RingFailed
from tests.conftest import ROOT
from tests.running_gateway import running as gateway_running
from tests.test_faults import House, house

pytestmark = pytest.mark.faults

FLOOD_S = 4.0
PACE_S = 0.1  # each of the three carriers rings once in this time


@dataclass
class Callers:
    """One caller of each carrier after the other, at a steady pace."""

    at: House
    seconds: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def during(self, what: Callable[[], object]) -> "Callers":
        """Ring while something happens."""
        threads = [threading.Thread(target=self._call, args=(name,)) for name in CARRIERS]
        for thread in threads:
            thread.start()
        try:
            what()
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join(60)
        return self

    def _call(self, name: str) -> None:
        carrier = CARRIERS[name](self.at.env[CARRIERS[name].secret_variable])
        url = f"{self.at.bridge_url}/{name}/voice"
        while not self._stopped.wait(PACE_S):
            started = time.monotonic()
            try:
                reply = Ring(url, url).send(carrier, carrier.new_call("+14155550100", "+1415555"))
                document = read_document(carrier, reply.content_type, reply.body)
                if not document.stream:
                    self.troubles.append("no stream")
            except (RingFailed, AnswerRefused) as error:
                self.troubles.append(str(error))
            self.seconds.append(time.monotonic() - started)

    @property
    def p50_ms(self) -> float:
        """What half of the callers wait at most."""
        return quantiles(self.seconds, n=100)[49] * 1000

    @property
    def p99_ms(self) -> float:
        """What all but one in a hundred wait at most."""
        return quantiles(self.seconds, n=100)[98] * 1000

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} signed, {len(self.troubles)} without a stream, "
            f"p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms, "
            f"slowest {max(self.seconds) * 1000:.0f} ms"
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The bridge as the Procfile runs it, with a gateway that works."""
    folder = tmp_path_factory.mktemp("flood")
    with house(folder, START_DEADLINE_S="5") as running:
        with gateway_running(port=running.gateway_port):
            yield running


@pytest.fixture(scope="module")
def calm(home: House) -> Callers:
    """What callers wait when nothing else happens."""
    callers = Callers(home).during(lambda: time.sleep(FLOOD_S))
    print(f"calm: {callers}")  # noqa: T201
    return callers


@pytest.mark.parametrize("kind", ["unsigned", "forged"])
def test_flood_does_not_starve_the_callers(home: House, calm: Callers, kind: str) -> None:
    """Eight connections as fast as they can: every signed webhook gets its stream."""
    command = [sys.executable, "-m", "tests.flooding", demo.port_of(home.bridge_url)]
    answered: dict[str, int] = {}

    def flood() -> None:
        result = subprocess.run(
            [*command, kind, str(FLOOD_S)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        answered.update(json.loads(result.stdout))

    callers = Callers(home).during(flood)

    print(f"{kind} flood: {answered}; {callers}")  # noqa: T201
    assert callers.troubles == []
    assert answered.keys() == {"asked", "403"}
    assert callers.p50_ms / calm.p50_ms < 100


HEAD = b"POST /twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
STALLED = {
    "nothing": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"\r\nCallSid=CA",
    "a body too long, not sent": HEAD.replace(b"1000", b"70000") + b"\r\n",
    "half a chunk": HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")
    + b"\r\nff\r\na",
    "all, and never hang up": b"POST /twilio/voice HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("sent", STALLED)
def test_clients_that_stall_do_not_hold_up_the_callers(
    home: House, calm: Callers, sent: str
) -> None:
    """200 connections, again and again, for 128 threads; half of them go on a byte at a time."""
    callers = Callers(home).during(lambda: stall(home, 200, STALLED[sent]))

    print(f"200 connections that send {sent}: {callers}")  # noqa: T201
    assert callers.troubles == []
    assert callers.p99_ms / calm.p99_ms < 30


def test_more_connections_than_a_process_takes(home: House, calm: Callers) -> None:
    """3,000, where two processes take 1,000 each: those who have had the most time have to go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"this machine allows {hard} open files: ulimit -H -n 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    try:
        callers = Callers(home).during(lambda: stall(home, 3000, HEAD))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    print(f"3,000 connections that send half a head: {callers}")  # noqa: T201
    assert "Traceback" not in (home.folder / "bridge.log").read_text()
    assert callers.troubles == []
    assert callers.p99_ms / calm.p99_ms < 30


def stall(home: House, count: int, content: bytes) -> None:
    """Open connections, and again; the first hundred go on a byte at a time."""
    address = ("127.0.0.1", int(demo.port_of(home.bridge_url)))
    end = time.monotonic() + FLOOD_S
    while time.monotonic() < end:
        with contextlib.ExitStack() as opened:
            stalled = [
                opened.enter_context(socket.create_connection(address)) for _ in range(count)
            ]
            for sock in stalled:
                with contextlib.suppress(OSError):  # hung up on
                    sock.sendall(content)
            for _ in range(4):
                time.sleep(0.5)
                for sock in stalled[:100]:
                    with contextlib.suppress(OSError):
                        sock.sendall(b"a")
