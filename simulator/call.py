"""One call from ring to hang-up, the way its carrier makes it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from simulator.audio import RATE, write_wav
from simulator.carrier import Caller, CallFailed, Carrier, StreamOrder
from simulator.document import Document, read_document
from simulator.report import ANSWERED, CUT_SHORT, FAILED, Report, hidden
from simulator.ringing import BridgeAnswer, Ring
from simulator.talking import Conversation

HANDSHAKE_PATIENCE_S = 10.0


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
    stop: Event = field(default_factory=Event)  # set it, and every call hangs up


class SocketRefused(CallFailed):
    """The socket did not open. `status` is the HTTP status, if there was one."""

    def __init__(self, what_happened: str, status: int | None = None) -> None:
        super().__init__(what_happened)
        self.status = status


def make_call(carrier: Carrier, call: Caller, script: Script) -> Report:
    """Make one call and report it. Nothing that goes wrong on the way escapes."""
    report = Report(carrier.name, call)
    if script.stop.is_set():
        return report.end(CUT_SHORT, "never rung: stopped")
    try:
        return follow(carrier, call, script, report)
    except CallFailed as error:
        report.note(str(error))
        return report.end(FAILED, str(error))


def follow(carrier: Carrier, call: Caller, script: Script, report: Report) -> Report:
    """Ring, read the XML, open the socket, talk."""
    if script.duplicate:
        ring(carrier, call, script.ring, report)
    answer = ring(carrier, call, script.ring, report)
    if script.ring.bad_signature:
        return judge_refusal(answer, report)
    if answer.status != 200:
        return report.end(FAILED, refusal(answer.status))
    document = read_document(carrier, answer.content_type, answer.body)
    if document.stream is None:
        return report.end(FAILED, f"no stream, see the bridge's log; {heard_instead(document)}")
    url = carrier.socket_url(document.stream.url)
    report.note(f"XML is good: stream to {hidden(document.stream.url)}")
    if script.hangup_early:
        report.note("the caller hangs up before the socket opens")
        return report.end(CUT_SHORT, "hung up early, as asked for; its token expires unused")
    return talk(carrier, call, script, report, document.stream, url)


def ring(carrier: Carrier, call: Caller, how: Ring, report: Report) -> BridgeAnswer:
    """Send one webhook; note what came back and how long it took."""
    report.note(f"{how.method} {how.url}")
    started = time.monotonic()
    answer = how.send(carrier, call)
    report.webhook_ms = (time.monotonic() - started) * 1000
    report.note(f"{answer.status} {answer.content_type}".rstrip())
    return answer


def judge_refusal(answer: BridgeAnswer, report: Report) -> Report:
    """A forged signature must get 403 and nothing else."""
    if (answer.status, answer.body) == (403, b""):
        return report.end(CUT_SHORT, "refused with 403, as a bad signature must be")
    return report.end(FAILED, f"a bad signature was answered {answer.status}")


def refusal(status: int) -> str:
    """Say what a status that is not 200 means, as far as it can be told from here."""
    hints = {
        403: ": another secret, or another PUBLIC_URL than was signed; its log says which",
        404: ": no such route, or the bridge has no secret of this carrier",
        405: ": not by this method",
    }
    return f"the bridge answered {status}{hints.get(status, '')}"


def heard_instead(document: Document) -> str:
    """Say what the caller hears when there is no stream."""
    return f"the caller hears: {' '.join(document.said)!r}" if document.said else "silence"


def talk(
    carrier: Carrier,
    call: Caller,
    script: Script,
    report: Report,
    order: StreamOrder,
    url: str,
) -> Report:
    """Open the socket and hold the conversation."""
    started = time.monotonic()
    with socket_of(carrier, url, report) as socket:
        report.socket_ms = (time.monotonic() - started) * 1000
        report.note("socket open")
        conversation = Conversation(carrier, call, socket, report, script.stop)
        conversation.hold(order, script.mulaw, script.listen_s)
    report.heard_s = len(conversation.heard) / RATE
    if script.out:
        write_wav(script.out, bytes(conversation.heard))
    saved = f", saved to {script.out}" if script.out else ""
    report.note(f"{report.sent_s:.1f} s said, {report.heard_s:.1f} s heard{saved}")
    if script.replay:
        refuse_replay(url, report)
    if script.stop.is_set():
        return report.end(CUT_SHORT, "stopped")
    if not conversation.heard:
        return report.end(FAILED, "the socket opened, but no audio came back; see the bot's log")
    return report.end(ANSWERED)


@contextmanager
def socket_of(carrier: Carrier, url: str, report: Report) -> Iterator[ClientConnection]:
    """Open the socket as often as the carrier tries, or raise SocketRefused."""
    for attempt in range(1, carrier.connect_attempts + 1):
        try:
            connection = dial(url)
        except SocketRefused as error:
            if attempt == carrier.connect_attempts:
                raise
            report.note(f"{error}; {carrier.name} tries the same URL again")
        else:
            break
    with connection:
        yield connection


def dial(url: str) -> ClientConnection:
    """Open one socket, or raise SocketRefused."""
    try:
        return connect(
            url,
            proxy=None,
            compression=None,
            open_timeout=HANDSHAKE_PATIENCE_S,
            close_timeout=2,
            ping_interval=None,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise SocketRefused(f"the socket was refused with {status}", status) from error
    except (InvalidHandshake, TimeoutError, OSError, EOFError) as error:
        raise SocketRefused(f"the socket did not open: {error or type(error).__name__}") from error


def refuse_replay(url: str, report: Report) -> None:
    """Dial the spent token once more; raise CallFailed if it is good for another call."""
    try:
        with dial(url):
            pass
    except SocketRefused as error:
        if error.status != 403:
            raise
        report.note("the spent token was tried again and refused with 403")
    else:
        raise CallFailed("the spent token opened a second socket")
