"""What the tests share: recorded webhooks, a bridge to post them to, approved XML."""

import json
import os
import runpy
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from werkzeug.test import TestResponse

from app import create_app
from bridge.ledger.memory import Claim, Memory, StreamSeen
from bridge.ledger.statements import Entry
from bridge.line import Hold, Line, Sorry
from bridge.metrics import Metrics
from bridge.start import Session
from providers import PROVIDERS
from providers.base import Provider, Webhook
from tests.record_webhooks import SIGNERS

# A busy machine is no reason to fail: what is slow is measured elsewhere.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

ROOT = Path(__file__).parent.parent
PUBLIC_URL = "https://bridge.example.com"

# The token holds an ampersand on purpose: a lost escape is a broken document.
SESSION = Session(
    "wss://us-west.api.pipecat.daily.co/ws/generic/my-agent.my-org", "a&b", "639f91d8"
)

LINE = Line("my-agent", "pk_test_canary", 5.0, Sorry("Sorry."), Hold("One moment.", 3))


@dataclass(frozen=True)
class Recording:
    """One webhook as a carrier sent it: tests/webhooks/<provider>[_variant].json."""

    provider: str
    secret: str
    received_at: float
    method: str
    target: str
    headers: dict[str, str]
    body: str

    def webhook(self) -> Webhook:
        """Return it as a provider sees it."""
        return Webhook(
            method=self.method,
            url=PUBLIC_URL + self.target,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.body.encode(),
            received_at=self.received_at,
        )


def load(path: Path) -> Recording:
    """Read one recording; the file's name starts with the provider's."""
    return Recording(provider=path.stem.partition("_")[0], **json.loads(path.read_text("utf-8")))


RECORDINGS = [load(path) for path in sorted((ROOT / "tests" / "webhooks").glob("*.json"))]
FIRST_OF = {recording.provider: recording for recording in reversed(RECORDINGS)}
BY_NAME = {provider.name: provider for provider in PROVIDERS}


def signed(
    provider: str,
    form: dict[str, str],
    method: str = "POST",
    target: str | None = None,
    **options: int,
) -> Recording:
    """Return a webhook with these fields, signed by the carrier's SDK for one of its routes."""
    target = target or f"/{provider}/voice"
    if method == "GET":
        target, form = f"{target}?{urlencode(form)}", {}
    if provider != "telnyx":  # the only one that signs a moment
        options.pop("now", None)
    content: dict[str, Any] = SIGNERS[provider](method, target, form, **options)
    return Recording(provider=provider, **content)


def environment(**changes: str) -> dict[str, str]:
    """Return settings under which every carrier is enabled."""
    secrets = {BY_NAME[name].secret_variable: FIRST_OF[name].secret for name in BY_NAME}
    # Not those of a numbers.toml in this folder.
    numbers = {} if "NUMBERS_FILE" in changes else {"NUMBERS": "[default]"}
    return {
        "PUBLIC_URL": PUBLIC_URL,
        "PIPECAT_AGENT": "my-agent",
        "PIPECAT_PUBLIC_KEY": "pk_test_canary",
        **numbers,
        **secrets,
        **changes,
    }


@dataclass
class FakeStart:
    """Hands out one session, or raises; remembers who asked."""

    session: Session = SESSION
    error: Exception | None = None
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def start(self, line: Line, provider: str, deadline: float) -> Session:
        """Answer as StartClient does."""
        self.asked.append((line.agent, provider, deadline))
        self.lines.append(line)
        if self.error:
            raise self.error
        return self.session


