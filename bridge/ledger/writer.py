"""Writes entries on a thread of its own, so that nobody waits for them."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, TimeoutError

from bridge.ledger import statements
from bridge.ledger.statements import Entry

log = logging.getLogger(__name__)

MOST_WAITING = 20_000  # entries; what comes on top of a full queue is dropped and counted
BATCH = 200
RETRY_S = 1.0
FORGET_EVERY_S = 3600.0


class Writer:
    """One thread, one queue. What is queued is written as soon as the database is there again."""

    def __init__(
        self,
        engine: Engine,
        days: float,
        clock: Callable[[], float],
        failed: Callable[[str, BaseException | None], None],
    ) -> None:
        self._engine = engine
        self._keep_s = days * 86400
        self._clock = clock
        self._failed = failed
        self._entries: queue.Queue[Entry] = queue.Queue(MOST_WAITING)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._forgot_at = float("-inf")

    def put(self, entry: Entry) -> None:
        """Queue an entry; never waits."""
        if self._thread is None:
            self._start()
        try:
            self._entries.put_nowait(entry)
        except queue.Full:
            self._failed("dropped", None)

    def close(self, within_s: float) -> None:
        """Write what is waiting, as far as the time allows."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(within_s)

    def _start(self) -> None:
        # Not in __init__: a thread does not survive the fork of a gunicorn that preloads.
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        waiting: list[Entry] = []
        while True:
            waiting = waiting or self._take()
            if not waiting:
                if self._closing.is_set():
                    return
                continue
            try:
                self._write(waiting)
                waiting = []
                self._forget()
            except Exception as error:
                self._failed("unwritten", error)
                if self._closing.is_set():
                    return
                self._closing.wait(RETRY_S)

    def _take(self) -> list[Entry]:
        try:
            entries = [self._entries.get(timeout=0.2)]
        except queue.Empty:
            return []
        while len(entries) < BATCH:
            try:
                entries.append(self._entries.get_nowait())
            except queue.Empty:
                break
        return entries

    def _write(self, entries: list[Entry]) -> None:
        try:
            with self._engine.begin() as connection:
                for entry in entries:
                    statements.write(connection, entry)
        except Exception as error:
            if is_down(error):
                raise
            # One of them is at fault: the others must not be lost with it.
            for entry in entries:
                self._write_one(entry)

    def _write_one(self, entry: Entry) -> None:
        try:
            with self._engine.begin() as connection:
                statements.write(connection, entry)
        except Exception as error:
            if is_down(error):
                raise
            self._failed("refused", error)

    def _forget(self) -> None:
        now = time.monotonic()
        if now - self._forgot_at > FORGET_EVERY_S:
            with self._engine.begin() as connection:
                more = statements.forget(connection, self._clock() - self._keep_s)
            if not more:
                self._forgot_at = now


def is_down(error: Exception) -> bool:
    """Say whether asking again later may help: the database is away, locked or full."""
    if isinstance(error, DataError | IntegrityError):
        return False  # the values are at fault
    return isinstance(error, DBAPIError | TimeoutError)
