"""Everything the environment decides, read once, when the app starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from bridge.errors import ConfigError
from providers.base import BadSecret, Provider

START_URL = "https://api.pipecat.daily.co/v1/public/{agent}/start"
LONGEST_DEADLINE_S = 14.0  # Twilio gives up 15 s after it dialled; that includes connecting


@dataclass(frozen=True)
class Settings:
    """Checked settings. Secrets are not shown in a repr."""

    public_url: str  # where carriers reach us, "https://host" or "https://host/prefix"
    agent: str  # name of the deployed Pipecat Cloud agent
    public_key: str = field(repr=False)  # Pipecat Cloud public key, "pk_..."
    start_url: str  # "{agent}" is filled in per call
    transport: str  # "transport" of the /start request; "{provider}" is filled in per call
    start_deadline_s: float  # from webhook to answer, what /start may use of it
    providers: tuple[Provider, ...] = field(
        repr=False, compare=False
    )  # one per carrier that has a secret

    @classmethod
    def from_env(cls, env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> "Settings":
        """Read `env`, or raise one ConfigError that names every fault at once."""
        faults: list[str] = []
        settings = cls(
            public_url=read_public_url(env, faults),
            agent=required(env, "PIPECAT_AGENT", "the agent that answers", faults),
            public_key=read_public_key(env, faults),
            start_url=read_start_url(env, faults),
            transport=read_transport(env, faults),
            start_deadline_s=read_deadline_s(env, faults),
            providers=read_providers(env, tuple(carriers), faults),
        )
        if faults:
            raise ConfigError(faults)
        return settings


def required(env: Mapping[str, str], variable: str, meaning: str, faults: list[str]) -> str:
    """Return a variable's value without blanks around it, or note that it is not set."""
    value = env.get(variable, "").strip()
    if not value:
        faults.append(f"{variable} is not set: {meaning}")
    return value


def read_public_url(env: Mapping[str, str], faults: list[str]) -> str:
    """Return PUBLIC_URL without a trailing slash."""
    value = required(
        env, "PUBLIC_URL", 'where carriers reach this bridge, "https://bridge.example.com"', faults
    )
    if value:
        url = split_http_url(value)
        if not url or url.query or url.fragment or "@" in value or url.path.endswith("/voice"):
            shown = repr(value) if "@" not in value else "a URL with a user name"
            faults.append(
                f"PUBLIC_URL is {shown}: give scheme and host, and the path prefix if there is "
                'one, as carriers dial it: "https://bridge.example.com"'
            )
    return value.rstrip("/")


def read_public_key(env: Mapping[str, str], faults: list[str]) -> str:
    """Return the Pipecat Cloud public key; it travels in a header, so it must fit in one."""
    value = required(
        env,
        "PIPECAT_PUBLIC_KEY",
        'the public key "pk_..." of your Pipecat Cloud organisation',
        faults,
    )
    if not (value.isascii() and value.isprintable()) or " " in value:
        faults.append("PIPECAT_PUBLIC_KEY holds characters no key has: copy it again")
    if value.startswith("sk_"):
        faults.append("PIPECAT_PUBLIC_KEY is a private key (sk_...): give the public one (pk_...)")
    return value


def read_start_url(env: Mapping[str, str], faults: list[str]) -> str:
    """Return the URL of /start with its placeholder still in it."""
    value = env.get("PIPECAT_START_URL", "").strip() or START_URL
    url = split_http_url(value.replace("{agent}", "agent"))
    if not url or url.fragment or "{" in url.geturl():
        faults.append(
            f"PIPECAT_START_URL is {value!r}: give an http(s) URL; "
            "{agent} is its only placeholder"
        )
    return value


def read_transport(env: Mapping[str, str], faults: list[str]) -> str:
    """Return the transport with its placeholder still in it."""
    value = env.get("PIPECAT_TRANSPORT", "").strip() or "websocket"
    if "{" in value.replace("{provider}", ""):
        faults.append(f"PIPECAT_TRANSPORT is {value!r}: {{provider}} is its only placeholder")
    return value


def read_deadline_s(env: Mapping[str, str], faults: list[str]) -> float:
    """Return START_DEADLINE_S in seconds."""
    value = env.get("START_DEADLINE_S", "").strip() or "5"
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_DEADLINE_S:
        faults.append(
            f"START_DEADLINE_S is {value!r}: give seconds, more than 0 and at most "
            f"{LONGEST_DEADLINE_S:g}, because carriers hang up after 15"
        )
    return seconds


def read_providers(
    env: Mapping[str, str], carriers: tuple[type[Provider], ...], faults: list[str]
) -> tuple[Provider, ...]:
    """Return a provider for every carrier whose secret is set."""
    providers = []
    for carrier in carriers:
        value = env.get(carrier.secret_variable, "").strip()
        if not value:
            continue
        secrets = tuple(part.strip() for part in value.split(",") if part.strip())
        try:
            providers.append(carrier(secrets))
        except BadSecret as error:
            faults.append(f"{carrier.secret_variable} {error}")
    if not any(env.get(carrier.secret_variable, "").strip() for carrier in carriers):
        variables = ", ".join(carrier.secret_variable for carrier in carriers)
        faults.append(f"no carrier is configured: set at least one of {variables}")
    return tuple(providers)


def split_http_url(value: str) -> SplitResult | None:
    """Return the parts of a usable http(s) URL, or None."""
    try:
        url = urlsplit(value)
        _ = url.port  # raises on a port that is no number
    except ValueError:
        return None
    usable = url.scheme in ("http", "https") and url.hostname and value.isascii()
    return url if usable and value.isprintable() and " " not in value else None
