"""The ledger as the call flow sees it: nothing here raises, nothing takes longer than 50 ms."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, select

from bridge.ledger import statements
from bridge.ledger.database import engine_for
from bridge.ledger.memory import Claim, Memory, StreamSeen
from bridge.ledger.statements import Entry
from bridge.ledger.writer import Writer

log = logging.getLogger(__name__)

PATIENCE_S = 0.05  # what a caller may lose to the ledger
THREADS = 4
LOG_EVERY_S = 60.0

T = TypeVar("T")


class Ledger:
    """One per process."""

    def __init__(
        self,
        url: URL,
        days: float,
        clock: Callable[[], float],
        on_failure: Callable[[str], None] = lambda kind: None,
    ) -> None:
        """Keep calls for so many days. on_failure is told the kind of each failure."""
        self._on_failure = on_failure
        self.memory = Memory()
        self.failures: Counter[str] = Counter()
        self._clock = clock
        self._prompt = engine_for(url, patience_s=PATIENCE_S)
        self._patient = engine_for(url, patience_s=10)
        self._writer = Writer(self._patient, days, clock, self._failed)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger")
        self._lock = Lock()
        self._busy = 0
        self._logged_at = float("-inf")

    def claim(
        self, provider: str, call_id: str, numbers: tuple[str, str], held: int, now: float
    ) -> Claim:
        """Count one webhook of a call: here, and in the ledger if that answers in time."""
        remembered = self.memory.claim((provider, call_id), held, now)

        def ask(connection: Connection) -> Claim:
            return statements.claim(connection, provider, call_id, numbers, held, now)

        counted = self._ask(ask)
        return counted.and_also(remembered) if counted else remembered

    def stream_seen(self, provider: str, call_id: str) -> StreamSeen:
        """Return what is known about a call's stream, here or in the ledger."""

        def ask(connection: Connection) -> StreamSeen:
            return statements.stream_seen(connection, provider, call_id)

        remembered = self.memory.stream_seen((provider, call_id))
        return remembered.and_also(self._ask(ask) or StreamSeen())

    def stream_event(self, seen: StreamSeen, entry: Entry) -> None:
        """Note a stream event now: the next webhook of the call may reach another process."""
        self.memory.stream_event((entry.provider, entry.call_id), seen)

        def write(connection: Connection) -> bool:
            statements.write(connection, entry)
            return True

        if not self._ask(write):
            self._writer.put(entry)

    def note(
        self, provider: str, call_id: str, what: str, detail: str = "", **columns: Any
    ) -> None:
        """Write something that happened, when there is time."""
        self._writer.put(Entry(provider, call_id, self._clock(), what, detail, columns))

    def is_reachable(self) -> bool:
        """Say whether the database answers in the time that a caller may lose to it."""
        return self._ask(lambda connection: connection.execute(select(1)).scalar()) == 1

    def close(self, within_s: float = 2.0) -> None:
        """Write what is waiting and let go of the database."""
        self._writer.close(within_s)
        self._threads.shutdown(cancel_futures=True)
        self._prompt.dispose()
        self._patient.dispose()

    def _ask(self, question: Callable[[Connection], T]) -> T | None:
        """Return the database's answer, or None when there is none within PATIENCE_S."""
        with self._lock:
            if self._busy >= THREADS:
                self._failed_locked("busy", None)
                return None
            self._busy += 1
        try:
            return self._threads.submit(self._answer, question).result(PATIENCE_S)
        except TimeoutError:
            self._failed("slow", None)
        except Exception as error:
            self._failed("down", error)
        return None

    def _answer(self, question: Callable[[Connection], T]) -> T:
        try:
            with self._prompt.begin() as connection:
                return question(connection)
        finally:
            with self._lock:
                self._busy -= 1

    def _failed(self, kind: str, error: BaseException | None) -> None:
        with self._lock:
            self._failed_locked(kind, error)

    def _failed_locked(self, kind: str, error: BaseException | None) -> None:
        self.failures[kind] += 1
        self._on_failure(kind)
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            # Only the kind of the error: its text holds the statement's values.
            cause = f" ({type(error).__name__})" if error else ""
            log.error("ledger: %s%s; so far %s", kind, cause, dict(self.failures))
