"""What breaks behind the bridge, tried on real processes under a load of calls.

Every verified webhook gets valid XML for its carrier within its deadline plus 1 s. Figures are
printed; `pytest -m faults -n 0 -s` shows them.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select

import demo
from bridge.ledger.schema import calls
from gateway.faults import Faults
from simulator.__main__ import CARRIERS
from simulator.carrier import AnswerRefused, Carrier
from simulator.document import Connect, Document, Redirect, read_document
from simulator.ringing import BridgeAnswer, Ring, RingFailed
from tests.misbehaving import Server, drip, say_nothing
from tests.running_gateway import running as gateway_running
from tests.waiting import eventually

pytestmark = pytest.mark.faults

DEADLINE_S = 1.0
CALLERS = 12


@dataclass
class Load:
    """Callers of all three carriers who ring again and again until they are stopped."""

    env: dict[str, str]
    bridge_url: str
    answers: list[tuple[float, str]] = field(default_factory=list)  # seconds, event or trouble
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        for number in range(CALLERS):
            name = sorted(CARRIERS)[number % len(CARRIERS)]
            thread = threading.Thread(target=self._call, args=(name,))
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self, name: str) -> None:
        carrier = CARRIERS[name](self.env[CARRIERS[name].secret_variable])
        url = f"{self.bridge_url}/{name}/voice"
        ring = Ring(url, url)
        while not self._stopped.is_set():
            call = carrier.new_call("+14155550100", "+14155550123")
            document = self._ask(carrier, partial(ring.send, carrier, call))
            # A stream is over at once here: what comes after it is asked for under the same fault.
            for step in document.steps if document and document.stream else ():
                then = step.action if isinstance(step, Connect) else step
                if isinstance(then, Redirect):
                    fields = carrier.webhook(call)
                    self._ask(carrier, partial(ring.post, carrier, then.url, fields))
            self._stopped.wait(0.02)

    def _ask(self, carrier: Carrier, send: Callable[[], BridgeAnswer]) -> Document | None:
        """Send one webhook; note how long it took and what the answer was."""
        started, document = time.monotonic(), None
        try:
            reply = send()
            document = read_document(carrier, reply.content_type, reply.body)
            what = "stream" if document.stream else "words"
        except (RingFailed, AnswerRefused) as error:
            what = f"trouble: {error}"
        self.answers.append((time.monotonic() - started, what))
        return document

    def figures(self, name: str) -> str:
        """Return one line: how many webhooks, how many of which answers, how long they took."""
        kinds = {what: sum(w == what for _, w in self.answers) for _, what in self.answers}
        slowest = max(seconds for seconds, _ in self.answers)
        return f"{name}: {len(self.answers)} webhooks, {kinds}, slowest {slowest * 1000:.0f} ms"


@dataclass
class House:
    """A bridge whose gateway and ledger a test may break."""

    env: dict[str, str]
    bridge_url: str
    process: subprocess.Popen[bytes]
    folder: Path
    gateway_port: int

    def load(self) -> Load:
        """Begin to call."""
        return Load(self.env, self.bridge_url)

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextlib.contextmanager
def house(folder: Path, **settings: str) -> Iterator[House]:
    """Start the bridge; the gateway is the test's to start, on a port that is always the same."""
    gateway_port, bridge_url = demo.free_port(), f"http://127.0.0.1:{demo.free_port()}"
    env = demo.environment(f"http://127.0.0.1:{gateway_port}", bridge_url, folder)
    env |= {"START_DEADLINE_S": str(DEADLINE_S)} | settings
    with contextlib.ExitStack() as processes:
        process = demo.start(
            processes, demo.procfile_command(), env, folder / "bridge.log", bridge_url
        )
        yield House(env, bridge_url, process, folder, gateway_port)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One bridge for all faults that it survives."""
    with house(tmp_path_factory.mktemp("faults")) as running:
        yield running


def some(load: Load, what: str, more: int = CALLERS) -> bool:
    """Wait until so many more answers of a kind have come."""
    so_far = sum(w == what for _, w in load.answers)
    return eventually(lambda: sum(w == what for _, w in load.answers) >= so_far + more)


def all_answered_in_time(load: Load, name: str) -> None:
    """Check the promise, and print the figures."""
    print(load.figures(name))  # noqa: T201
    assert [what for _, what in load.answers if what.startswith("trouble")] == []
    assert max(seconds for seconds, _ in load.answers) < DEADLINE_S + 1


def test_gateway_goes_away_and_comes_back(home: House) -> None:
    """Streams, then words, then streams again; nobody is left without an answer."""
    with home.load() as load:
        with gateway_running(port=home.gateway_port):
            assert some(load, "stream")
        assert some(load, "words")
        with gateway_running(port=home.gateway_port):
            assert some(load, "stream")

    all_answered_in_time(load, "gateway away and back")


@pytest.mark.parametrize(
    "faults",
    [
        Faults(start_delay_s=30),
        Faults(start_status=500),
        Faults(start_status=429),
        Faults(start_garbage=True),
    ],
    ids=["slow", "500", "429", "html"],
)
def test_start_that_fails(home: House, faults: Faults) -> None:
    """Slow, 500, 429, a page: words for every caller."""
    with gateway_running(port=home.gateway_port, faults=faults), home.load() as load:
        assert some(load, "words", 2 * CALLERS)

    all_answered_in_time(load, str(faults))


def test_start_that_drips(home: House) -> None:
    """A byte every 20 ms, for ever."""
    server = Server(drip(b"HTTP/1.1 200 OK\r\nX-Slow: "))
    server._listener.close()
    server._listener = socket.create_server(("127.0.0.1", home.gateway_port))
    with server, home.load() as load:
        assert some(load, "words", 2 * CALLERS)

    all_answered_in_time(load, "dripping")


def test_start_that_says_nothing(home: House) -> None:
    """A black hole: it takes the connection and the request, and that is all."""
    server = Server(say_nothing)
    server._listener.close()
    server._listener = socket.create_server(("127.0.0.1", home.gateway_port))
    with server, home.load() as load:
        assert some(load, "words", 2 * CALLERS)

    all_answered_in_time(load, "black hole")


def test_closed_port(home: House) -> None:
    """Nobody listens where /start should be."""
    with home.load() as load:
        assert some(load, "words", 2 * CALLERS)

    all_answered_in_time(load, "closed port")


def test_locked_ledger(home: House) -> None:
    """Another program holds the SQLite file: callers do not notice."""
    with gateway_running(port=home.gateway_port), home.load() as load:
        assert some(load, "stream")
        other = sqlite3.connect(home.folder / "ledger.sqlite3", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert some(load, "stream", 4 * CALLERS)
        other.execute("ROLLBACK")
        other.close()
        assert some(load, "stream")

    all_answered_in_time(load, "locked ledger")


def test_killed_worker_is_replaced(home: House) -> None:
    """SIGKILL: what it was answering is lost, as a carrier's retry finds out; all others go on."""
    with gateway_running(port=home.gateway_port), home.load() as load:
        assert some(load, "stream")
        before = home.workers()
        os.kill(before[0], signal.SIGKILL)
        assert eventually(lambda: len(home.workers()) == 2 and before[0] not in home.workers())
        assert some(load, "stream", 4 * CALLERS)

    print(load.figures("worker killed"))  # noqa: T201
    lost = [what for _, what in load.answers if what.startswith("trouble")]
    assert len(lost) <= CALLERS, lost
    assert max(seconds for seconds, _ in load.answers) < DEADLINE_S + 1


