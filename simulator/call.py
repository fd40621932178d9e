"""One call from ring to hang-up, the way its carrier makes it."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from simulator.audio import RATE, write_wav
from simulator.carrier import Caller, CallFailed, Carrier, StreamOrder
from simulator.document import (
    Connect,
    Dial,
    Document,
    Hangup,
    Redirect,
    Say,
    Step,
    Wait,
    read_document,
)
from simulator.report import ANSWERED, CUT_SHORT, FAILED, Report, hidden
from simulator.ringing import BridgeAnswer, Ring, RingFailed
from simulator.sockets import SocketRefused, refuse_replay, socket_of
from simulator.talking import Conversation

MOST_DOCUMENTS = 20  # a caller who is redirected more often than that is in a loop


@dataclass(frozen=True)
class Script:
    """What the caller does, and what goes wrong on purpose."""

    ring: Ring
    mulaw: bytes  # what the caller says
    listen_s: float = 0.5  # how long the caller stays on the line afterwards
    out: Path | None = None  # where to keep what the bot says
    duplicate: bool = False  # the webhook comes twice
    replay: bool = False  # the spent token is tried again
    hangup_early: bool = False  # the caller is gone before the socket opens
    refuse_socket: bool = False  # the carrier finds the socket refused
    hurry: bool = False  # waits are noted, not waited
    tell_status: bool = False  # the call's status callback is sent when it ends
    stop: Event = field(default_factory=Event)  # set it, and every call hangs up


class CallEnded(Exception):
    """Somebody hung up: what stands behind it in the document does not happen."""


def make_call(carrier: Carrier, call: Caller, script: Script) -> Report:
    """Make one call and report it. Nothing that goes wrong on the way escapes."""
    report = Report(carrier.name, call)
    if script.stop.is_set():
        return report.end(CUT_SHORT, "never rung: stopped")
    line = Line(carrier, call, script, report)
    try:
        line.run()
    except (CallFailed, OSError) as error:  # OSError: there is no room for a recording
        report.note(str(error))
        report.end(FAILED, str(error))
    return report


class Line:
    """One caller's line, from the first ring on."""

    def __init__(self, carrier: Carrier, call: Caller, script: Script, report: Report) -> None:
        self._carrier = carrier
        self._call = call
        self._script = script
        self._report = report
        self._words: list[str] = []  # what robot voices said, and who was dialled
        self._trouble = ""  # why there was no conversation
        self._turned_away = ""  # the reason for which the call was never answered
        self._started = time.monotonic()

    def run(self) -> None:
        """Ring, do what the documents say, report."""
        answer = self._ring()
        if self._script.duplicate:
            if answer.status != 200:
                raise CallFailed(f"the first webhook: {refusal(answer.status)}")
            self._read(answer)
            answer = self._ring()
        if self._script.ring.bad_signature:
            self._judge_refusal(answer)
            return
        if answer.status != 200:
            self._report.end(FAILED, refusal(answer.status))
            return
        with suppress(CallEnded):
            self._follow(self._read(answer))
        if self._script.tell_status:
            self._tell_status()
        self._judge()

    def _ring(self) -> BridgeAnswer:
        ring = self._script.ring
        self._report.note(f"{ring.method} {ring.url}")
        started = time.monotonic()
        answer = ring.send(self._carrier, self._call)
        self._report.webhook_ms = (time.monotonic() - started) * 1000
        self._report.note(f"{answer.status} {answer.content_type}".rstrip())
        return answer

    def _read(self, answer: BridgeAnswer) -> Document:
        document = read_document(self._carrier, answer.content_type, answer.body)
        self._report.documents += 1
        if document.stream:
            self._report.note(f"XML is good: stream to {hidden(document.stream.url)}")
        return document

    def _follow(self, document: Document) -> None:
        for _ in range(MOST_DOCUMENTS):
            redirect = self._do(document.steps)
            if redirect is None:
                self._report.note("the document ends, the carrier hangs up")
                return
            document = self._fetch(redirect)
        raise CallFailed(f"more than {MOST_DOCUMENTS} documents: a loop")

    def _do(self, steps: tuple[Step, ...]) -> Redirect | None:
        """Do the steps; return the redirect that ends them, if one does."""
        for step in steps:
            match step:
                case Say(words):
                    self._words.append(words)
                    self._report.note(f"the caller hears: {words!r}")
                case Wait(seconds):
                    self._report.note(f"the caller waits {seconds} s")
                    self._script.stop.wait(0 if self._script.hurry else seconds)
                case Dial(number, timeout_s, caller_id):
                    self._words.append(f"(rings {number})")
                    shown = f", showing {caller_id}" if caller_id else ""
                    self._report.note(f"{number} is dialled for {timeout_s} s{shown}: no answer")
                case Connect(order, action):
                    self._stream(order)
                    if action:
                        return action
                case Redirect():
                    return step
                case Hangup(reason):
                    how = f"turns the caller away ({reason})" if reason else "hangs up"
                    self._report.note(f"the carrier {how}, as the document says")
                    self._turned_away = reason
                    raise CallEnded
        return None

    def _fetch(self, redirect: Redirect) -> Document:
        if self._script.stop.is_set():
            raise CallEnded
        fields = self._carrier.webhook(self._call) | {"CallStatus": "in-progress"}
        ring = self._script.ring
        self._report.note(f"{redirect.method} {ring.dialled(redirect.url)}")
        answer = ring.post(self._carrier, redirect.url, fields, redirect.method)
        if answer.status != 200:
            raise CallFailed(refusal(answer.status))
        return self._read(answer)

    def _stream(self, order: StreamOrder) -> None:
        """Hold the conversation, or note why there is none; the document goes on afterwards."""
        if self._script.hangup_early:
            self._report.note("the caller hangs up before the socket opens")
            raise CallEnded
        url = self._carrier.socket_url(order.url)
        try:
            if self._script.refuse_socket:
                raise SocketRefused("the socket was refused, as asked for")
            conversation = self._talk(order, url)
        except SocketRefused as error:
            self._trouble = str(error)
            self._report.note(self._trouble)
            self._tell_stream(order, "failed", self._trouble)
            return
        self._tell_stream(order, "stopped")
        if self._script.replay:
            refuse_replay(url, self._report)
        if not conversation.heard:
            self._trouble = "the socket opened, but no audio came back; see the bot's log"
        if self._report.bot_hung_up is None:
            raise CallEnded  # the caller did

    def _talk(self, order: StreamOrder, url: str) -> Conversation:
        started = time.monotonic()
        with socket_of(self._carrier, url, self._report) as socket:
            self._report.socket_ms = (time.monotonic() - started) * 1000
            self._report.note("socket open")
            self._tell_stream(order, "started")
            conversation = Conversation(
                self._carrier, self._call, socket, self._report, self._script.stop
            )
            conversation.hold(order, self._script.mulaw, self._script.listen_s)
        self._report.heard_s += len(conversation.heard) / RATE
        if self._script.out:
            write_wav(self._script.out, bytes(conversation.heard))
        saved = f", saved to {self._script.out}" if self._script.out else ""
        said = f"{self._report.sent_s:.1f} s said, {self._report.heard_s:.1f} s heard{saved}"
        self._report.note(said)
        return conversation

    def _tell_stream(self, order: StreamOrder, event: str, error: str = "") -> None:
        url = self._carrier.stream_callback_url(order)
        if url:
            fields = self._carrier.stream_callback(self._call, event, order, error)
            self._tell(url, fields, f"stream {event}")

    def _tell_status(self) -> None:
        duration_s = round(time.monotonic() - self._started)
        fields = self._carrier.status_callback(self._call, duration_s)
        self._tell(self._script.ring.sibling("status"), fields, "call completed")

    def _tell(self, url: str, fields: dict[str, str], what: str) -> None:
        try:
            status = str(self._script.ring.post(self._carrier, url, fields).status)
        except RingFailed as error:
            status = str(error)
        self._report.note(f"told the bridge: {what} ({status})")

    def _judge_refusal(self, answer: BridgeAnswer) -> None:
        """A forged signature must get 403 and nothing else."""
        if (answer.status, answer.body) == (403, b""):
            self._report.end(CUT_SHORT, "refused with 403, as a bad signature must be")
        else:
            self._report.end(FAILED, f"a bad signature was answered {answer.status}")

    def _judge(self) -> None:
        """Say how the call ended, for the exit code."""
        heard = f"the caller hears: {' '.join(self._words)!r}" if self._words else "silence"
        if self._script.stop.is_set():
            self._report.end(CUT_SHORT, "stopped")
        elif self._report.heard_s:
            self._report.end(ANSWERED)
        elif self._script.hangup_early and self._report.documents:
            self._report.end(CUT_SHORT, "hung up early, as asked for; its token expires unused")
        elif self._turned_away:
            self._report.end(CUT_SHORT, f"turned away ({self._turned_away}), as the line says")
        elif self._script.refuse_socket and self._words:
            self._report.end(CUT_SHORT, f"{self._trouble}; {heard}")
        else:
            trouble = self._trouble or "no stream, see the bridge's log"
            self._report.end(FAILED, f"{trouble}; {heard}")


def refusal(status: int) -> str:
    """Say what a status that is not 200 means, as far as it can be told from here."""
    hints = {
        403: ": another secret, or another PUBLIC_URL than was signed; its log says which",
        404: ": no such route, or the bridge has no secret of this carrier",
        405: ": not by this method",
    }
    return f"the bridge answered {status}{hints.get(status, '')}"
