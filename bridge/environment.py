"""Reads single variables; every fault is noted, so that all of them can be named at once."""

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import URL

from bridge.ledger.database import BadDatabaseUrl, read_url
from bridge.line import E164, Hold, Sorry
from providers.base import BadSecret, Provider

START_URL = "https://api.pipecat.daily.co/v1/public/{agent}/start"
LEDGER_URL = "sqlite:///ledger.sqlite3"
LONGEST_DEADLINE_S = 14.0  # Twilio gives up 15 s after it dialled; that includes connecting
LONGEST_MESSAGE = 1000  # characters; Twilio takes 4096, and nobody listens that long
SORRY = "Sorry, we cannot take your call right now. Please try again later."
HOLD = "All our lines are busy. Please hold the line."


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


def read_deadline_s(env: Mapping[str, str], faults: list[str]) -> float:
    """Return START_DEADLINE_S in seconds."""
    why = ", because carriers hang up after 15"
    return read_seconds(env, "START_DEADLINE_S", "5", LONGEST_DEADLINE_S, why, faults)


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


def read_seconds(
    env: Mapping[str, str], variable: str, default: str, most: float, why: str, faults: list[str]
) -> float:
    """Return seconds, more than 0 and at most `most`."""
    value = env.get(variable, "").strip() or default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= most:
        faults.append(
            f"{variable} is {value!r}: give seconds, more than 0 and at most {most:g}{why}"
        )
    return seconds


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


def read_message(env: Mapping[str, str], variable: str, default: str, faults: list[str]) -> str:
    """Return words for a caller."""
    value = env.get(variable, "").strip() or default
    if len(value) > LONGEST_MESSAGE:
        faults.append(f"{variable} has {len(value)} characters: {LONGEST_MESSAGE} are allowed")
    return value


def read_number(env: Mapping[str, str], variable: str, faults: list[str]) -> str | None:
    """Return a phone number in E.164, or None."""
    value = env.get(variable, "").strip()
    if value and not E164.fullmatch(value):
        faults.append(f'{variable} is {value!r}: give a number as "+14155550199"')
    return value or None


def read_sorry(env: Mapping[str, str], faults: list[str]) -> Sorry:
    """Return what a caller hears whom the bot cannot take."""
    return Sorry(
        message=read_message(env, "SORRY_MESSAGE", SORRY, faults),
        dial=read_number(env, "SORRY_DIAL", faults),
        caller_id=read_number(env, "SORRY_CALLER_ID", faults),
        timeout_s=read_whole(env, "SORRY_TIMEOUT_S", 20, 120, faults, least=5),
    )


def read_hold(env: Mapping[str, str], faults: list[str]) -> Hold:
    """Return what a caller hears while all bots are busy."""
    return Hold(
        message=read_message(env, "HOLD_MESSAGE", HOLD, faults),
        attempts=read_whole(env, "HOLD_ATTEMPTS", 3, 20, faults, least=0),
    )


def read_ledger_url(env: Mapping[str, str], faults: list[str]) -> URL:
    """Return where the ledger is."""
    try:
        return read_url(env.get("DATABASE_URL", "").strip() or LEDGER_URL)
    except BadDatabaseUrl as error:
        faults.append(f"DATABASE_URL {error}")
        return read_url(LEDGER_URL)


def split_http_url(value: str) -> SplitResult | None:
    """Return the parts of a usable http(s) URL, or None."""
    try:
        url = urlsplit(value)
        _ = url.port  # raises on a port that is no number
    except ValueError:
        return None
    usable = url.scheme in ("http", "https") and url.hostname and value.isascii()
    return url if usable and value.isprintable() and " " not in value else None