def test_calls_in_flight_survive_a_stop(tmp_path: Path) -> None:
    """SIGTERM during calls: every webhook that the bridge had taken is answered before it ends."""
    with house(tmp_path) as stopping:
        with gateway_running(port=stopping.gateway_port, faults=Faults(start_delay_s=0.7)):
            carrier = CARRIERS["twilio"](stopping.env["TWILIO_AUTH_TOKEN"])
            url = f"{stopping.bridge_url}/twilio/voice"
            outcomes: list[str] = []

            def ring() -> None:
                call = carrier.new_call("+14155550100", "+14155550123")
                try:
                    reply = Ring(url, url).send(carrier, call)
                    document = read_document(carrier, reply.content_type, reply.body)
                    outcomes.append("stream" if document.stream else "words")
                except RingFailed as error:
                    outcomes.append(str(error))

            callers = [threading.Thread(target=ring) for _ in range(20)]
            for caller in callers:
                caller.start()
            time.sleep(0.35)  # all have rung, none has been answered: /start takes 0.7 s
            stopping.process.send_signal(signal.SIGTERM)
            for caller in callers:
                caller.join(30)
            assert stopping.process.wait(30) == 0

    print(f"stop: 20 calls in flight, {outcomes.count('stream')} answered")  # noqa: T201
    assert outcomes == ["stream"] * 20


