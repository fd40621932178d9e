"""The call flow, written once for every carrier, without Flask.

ring   the phone rings: claim the call, start a session, name the event to answer with
after  the stream is over, or never came about: a goodbye or an apology
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.callbacks import Callbacks
from bridge.errors import StartFailed
from bridge.ledger.ledger import Ledger
from bridge.ledger.memory import Claim
from bridge.line import Line
from bridge.logs import tell
from bridge.metrics import Metrics
from bridge.sessions import Sessions
from bridge.settings import Settings
from bridge.stream import CallbackUrls, stream_for
from providers.base import Call, Provider, Webhook, whole

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3  # sessions per call; carriers send a webhook twice, seldom three times
RETRY_WITHIN_S = 60.0  # of the first webhook; what comes later is a replay
YOUNG_S = 10.0  # a stream that was over so soon and told nothing of itself never began
SHORTEST_HOLD_S, USUAL_HOLD_S, LONGEST_HOLD_S = 1, 5, 20


@dataclass(frozen=True)
class Answer:
    """What to tell the carrier: templates/<provider>/<event>.xml and what it needs."""

    event: str  # "stream", "hold", "sorry", "goodbye", "reject"
    values: Mapping[str, object] = field(default_factory=dict, repr=False)


class Answering:
    """Decides what a carrier is told. Webhooks come in verified."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        ledger: Ledger,
        callbacks: Callbacks,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._lines = settings.lines
        self._sessions = sessions
        self._ledger = ledger
        self._callbacks = callbacks
        self._metrics = metrics

    def ring(self, provider: Provider, webhook: Webhook) -> Answer:
        """Answer a ringing phone, or raise BadWebhook: the carrier reports something else."""
        rang = time.monotonic()
        provider.refuse_callback(webhook)
        call, now = provider.read_call(webhook), webhook.received_at
        line = self._lines.of(call)
        tell(line=call.our_number, agent=line.agent)
        # Telnyx signs no query: what stands there is not believed beyond what we hand out.
        held = min(whole(webhook.query.first("held")), line.hold.attempts)
        claim = self._ledger.claim(
            provider.name, call.id, (call.from_number, call.to_number), held, now
        )
        again = f", after {held} holds" if held else ""
        what = f"webhook {claim.attempts}{again}"
        self._ledger.note(provider.name, call.id, "rang", what, agent=line.agent or None)
        if line.accept != "answer":
            return self._reject(provider, call, line)
        if is_replay(claim, now):
            return self._turn_away(provider, call.id, claim)
        try:
            session = self._sessions.open(line, provider.name, rang + line.deadline_s)
            stream = stream_for(provider, call, line.body, session)
        except StartFailed as failure:
            return self._without_session(provider, call, line, held, failure)
        sent_at = now + time.monotonic() - rang
        what = "%s call %s -> session %s of agent %s"
        log.info(what, provider.name, call.id, session.id or "(no id)", line.agent)
        self._metrics.stream(provider.name, "ordered")
        if stream.left_out:
            names = ", ".join(stream.left_out)
            log.warning("%s call %s: no room to tell the bot %s", provider.name, call.id, names)
        self._ledger.note(
            provider.name,
            call.id,
            "stream",
            f"session {session.id}" if session.token else "no token asked for",
            agent=line.agent,
            session_id=session.id,
            answered_at=sent_at,
            outcome="stream",
            reason=None,
        )
        urls = CallbackUrls(self._settings.public_url, provider.name)
        values = {
            "stream": stream,
            "after_url": urls.after(sent_at),
            "stream_status_url": urls.stream,
        }
        return Answer("stream", values)

    def after(self, provider: Provider, webhook: Webhook) -> Answer:
        """Answer what runs after the stream: an apology only if the bot was not heard."""
        event = provider.read_stream_event(webhook)
        if event.kind in ("started", "stopped", "failed"):  # the request itself may say it
            self._callbacks.note_stream(provider, event, webhook.received_at)
        seen = self._callbacks.stream_seen(provider, event.call_id)
        age_s = webhook.received_at - whole(webhook.query.first("sent_at"), digits=12)
        if seen.failed:
            reason = f"the stream failed: {seen.failed}"
        elif not seen.started and age_s < YOUNG_S:
            reason = "the stream never started"
        else:
            return self._end(provider, event.call_id, "goodbye", "the stream ended")
        return self._end(provider, event.call_id, "sorry", reason, provider.read_call(webhook))

    def surprised(self, provider: Provider, webhook: Webhook) -> Answer:
        """Return the apology after an error that nobody expected; note it if that is possible."""
        call = None
        try:
            call = provider.read_call(webhook)
            self._ledger.note(
                provider.name,
                call.id,
                "sorry",
                "an unexpected error, see the log",
                outcome="sorry",
                reason="an unexpected error, see the log",
            )
        except Exception:
            log.exception("%s: the error could not be noted", provider.name)
        return self.sorry(provider, call)

    def sorry(self, provider: Provider, call: Call | None = None) -> Answer:
        """Return the apology; it needs nothing that can fail."""
        sorry = (self._lines.of(call) if call else self._lines.default).sorry
        return Answer("sorry", {"sorry": sorry.to(call), "voice": provider.voice(sorry.voice)})

    def _without_session(
        self, provider: Provider, call: Call, line: Line, held: int, failure: StartFailed
    ) -> Answer:
        hold = line.hold
        reason = f"{failure.kind}: {failure}"
        if failure.kind != "at_capacity" or held >= hold.attempts:
            return self._end(provider, call.id, "sorry", reason, call)
        wait_s = min(max(failure.retry_after_s or USUAL_HOLD_S, SHORTEST_HOLD_S), LONGEST_HOLD_S)
        log.warning("%s call %s is held for %d s: %s", provider.name, call.id, wait_s, reason)
        self._ledger.note(provider.name, call.id, "hold", reason, outcome="hold", reason=reason)
        urls = CallbackUrls(self._settings.public_url, provider.name)
        values = {
            "hold": hold,
            "voice": provider.voice(line.sorry.voice),
            "wait_s": int(wait_s),
            "voice_url": urls.voice(held + 1),
        }
        return Answer("hold", values)

    def _end(
        self, provider: Provider, call_id: str, event: str, reason: str, call: Call | None = None
    ) -> Answer:
        """Note the last document of a call and return it."""
        log.log(
            logging.ERROR if event == "sorry" else logging.INFO,
            "%s call %s gets %s.xml: %s",
            provider.name,
            call_id,
            event,
            reason,
        )
        self._ledger.note(provider.name, call_id, event, reason, outcome=event, reason=reason)
        return self.sorry(provider, call) if event == "sorry" else Answer(event)

    def _reject(self, provider: Provider, call: Call, line: Line) -> Answer:
        """Turn a caller away in the carrier's own way, as the line says."""
        reason = f"the line of {call.our_number} accepts no calls"
        log.info("%s call %s gets reject.xml (%s): %s", provider.name, call.id, line.accept, reason)
        self._ledger.note(
            provider.name, call.id, "reject", line.accept, outcome="reject", reason=reason
        )
        return Answer("reject", {"reason": "rejected" if line.accept == "reject" else "busy"})

    def _turn_away(self, provider: Provider, call_id: str, claim: Claim) -> Answer:
        """Give a replay nothing, and leave alone what the ledger says about the real call."""
        reason = f"webhook {claim.attempts} is a replay"
        log.warning("%s call %s gets goodbye.xml: %s", provider.name, call_id, reason)
        self._ledger.note(provider.name, call_id, "replay", reason)
        return Answer("goodbye")


def is_replay(claim: Claim, now: float) -> bool:
    """Say whether a webhook is one more, or a later one, than carriers send for a call."""
    return claim.attempts > MOST_ATTEMPTS or now - claim.round_at > RETRY_WITHIN_S