@dataclass
class FakeLedger:
    """Remembers what the process remembers, and keeps what would be written."""

    memory: Memory = field(default_factory=Memory)
    written: list[Entry] = field(default_factory=list)

    def claim(
        self, provider: str, call_id: str, numbers: tuple[str, str], held: int, now: float
    ) -> Claim:
        """Count as Ledger does when its database is away."""
        return self.memory.claim((provider, call_id), held, now)

    def stream_seen(self, provider: str, call_id: str) -> StreamSeen:
        """Answer from memory."""
        return self.memory.stream_seen((provider, call_id))

    def stream_event(self, seen: StreamSeen, entry: Entry) -> None:
        """Keep both."""
        self.memory.stream_event((entry.provider, entry.call_id), seen)
        self.written.append(entry)

    def note(self, provider: str, call_id: str, what: str, detail: str = "", **row: Any) -> None:
        """Keep it."""
        self.written.append(Entry(provider, call_id, 0, what, detail, row))

    @property
    def row(self) -> dict[str, Any]:
        """The columns of the one call's row, as they were last written."""
        return {name: value for entry in self.written for name, value in entry.columns.items()}

    def is_reachable(self) -> bool:
        """There is nothing that could be away."""
        return True


def counted(app: Flask, name: str, **labels: str) -> float:
    """Return what an app has counted under a name of its metrics."""
    metrics: Metrics = app.extensions["metrics"]
    return metrics.registry.get_sample_value(name, labels) or 0.0


@dataclass
class Bridge:
    """A bridge with a fake start; `ring` delivers a recording at the time it was recorded."""

    start: FakeStart = field(default_factory=FakeStart)
    env: dict[str, str] = field(default_factory=environment)
    ledger: FakeLedger = field(default_factory=FakeLedger)

    def client(self, now: float) -> FlaskClient:
        """Return a client of a bridge whose clock stands at `now` (Unix seconds)."""
        app = create_app(self.env, self.start, self.ledger, lambda: now)  # type: ignore[arg-type]
        return app.test_client()

    def ring(self, recording: Recording, **changes: Any) -> TestResponse:
        """Post a recording, some of it changed."""
        recording = replace(recording, **changes)
        return self.client(recording.received_at).open(
            recording.target,
            method=recording.method,
            headers=recording.headers,
            data=recording.body,
        )


RUN = f"TEST_RUN={uuid.uuid4().hex}"  # every process that a test starts inherits it


@pytest.fixture(autouse=True, scope="session")
def nothing_stays_behind() -> Iterator[None]:
    """The suite leaves no process and no file behind."""
    name, _, value = RUN.partition("=")
    os.environ[name] = value
    before = files_of_the_project()
    yield
    assert files_of_the_project() == before
    end = time.monotonic() + 10
    while (left := processes_of_this_run()) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []


def files_of_the_project() -> set[Path]:
    """Return every file but the caches that tools keep for themselves."""
    tools = {".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
    kept = {".git", ".venv", ".venv-interop"} | tools
    return {
        path
        for path in ROOT.rglob("*")
        if not kept & set(path.relative_to(ROOT).parts) and "__pycache__" not in path.parts
    }


def processes_of_this_run() -> list[str]:
    """Return the command lines of processes that tests have started and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = RUN.encode() in (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        # A helper of multiprocessing ends with the interpreter itself.
        if ours and int(folder.name) != os.getpid() and "resource_tracker" not in command:
            found.append(command)
    return [command for command in found if command]


@pytest.fixture
def gunicorn_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What gunicorn.conf.py decides, read without a folder of metrics that outlives the test."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


@pytest.fixture(params=sorted(BY_NAME))
def carrier(request: pytest.FixtureRequest) -> type[Provider]:
    """Every provider of the registry: a new one is tested before anybody writes a test for it."""
    return BY_NAME[request.param]


@pytest.fixture
def recorded(carrier: type[Provider]) -> Recording:
    """One recording of each provider."""
    return FIRST_OF[carrier.name]


@pytest.fixture(
    params=RECORDINGS, ids=lambda r: f"{r.provider}-{r.method}{'-query' * ('?' in r.target)}"
)
def any_recorded(request: pytest.FixtureRequest) -> Recording:
    """Every recording there is."""
    recording: Recording = request.param
    return recording


class XmlFile(SingleFileSnapshotExtension):
    """One real .xml file per snapshot, byte for byte."""

    file_extension = "xml"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def xml_snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Return a snapshot that a person reads and approves with `make snapshots`."""
    return snapshot.use_extension(XmlFile)
