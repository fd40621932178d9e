"""What this process itself remembers of the latest calls: the answer when the ledger has none."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TypeVar

MOST_CALLS = 20_000  # about 10 MB; the oldest go first

Key = tuple[str, str]  # provider, call id
T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """How often a call's webhook has come by now, this one included."""

    attempts: int  # in this round; a round begins with the call and with every hold
    round_at: float  # Unix seconds of the round's first webhook
    rang_at: float  # Unix seconds of the call's first webhook
    held: int  # how often the caller was put on hold

    def and_also(self, other: "Claim") -> "Claim":
        """Return what the two counts say together: the later round, the more webhooks in it."""
        if self.held != other.held:
            return max(self, other, key=lambda claim: claim.held)
        return Claim(
            max(self.attempts, other.attempts),
            min(self.round_at, other.round_at),
            min(self.rang_at, other.rang_at),
            self.held,
        )


@dataclass(frozen=True)
class StreamSeen:
    """What stream status callbacks have told about a call."""

    started: bool = False
    failed: str | None = None  # why
    ended: bool = False

    def and_also(self, other: "StreamSeen") -> "StreamSeen":
        """Return what the two know together."""
        return StreamSeen(
            self.started or other.started, self.failed or other.failed, self.ended or other.ended
        )


def claimed_again(before: Claim, held: int, now: float) -> Claim:
    """Return a claim after one more webhook. The SQL in statements.py says the same."""
    if held > before.held:
        return Claim(attempts=1, round_at=now, rang_at=before.rang_at, held=held)
    return replace(before, attempts=before.attempts + 1)


class Memory:
    """Bounded, and shared by the threads of one process."""

    def __init__(self, most_calls: int = MOST_CALLS) -> None:
        self._most_calls = most_calls
        self._lock = threading.Lock()
        self._claims: OrderedDict[Key, Claim] = OrderedDict()
        self._streams: OrderedDict[Key, StreamSeen] = OrderedDict()

    def claim(self, key: Key, held: int, now: float) -> Claim:
        """Count one webhook."""
        with self._lock:
            before = self._claims.get(key)
            claim = claimed_again(before, held, now) if before else Claim(1, now, now, held)
            self._put(self._claims, key, claim)
            return claim

    def stream_event(self, key: Key, seen: StreamSeen) -> None:
        """Add to what is known about a call's stream."""
        with self._lock:
            known = self._streams.get(key, StreamSeen())
            self._put(self._streams, key, known.and_also(seen))

    def stream_seen(self, key: Key) -> StreamSeen:
        """Return what is known about a call's stream."""
        with self._lock:
            return self._streams.get(key, StreamSeen())

    def _put(self, table: OrderedDict[Key, T], key: Key, value: T) -> None:
        table[key] = value
        table.move_to_end(key)
        while len(table) > self._most_calls:
            table.popitem(last=False)
