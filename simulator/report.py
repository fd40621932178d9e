"""What happened to a call: a timeline for people, the same as JSON for machines."""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from simulator.carrier import Caller

ANSWERED = "answered"  # XML, socket and audio back
FAILED = "failed"
CUT_SHORT = "cut short"  # a fault that was asked for was met as it should be


@dataclass
class Report:
    """One call. Durations are milliseconds; the timeline counts from the first ring."""

    provider: str
    call: Caller
    outcome: str = FAILED
    reason: str = ""
    webhook_ms: float | None = None  # webhook to XML
    socket_ms: float | None = None  # XML to socket open
    first_audio_ms: float | None = None  # socket open to the bot's first audio
    documents: int = 0  # how many the bridge answered with
    sent_s: float = 0.0
    heard_s: float = 0.0
    timeline: list[tuple[float, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)  # what the carrier dropped
    bot_hung_up: int | None = None  # with which code, if it was not the caller
    _rang_at: float = field(default_factory=time.monotonic)

    def note(self, what: str) -> float:
        """Put one line on the timeline; return the milliseconds since the ring."""
        at_ms = (time.monotonic() - self._rang_at) * 1000
        self.timeline.append((at_ms, what))
        return at_ms

    def ignore(self, why: str) -> None:
        """Note something that the carrier drops: the first time on the timeline, then counted."""
        self.ignored[why] += 1
        if self.ignored[why] == 1:
            self.note(f"ignored: {why}")

    def end(self, outcome: str, reason: str = "") -> "Report":
        """Say how it ended."""
        self.outcome, self.reason = outcome, reason
        return self

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "provider": self.provider,
            "call_id": self.call.call_id,
            "from": self.call.from_number,
            "to": self.call.to_number,
            "outcome": self.outcome,
            "reason": self.reason,
            "webhook_ms": rounded(self.webhook_ms),
            "socket_ms": rounded(self.socket_ms),
            "first_audio_ms": rounded(self.first_audio_ms),
            "documents": self.documents,
            "sent_s": round(self.sent_s, 2),
            "heard_s": round(self.heard_s, 2),
            "bot_hung_up": self.bot_hung_up,
            "ignored": dict(self.ignored),
            "timeline": [{"ms": round(ms, 1), "what": what} for ms, what in self.timeline],
        }

    def as_text(self) -> str:
        """Return the report for people."""
        lines = [
            f"{self.provider} call {self.call.call_id} "
            f"from {self.call.from_number} to {self.call.to_number}"
        ]
        lines += [f"{ms:8.0f} ms  {what}" for ms, what in self.timeline]
        lines += [f"   ignored  {n} times: {why}" for why, n in self.ignored.items() if n > 1]
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """Return the last line: how it ended, and how long each step took."""
        if self.outcome != ANSWERED:
            return f"{self.outcome}: {self.reason}"
        end = f"; the bot hung up with {self.bot_hung_up}" if self.bot_hung_up else ""
        return (
            f"answered: XML after {self.webhook_ms:.0f} ms, socket after {self.socket_ms:.0f} ms, "
            f"audio after {self.first_audio_ms:.0f} ms{end}"
        )


def rounded(value: float | None) -> float | None:
    """Return milliseconds with one decimal."""
    return None if value is None else round(value, 1)


def summary(reports: Sequence[Report]) -> dict[str, Any]:
    """Return counts, percentiles of every step, and why calls failed."""
    steps = ("webhook_ms", "socket_ms", "first_audio_ms")
    return {
        "calls": len(reports),
        "outcomes": dict(Counter(report.outcome for report in reports)),
        "failures": failures(reports),
        **{step: percentiles([getattr(report, step) for report in reports]) for step in steps},
    }


def failures(reports: Sequence[Report]) -> dict[str, list[str]]:
    """Return the ids of the calls that failed, by reason."""
    found: dict[str, list[str]] = {}
    for report in reports:
        if report.outcome == FAILED:
            found.setdefault(report.reason, []).append(report.call.call_id)
    return found


def percentiles(values: Sequence[float | None]) -> dict[str, float] | None:
    """Return p50, p99 and the maximum of what is known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    p99 = statistics.quantiles(known, n=100, method="inclusive")[98] if len(known) > 1 else known[0]
    return {
        "p50": round(statistics.median(known), 1),
        "p99": round(p99, 1),
        "max": round(known[-1], 1),
    }


def summary_as_text(figures: dict[str, Any]) -> str:
    """Return the summary for people."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in figures["outcomes"].items())
    lines = [f"{figures['calls']} calls: {outcomes}"]
    names = {
        "webhook_ms": "webhook to XML",
        "socket_ms": "XML to socket",
        "first_audio_ms": "socket to audio",
    }
    for step, name in names.items():
        if figures[step]:
            values = ", ".join(f"{key} {ms:.0f} ms" for key, ms in figures[step].items())
            lines.append(f"  {name:16} {values}")
    for reason, ids in figures["failures"].items():
        more = ", ..." if len(ids) > 3 else ""
        lines.append(f"  {len(ids)} failed: {reason} ({', '.join(ids[:3])}{more})")
    return "\n".join(lines)


def hidden(url: str) -> str:
    """Return a socket URL for people: without its token, and without what its query holds."""
    parts = urlsplit(url)
    path = parts.path.rpartition("/")[0]
    names = [field.partition("=")[0] for field in parts.query.split("&")] if parts.query else []
    query = "?" + "&".join(f"{name}=..." for name in names) if names else ""
    return f"{parts.scheme}://{parts.netloc}{path}/...{query}"
