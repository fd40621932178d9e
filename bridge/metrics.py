"""What Prometheus is told. Labels come from us, never from a request: they are few and harmless.

With PROMETHEUS_MULTIPROC_DIR, which gunicorn.conf.py sets, every process writes its numbers into
that folder and any of them can tell the sum. https://prometheus.github.io/client_python/multiprocess/
"""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

log = logging.getLogger(__name__)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 14)
STREAM_EVENTS = ("ordered", "started", "stopped", "failed")
START_OUTCOMES = (
    *("session", "unreachable", "deadline", "refused"),
    *("unavailable", "at_capacity", "garbage", "unexpected"),
)
DOCUMENTS = ("stream", "hold", "sorry", "goodbye", "reject")
ROUTES = ("voice", "after", "stream", "status")
REFUSALS = ("signature", "header", "timestamp", "secret", "unchecked")
LEDGER_FAILURES = ("slow", "busy", "down", "refused", "dropped", "unwritten")


@contextmanager
def harmlessly() -> Iterator[None]:
    """Let no failure of a count, on a full disk for example, become the caller's."""
    try:
        yield
    except Exception:
        log.exception("something was not counted")


def shared_folder() -> Path | None:
    """Return the folder in which all processes count, or None: each counts for itself then.

    A folder that is gone, or cannot be written to, costs the sum, but no call.
    """
    name = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    try:
        if name:
            Path(name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=name).close()
            return Path(name)
    except OSError as error:
        log.error("metrics: each process counts for itself: %s: %s", name, error.strerror)
    values.ValueClass = values.MutexValue
    return None


class Metrics:
    """One per app."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, providers: Iterable[str] = ()) -> None:
        """Count for these carriers, by name."""
        self._folder = shared_folder()
        self.registry = CollectorRegistry()
        self._webhooks = Counter(
            "bridge_webhooks",
            "Webhooks by what was answered; reason says why one was refused.",
            ["provider", "route", "outcome", "reason"],
            registry=self.registry,
        )
        self._answer_seconds = Histogram(
            "bridge_answer_seconds",
            "From webhook to XML.",
            ["provider", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._start_seconds = Histogram(
            "bridge_start_seconds",
            "How long /start took, retries included; outcome is session, or why there is none.",
            ["outcome"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._start_attempts = Counter(
            "bridge_start_attempts",
            "Requests to /start; more than there are outcomes means retries.",
            registry=self.registry,
        )
        self._deadline_left_seconds = Histogram(
            "bridge_deadline_left_seconds",
            "What was left of the deadline when /start had answered.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._streams = Counter(
            "bridge_streams",
            "Streams by event: ordered in XML by us; started, stopped, failed as carriers report.",
            ["provider", "event"],
            registry=self.registry,
        )
        self._secrets_used = Counter(
            "bridge_secrets_used",
            "Webhooks by the secret that signed them.",
            ["provider", "secret"],
            registry=self.registry,
        )
        self._ledger_failures = Counter(
            "bridge_ledger_failures",
            "Times when the ledger did not answer, or lost a note, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._unexpected_errors = Counter(
            "bridge_unexpected_errors",
            "Errors of ours that nobody foresaw; each has a traceback in the log.",
            ["provider"],
            registry=self.registry,
        )

        self._begin_at_zero(providers)

    def _begin_at_zero(self, providers: Iterable[str]) -> None:
        """Tell every series from the start: one that begins at 1 is no increase to Prometheus."""
        for outcome in START_OUTCOMES:
            self._start_seconds.labels(outcome)
        for kind in LEDGER_FAILURES:
            self._ledger_failures.labels(kind)
        for provider in providers:
            self._unexpected_errors.labels(provider)
            for event in STREAM_EVENTS:
                self._streams.labels(provider, event)
            for document in DOCUMENTS:
                self._webhooks.labels(provider, "voice", document, "")
            for route in ROUTES:
                for reason in REFUSALS:
                    self._webhooks.labels(provider, route, "refused", reason)

    def webhook(self, provider: str, route: str, outcome: str, reason: str = "") -> None:
        """Count a webhook by what was answered."""
        with harmlessly():
            self._webhooks.labels(provider, route, outcome, reason).inc()

    def signed(self, provider: str, secret: str) -> None:
        """Count a webhook by the secret that signed it."""
        with harmlessly():
            self._secrets_used.labels(provider, secret).inc()

    def answered(self, provider: str, route: str, took_s: float) -> None:
        """Measure an answer."""
        with harmlessly():
            self._answer_seconds.labels(provider, route).observe(took_s)

    def started(self, outcome: str, attempts: int, took_s: float) -> None:
        """Count and measure what /start came to."""
        with harmlessly():
            self._start_seconds.labels(outcome).observe(took_s)
            self._start_attempts.inc(attempts)

    def deadline_left(self, left_s: float) -> None:
        """Measure how close it was."""
        with harmlessly():
            self._deadline_left_seconds.observe(left_s)

    def unexpected(self, provider: str) -> None:
        """Count an error that nobody foresaw."""
        with harmlessly():
            self._unexpected_errors.labels(provider).inc()

    def stream(self, provider: str, event: str) -> None:
        """Count an event of a stream; the carrier's own words for others are one."""
        known = event if event in STREAM_EVENTS else "other"
        with harmlessly():
            self._streams.labels(provider, known).inc()

    def ledger_failed(self, kind: str) -> None:
        """Count a failure of the ledger."""
        with harmlessly():
            self._ledger_failures.labels(kind).inc()

    def text(self) -> bytes:
        """Return the numbers of all processes, or of this one if it is alone."""
        if not self._folder or not self._folder.is_dir():
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
