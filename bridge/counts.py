"""How often something happened in this process."""

import threading
from collections import Counter


class Counts:
    """Shared by the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counter: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """Count one."""
        with self._lock:
            self._counter[what] += 1

    def of(self, what: str) -> int:
        """Return how often it happened."""
        return self._counter[what]
