"""Reads single variables; every fault is noted, so that all of them can be named at once."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import URL

from bridge import checks
from bridge.checks import Unusable
from bridge.ledger.database import BadDatabaseUrl, read_url
from bridge.line import Hold, Line, Lines, Sorry
from providers.base import BadSecret, Provider

START_URL = "https://api.pipecat.daily.co/v1/public/{agent}/start"
LEDGER_URL = "sqlite:///ledger.sqlite3"
SOCKET_URL = "wss://{region}.api.pipecat.daily.co/ws/generic/{agent}.{organization}"
REGION = "us-west"  # Pipecat Cloud's default
SORRY = "Sorry, we cannot take your call right now. Please try again later."
HOLD = "All our lines are busy. Please hold the line."
LOG_FORMATS = checks.one_of("auto", "json", "plain")
LOG_NUMBERS = checks.one_of("masked", "full")
SHORTEST_OPERATOR_TOKEN = 16  # characters

Checked = TypeVar("Checked")


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
    """Return the Pipecat Cloud public key, or "" if there is none: not every line needs it."""
    value = env.get("PIPECAT_PUBLIC_KEY", "").strip()
    if value and (problem := checks.public_key_problem(value)):
        faults.append(f"PIPECAT_PUBLIC_KEY {problem}")
    return value


def read_start_url(env: Mapping[str, str], faults: list[str]) -> str:
    """Return the URL of /start with its placeholder still in it."""
    value = env.get("PIPECAT_START_URL", "").strip() or START_URL
    url = split_http_url(value.replace("{agent}", "agent"))
    if not url or url.fragment or "{" in url.geturl() or "@" in value:
        shown = repr(value) if "@" not in value else "a URL with a user name"
        faults.append(
            f"PIPECAT_START_URL is {shown}: give an http(s) URL; {{agent}} is its only placeholder"
        )
    return value


def read_transport(env: Mapping[str, str], faults: list[str]) -> str:
    """Return the transport with its placeholder still in it."""
    value = env.get("PIPECAT_TRANSPORT", "").strip() or "websocket"
    if "{" in value.replace("{provider}", ""):
        faults.append(f"PIPECAT_TRANSPORT is {value!r}: {{provider}} is its only placeholder")
    return value


def read_providers(
    env: Mapping[str, str], carriers: tuple[type[Provider], ...], faults: list[str]
) -> tuple[Provider, ...]:
    """Return a provider for every carrier whose secret is set."""
    providers, enabled = [], False
    for carrier in carriers:
        values = {name: env.get(name, "").strip() for name in carrier.secret_variables()}
        secrets = {name: value for name, value in values.items() if value}
        if not secrets:
            continue
        enabled = True
        try:
            providers.append(carrier(secrets))
        except BadSecret as error:
            faults.append(str(error))
    if not enabled:
        variables = ", ".join(carrier.secret_variable for carrier in carriers)
        faults.append(f"no carrier is configured: set at least one of {variables}")
    return tuple(providers)


def read_whole(
    env: Mapping[str, str],
    variable: str,
    default: int,
    most: int,
    faults: list[str],
    least: int = 1,
) -> int:
    """Return a whole number between `least` and `most`."""
    value = env.get(variable, "").strip() or str(default)
    number = int(value) if re.fullmatch("[0-9]{1,9}", value) else -1
    if not least <= number <= most:
        faults.append(f"{variable} is {value!r}: give a whole number from {least} to {most}")
    return number


def read_checked(
    env: Mapping[str, str],
    variable: str,
    default: str,
    check: Callable[[str], Checked],
    faults: list[str],
) -> Checked:
    """Return a variable's value, or its default, once it has passed its check."""
    try:
        return check(env.get(variable, "").strip() or default)
    except Unusable as error:
        faults.append(f"{variable} {error}")
        return check(default)


def read_sorry(env: Mapping[str, str], faults: list[str]) -> Sorry:
    """Return what a caller hears whom the bot cannot take."""
    return Sorry(
        message=read_checked(env, "SORRY_MESSAGE", SORRY, checks.message, faults),
        dial=read_checked(env, "SORRY_DIAL", "", checks.phone_number, faults),
        caller_id=read_checked(env, "SORRY_CALLER_ID", "", checks.phone_number, faults),
        timeout_s=read_whole(
            env, "SORRY_TIMEOUT_S", 20, checks.LONGEST_RING_S, faults, least=checks.SHORTEST_RING_S
        ),
    )


def read_hold(env: Mapping[str, str], faults: list[str]) -> Hold:
    """Return what a caller hears while all bots are busy."""
    return Hold(
        message=read_checked(env, "HOLD_MESSAGE", HOLD, checks.message, faults),
        attempts=read_whole(env, "HOLD_ATTEMPTS", 3, 20, faults, least=0),
    )


def read_line(env: Mapping[str, str], faults: list[str]) -> Line:
    """Return how the environment alone says that a number is answered."""
    none_or_token = checks.one_of("token", "none")
    return Line(
        agent=env.get("PIPECAT_AGENT", "").strip(),
        public_key=read_public_key(env, faults),
        deadline_s=read_checked(env, "START_DEADLINE_S", "5", checks.deadline_s_in_text, faults),
        sorry=read_sorry(env, faults),
        hold=read_hold(env, faults),
        websocket_auth=read_checked(env, "PIPECAT_WEBSOCKET_AUTH", "token", none_or_token, faults),
        organization=env.get("PIPECAT_ORGANIZATION", "").strip(),
        region=env.get("PIPECAT_REGION", "").strip() or REGION,
    )


def read_ledger_url(env: Mapping[str, str], faults: list[str]) -> URL:
    """Return where the ledger is."""
    try:
        return read_url(env.get("DATABASE_URL", "").strip() or LEDGER_URL)
    except BadDatabaseUrl as error:
        faults.append(f"DATABASE_URL {error}")
        return read_url(LEDGER_URL)


def read_operator_token(env: Mapping[str, str], faults: list[str]) -> str:
    """Return the token that opens /metrics; a short one would be guessed."""
    value = env.get("OPERATOR_TOKEN", "").strip()
    if value and len(value) < SHORTEST_OPERATOR_TOKEN:
        faults.append(
            f"OPERATOR_TOKEN has {len(value)} characters: give {SHORTEST_OPERATOR_TOKEN} or more, "
            "for example from `openssl rand -hex 16`"
        )
    return value


def secrets_of(
    env: Mapping[str, str], lines: Lines, providers: tuple[Provider, ...]
) -> frozenset[str]:
    """Return everything that no log line may show."""
    variables = [name for carrier in providers for name in carrier.secret_variables()]
    written = [part.strip() for name in variables for part in env.get(name, "").split(",")]
    owned = [part.partition("=")[2].strip() for part in written]
    keys = [line.public_key for line in lines]
    password = read_ledger_url(env, []).password or ""
    return frozenset(
        filter(
            None, [*written, *owned, *keys, str(password), env.get("OPERATOR_TOKEN", "").strip()]
        )
    )


def split_http_url(value: str) -> SplitResult | None:
    """Return the parts of a usable http(s) URL, or None."""
    try:
        url = urlsplit(value)
        _ = url.port  # raises on a port that is no number
    except ValueError:
        return None
    usable = url.scheme in ("http", "https") and url.hostname and value.isascii()
    return url if usable and value.isprintable() and " " not in value else None