@pytest.fixture(scope="module")
def own_postgres() -> Iterator["OwnPostgres"]:
    """A server of this test's own, which it may stop; skipped where none is installed.

    Not in pytest's folder: another run of pytest closes that to the user postgres.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        pytest.skip("no PostgreSQL programs: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as folder:
        server = OwnPostgres(programs[-1].parent, Path(folder))
        try:
            server.create()
            yield server
        finally:
            server.stop()


@dataclass
class OwnPostgres:
    """PostgreSQL refuses to run as root: as root, it runs as the user postgres."""

    programs: Path
    folder: Path
    port: int = field(default_factory=demo.free_port)

    def run(self, *command: str) -> None:
        """Run one of its programs."""
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = user if os.getuid() == 0 else []
        subprocess.run(
            [*prefix, str(self.programs / command[0]), *command[1:]],
            cwd="/",
            check=True,
            capture_output=True,
        )

    def create(self) -> None:
        """Make an empty cluster and start it."""
        if os.getuid() == 0:
            self.folder.chmod(0o755)
            subprocess.run(["chown", "postgres", str(self.folder)], check=True)
        data = str(self.folder / "data")
        self.run("initdb", "--auth=trust", "--username=postgres", "--no-sync", f"--pgdata={data}")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
        log = str(self.folder / "log")
        self.run("pg_ctl", "-w", "-D", str(self.folder / "data"), "-o", options, "-l", log, "start")

    def count_calls(self) -> int:
        """Return how many calls the ledger knows."""
        engine = create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres")
        with engine.connect() as connection:
            found: int = connection.execute(select(func.count()).select_from(calls)).scalar_one()
        engine.dispose()
        return found

    def stop(self) -> None:
        """Stop it at once."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("pg_ctl", "-w", "-m", "immediate", "-D", str(self.folder / "data"), "stop")


def test_postgres_goes_away_and_comes_back(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    """Callers do not notice; what happened while it was away is in the ledger afterwards."""
    url = f"postgres://postgres@127.0.0.1:{own_postgres.port}/postgres"
    subprocess.run(
        [sys.executable, "-m", "bridge.ledger", "upgrade"],
        env=os.environ | {"DATABASE_URL": url},
        check=True,
    )
    with house(tmp_path, DATABASE_URL=url) as shared:
        with gateway_running(port=shared.gateway_port), shared.load() as load:
            assert some(load, "stream")
            own_postgres.stop()
            assert some(load, "stream", 4 * CALLERS)
            own_postgres.start()
            assert some(load, "stream", 2 * CALLERS)
        calls_made = sum(what == "stream" for _, what in load.answers)
        assert eventually(lambda: own_postgres.count_calls() == calls_made)

    all_answered_in_time(load, "Postgres away and back")
