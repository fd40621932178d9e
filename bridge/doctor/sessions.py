"""Whether /start hands out sessions, and whether this machine's clock agrees with its server's.

Asking is harmless: a bot starts when a socket is opened, and an unused token expires by itself.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from bridge.deadline_http import DeadlineHttp, HttpAnswer
from bridge.doctor.config import is_answered, listed, names_of
from bridge.doctor.findings import Finding
from bridge.errors import StartFailed
from bridge.line import Line
from bridge.redaction import Redaction
from bridge.settings import Settings
from bridge.start import Session, StartClient
from providers.base import Provider

DOUBTFUL_CLOCK_S, WRONG_CLOCK_S = 30, 300

CURE_BY_STATUS = {
    401: "copy the organisation's public key again: PIPECAT_PUBLIC_KEY, or the variable that the "
    "line's public_key names",
    402: "the billing of the Pipecat Cloud organisation",
    404: "the agent's name (PIPECAT_AGENT, or the line's agent), and whether it is deployed in the "
    "organisation of this key",
}
CURE_BY_KIND = {
    "unreachable": "PIPECAT_START_URL, and the way out of this machine: name server, proxy, "
    "firewall",
    "deadline": "raise START_DEADLINE_S, or look at the way to Pipecat Cloud",
    "unavailable": "Pipecat Cloud has trouble: its status page, its support",
    "at_capacity": "every bot is busy, callers are held: max_agents in the agent's pcc-deploy.toml",
    "garbage": "PIPECAT_START_URL, and what it is that answers there",
    "refused": "PIPECAT_START_URL and PIPECAT_TRANSPORT",
}


class WatchedHttp(DeadlineHttp):
    """Keeps the last answer, for its status and its Date."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        super().__init__(url, connections=4)
        self._clock = clock
        self.last: HttpAnswer | None = None
        self.clock_ahead_s: float | None = None  # of ours before the server's; None: it says none

    def post(
        self, url: str, json: Mapping[str, object], headers: Mapping[str, str], deadline: float
    ) -> HttpAnswer:
        """Ask as DeadlineHttp does."""
        self.last = None
        self.last = super().post(url, json, headers, deadline)
        try:
            date = parsedate_to_datetime(self.last.headers.get("Date", ""))
        except ValueError:
            return self.last
        self.clock_ahead_s = self._clock() - date.timestamp()
        return self.last


def check_start(settings: Settings, http: WatchedHttp) -> Iterator[Finding]:
    """Ask once for every agent and key, within the line's own deadline."""
    asked = dict[tuple[str, str], tuple[Line, list[str]]]()
    for name, line in names_of(settings.lines):
        if is_answered(line) and line.websocket_auth == "token":
            asked.setdefault((line.agent, line.public_key), (line, []))[1].append(name)
    if not asked:
        yield Finding("note", "no line asks /start for a token")
        return
    yield Finding("note", "asking starts no bot; the tokens are not used and expire by themselves")
    client = StartClient(settings.start_url, settings.transport, http)
    redact = Redaction(settings.secrets, "full")
    # The transport may depend on the carrier; else one carrier speaks for all.
    most = len(settings.providers) if "{provider}" in settings.transport else 1
    for line, names in asked.values():
        for provider in settings.providers[:most]:
            yield ask(client, http, line, provider, listed(names), redact)


def ask(
    client: StartClient,
    http: WatchedHttp,
    line: Line,
    provider: Provider,
    names: str,
    redact: Redaction,
) -> Finding:
    """Ask for one session and say what came back, but not the token."""
    started = time.monotonic()
    try:
        session = client.start(line, provider.name, started + line.deadline_s)
    except StartFailed as failure:
        status = http.last.status if http.last else 0
        cure = CURE_BY_STATUS.get(status, CURE_BY_KIND[failure.kind])
        if "no 'token'" in str(failure):
            cure = 'websocket_auth = "token" in the agent\'s pcc-deploy.toml, then deploy it again'
        # What the server says of itself is shown, and it may repeat what it was sent.
        what = redact(f"agent {line.agent} ({names}): {failure.kind}: {failure}")
        return Finding("warning" if failure.kind == "at_capacity" else "error", what, cure)
    took_ms = (time.monotonic() - started) * 1000
    return Finding("ok", f"agent {line.agent} ({names}): 200 in {took_ms:.0f} ms, {shown(session)}")


def shown(session: Session) -> str:
    """Return a session without what opens it."""
    named = f"session {session.id}" if session.id else "no session id"
    host = urlsplit(session.ws_url).netloc
    return f"{named}, wsUrl at {host}, (a token of {len(session.token)} characters)"


def check_clock(settings: Settings, http: WatchedHttp) -> Iterator[Finding]:
    """Compare this machine's clock with the Date of /start's last answer."""
    ahead_s = http.clock_ahead_s
    if ahead_s is None:
        yield Finding("note", "not compared: no answer of /start said what time it is")
        return
    off = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} /start's server"
    strict = [p.name for p in settings.providers if p.tolerance_s is not None]
    refused = f": webhooks of {', '.join(strict)} are refused" if strict else ""
    cure = "let the machine keep its time by NTP (timedatectl set-ntp true)"
    if abs(ahead_s) > WRONG_CLOCK_S:
        yield Finding("error", f"this machine's clock is {off}{refused}", cure)
    elif abs(ahead_s) > DOUBTFUL_CLOCK_S:
        yield Finding("warning", f"this machine's clock is {off}", cure)
    else:
        yield Finding("ok", f"this machine's clock is {off}")
