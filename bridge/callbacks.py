"""What a carrier reports about a call, noted for the ledger and for what is asked later.

stream  what happens to the stream while it lasts
status  what becomes of the call
"""

import logging
import time

from bridge.ledger.ledger import Ledger
from bridge.ledger.memory import StreamSeen
from bridge.ledger.statements import Entry
from bridge.metrics import Metrics
from providers.base import Provider, StreamEvent, Webhook

log = logging.getLogger(__name__)

SETTLE_S = 0.3  # what a callback that is still under way may be late


class Callbacks:
    """Notes what carriers report. Webhooks come in verified."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics

    def stream(self, provider: Provider, webhook: Webhook) -> None:
        """Note what happened to a stream."""
        self.note_stream(provider, provider.read_stream_event(webhook), webhook.received_at)

    def status(self, provider: Provider, webhook: Webhook) -> None:
        """Note what became of a call."""
        status = provider.read_status(webhook)
        what, fields = "%s call %s: %s", {"stage": "status", "event": status.status}
        log.info(what, provider.name, status.call_id, status.status, extra=fields)
        columns: dict[str, object] = {
            "final_status": status.status,
            "status_sequence": status.sequence,
        }
        if status.duration_s is not None:
            columns["duration_s"] = status.duration_s
        if status.is_final:
            columns["ended_at"] = webhook.received_at
        self._ledger.note(provider.name, status.call_id, "status", status.status, **columns)

    def note_stream(self, provider: Provider, event: StreamEvent, at: float) -> None:
        """Note an event of a stream, wherever it was read. at: Unix seconds."""
        why = f": {event.detail}" if event.detail else ""
        what, fields = "%s call %s: stream %s%s", {"stage": "stream", "event": event.kind}
        log.info(what, provider.name, event.call_id, event.kind, why, extra=fields)
        self._metrics.stream(provider.name, event.kind)
        failed = (event.detail or "no reason given") if event.kind == "failed" else None
        columns: dict[str, object] = {}
        if event.kind in ("started", "stopped"):
            columns["stream_started_at"] = at
        if event.kind in ("stopped", "failed"):
            columns["stream_ended_at"] = at
        if failed:
            columns["stream_failed"] = failed
        step = f"stream {event.kind}"
        entry = Entry(provider.name, event.call_id, at, step, event.detail, columns)
        seen = StreamSeen(
            started="stream_started_at" in columns,
            failed=failed,
            ended="stream_ended_at" in columns,
        )
        self._ledger.stream_event(seen, entry)

    def stream_seen(self, provider: Provider, call_id: str) -> StreamSeen:
        """Return what is known about a stream; a failure may be on its way while we are asked."""
        seen = self._ledger.stream_seen(provider.name, call_id)
        if seen.started and not seen.ended:
            time.sleep(SETTLE_S)
            seen = self._ledger.stream_seen(provider.name, call_id)
        return seen
