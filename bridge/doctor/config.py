"""What the settings mean for calls, beyond being well formed."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from bridge.doctor.findings import Finding
from bridge.environment import REGION, START_URL
from bridge.line import E164, Line, Lines
from bridge.settings import Settings
from bridge.socket_url import is_loopback

SHORTEST_SECRET = 16  # characters; every carrier hands out 32 or more
MOST_LINES = 20  # that are listed one by one


def check_urls(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with where carriers and we ourselves go."""
    yield from check_public_url(settings.public_url)
    url = urlsplit(settings.start_url)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        yield Finding(
            "error",
            f"the public key travels to {url.hostname} without TLS",
            "give PIPECAT_START_URL as https://...",
        )
    if url.hostname != urlsplit(START_URL).hostname:
        yield Finding(
            "warning",
            f"sessions come from {url.netloc}, which is not Pipecat Cloud's",
            "fine for trying things out; else leave PIPECAT_START_URL unset",
        )


def check_public_url(public_url: str) -> Iterator[Finding]:
    """Yield whether carriers can dial the bridge without telling everybody what they say."""
    url = urlsplit(public_url)
    if is_loopback(url.hostname or ""):
        cure = "a carrier needs a public https URL: deploy, or use a tunnel (docs/deploy.md)"
        yield Finding("warning", f"PUBLIC_URL {public_url} is this machine only", cure)
    elif url.scheme != "https":
        yield Finding(
            "error",
            f"PUBLIC_URL {public_url} has no TLS: callers' numbers and tokens travel in the clear",
            "give the https URL, there and at the carrier",
        )
    else:
        yield Finding("ok", f"PUBLIC_URL {public_url}")


def check_lines(settings: Settings) -> Iterator[Finding]:
    """Yield how each line is answered."""
    named = names_of(settings.lines)
    for name, line in named[:MOST_LINES]:
        yield how_answered(name, line)
    if len(named) > MOST_LINES:
        yield Finding("ok", f"and {len(named) - MOST_LINES} lines more")
    open_to_all = [
        name for name, line in named if line.websocket_auth == "none" and is_answered(line)
    ]
    if open_to_all:
        yield Finding(
            "warning",
            f"websocket_auth is none for {listed(open_to_all)}: "
            "whoever knows the agent's name can talk to it",
            'set websocket_auth = "token" in the agent\'s pcc-deploy.toml, deploy it, then here',
        )


def how_answered(name: str, line: Line) -> Finding:
    """Say what happens to a call on this line."""
    if line.accept != "answer":
        return Finding("ok", f"{name}: callers are turned away ({line.accept})")
    if not line.agent:
        return Finding("ok", f"{name}: no agent, callers hear the apology")
    return Finding("ok", f"{name}: agent {line.agent}, websocket_auth {line.websocket_auth}")


def check_region(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether somebody chose a region: with tokens, /start chooses it."""
    written = env.get("PIPECAT_REGION", "").strip()
    usual = settings.lines.default.region or REGION
    named = names_of(settings.lines)
    fixed = [(name, line) for name, line in named if written or line.region not in (usual, "")]
    idle = [name for name, line in fixed if line.websocket_auth == "token"]
    pinned = [name for name, line in fixed if line.websocket_auth == "none" and is_answered(line)]
    if pinned:
        yield Finding(
            "warning",
            f"the region is pinned by hand for {listed(pinned)}",
            "it must be where the agent runs; with websocket_auth token, /start says where",
        )
    elif idle:
        yield Finding(
            "warning",
            f"a region is set for {listed(idle)} and has no effect: /start says where to connect",
            "remove PIPECAT_REGION" if written else "remove the line's region",
        )


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Yield each secret that could be guessed. Their lengths are looked at, never shown."""
    for provider in settings.providers:
        for label, length in provider.secret_lengths().items():
            if length < SHORTEST_SECRET:
                yield Finding(
                    "warning",
                    f"{label} has fewer than {SHORTEST_SECRET} characters",
                    "copy it again from the carrier's console; theirs are longer",
                )


def names_of(lines: Lines) -> list[tuple[str, Line]]:
    """Return every line and what to call it."""
    name = "numbers not listed" if lines.listed else "every number"
    return [
        (name, lines.default),
        *((f"+{key}" if E164.fullmatch(f"+{key}") else key, x) for key, x in lines.listed.items()),
    ]


def is_answered(line: Line) -> bool:
    """Say whether an agent answers this line."""
    return line.accept == "answer" and bool(line.agent)


def listed(names: list[str]) -> str:
    """Return a few names, and how many there are more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
