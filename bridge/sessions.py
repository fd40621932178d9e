"""Where a bot waits for a caller: a session from /start, or the socket of an agent that is open."""

import logging
import threading
import time
from collections.abc import Callable

from bridge.errors import StartFailed
from bridge.line import Line
from bridge.logs import tell
from bridge.metrics import Metrics
from bridge.settings import Settings
from bridge.socket_url import socket_url
from bridge.start import Session, StartClient

log = logging.getLogger(__name__)


class Sessions:
    """Opens sessions, so many at once; counts them, and remembers how the last one went."""

    def __init__(
        self,
        settings: Settings,
        start: StartClient,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.last_start: tuple[str, float] | None = None  # its outcome, and when, in Unix seconds
        self._settings = settings
        self._start = start
        self._metrics = metrics
        self._clock = clock
        self._places = threading.BoundedSemaphore(settings.max_starts)

    def open(self, line: Line, provider: str, deadline: float) -> Session:
        """Return a session of the line's agent, or raise StartFailed.

        deadline: monotonic seconds, for /start.
        """
        if not line.agent:
            raise StartFailed("refused", "no line has this number, and [default] has no agent")
        if line.websocket_auth == "none":
            pattern = self._settings.socket_url
            log.info("agent %s: no token asked for", line.agent, extra={"stage": "start"})
            url = socket_url(pattern, line.region, line.agent, line.organization)
            return Session(url, token="")
        asked = time.monotonic()
        if not self._places.acquire(blocking=False):
            self._note("at_capacity", 0, asked)
            raise StartFailed("at_capacity", f"MAX_STARTS {self._settings.max_starts} are running")
        try:
            return self._ask(line, provider, deadline)
        finally:
            self._places.release()

    def _ask(self, line: Line, provider: str, deadline: float) -> Session:
        started = time.monotonic()
        try:
            session = self._start.start(line, provider, deadline)
        except StartFailed as failure:
            self._note(failure.kind, failure.attempts, started)
            raise
        except Exception:
            self._note("unexpected", 1, started)
            raise
        self._metrics.deadline_left(max(0.0, deadline - time.monotonic()))
        tell(session_id=session.id)
        self._note("session", session.attempts, started)
        return session

    def _note(self, outcome: str, attempts: int, started: float) -> None:
        took_s = time.monotonic() - started
        self.last_start = outcome, self._clock()
        self._metrics.started(outcome, attempts, took_s)
        requests = "1 request" if attempts == 1 else f"{attempts} requests"
        what, ms = "/start took %.0f ms, %s: %s", round(took_s * 1000, 1)
        fields = {"stage": "start", "ms": ms, "kind": outcome, "attempts": attempts}
        log.info(what, ms, requests, outcome, extra=fields)
