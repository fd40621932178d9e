"""What a value must be like, wherever it is written; each fault says what to give instead."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from bridge.caller_data import NAMES
from bridge.line import E164

LONGEST_DEADLINE_S = 14.0  # Twilio gives up 15 s after it dialled; that includes connecting
SECONDS = (
    f"give seconds, more than 0 and at most {LONGEST_DEADLINE_S:g}, "
    "because carriers hang up after 15"
)
LONGEST_MESSAGE = 1000  # characters; Twilio takes 4096, and nobody listens that long
SHORTEST_RING_S, LONGEST_RING_S = 5, 120
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # XML cannot hold them


class Unusable(ValueError):
    """A value that cannot be used. The message continues a sentence that names its place."""


def text(value: Any) -> str:
    """Return text without blanks around it."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Unusable(f"is {shown(value)}: give text in quotes, on one line")
    return value.strip()


def message(value: Any) -> str:
    """Return words for a caller."""
    if not isinstance(value, str) or not value.strip():
        raise Unusable(f"is {shown(value)}: give the words in quotes")
    if CONTROL.search(value):
        raise Unusable("holds a control character, which cannot be said")
    if len(value.strip()) > LONGEST_MESSAGE:
        raise Unusable(f"has {len(value.strip())} characters: {LONGEST_MESSAGE} are allowed")
    return value.strip()


def phone_number(value: Any) -> str | None:
    """Return a phone number in E.164, or None for an empty text."""
    if value == "":
        return None
    if not isinstance(value, str) or not E164.fullmatch(value):
        raise Unusable(f'is {shown(value)}: give a number as "+14155550199"')
    return value


def deadline_s(value: Any) -> float:
    """Return seconds, more than 0 and at most LONGEST_DEADLINE_S."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0 < value <= LONGEST_DEADLINE_S:
        raise Unusable(f"is {shown(value)}: {SECONDS}")
    return float(value)


def deadline_s_in_text(value: str) -> float:
    """Return the same from a variable, which is always text."""
    try:
        return deadline_s(float(value))
    except ValueError as error:  # Unusable is one too
        raise Unusable(f"is {shown(value)}: {SECONDS}") from error


def ring_timeout_s(value: Any) -> int:
    """Return whole seconds that a human's phone may ring."""
    if type(value) is not int or not SHORTEST_RING_S <= value <= LONGEST_RING_S:
        raise Unusable(
            f"is {shown(value)}: give a whole number from {SHORTEST_RING_S} to {LONGEST_RING_S}"
        )
    return value


def one_of(*words: str) -> Callable[[Any], str]:
    """Return a check for one of a few words."""

    def check(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise Unusable(f"is {shown(value)}: give {' or '.join(map(json.dumps, words))}")
        return value

    return check


def table(value: Any) -> dict[str, Any]:
    """Return a table."""
    if not isinstance(value, dict):
        raise Unusable(f"is {shown(value)}: it is a table with keys of its own")
    return value


def json_object(value: Any) -> dict[str, Any]:
    """Return what the bot is told besides; the bridge's own names are not to be said twice."""
    if not isinstance(value, dict):
        raise Unusable(f'is {shown(value)}: give a table, {{ department = "billing" }}')
    for name in value:
        if name in NAMES:
            raise Unusable(f"has {name!r}, which the bridge fills in itself: rename it")
        if not name or not name.isprintable():
            raise Unusable(f"has the name {shown(name)}: give one that can be printed")
    try:
        check_json(value)
        json.dumps(value)
    except (RecursionError, ValueError) as error:
        raise error if isinstance(error, Unusable) else Unusable("is nested too deep") from error
    return value


def check_json(value: Any) -> None:
    """Raise Unusable for what TOML knows and JSON does not."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            check_json(inner)
        return
    if isinstance(value, str) and CONTROL.search(value):
        raise Unusable("holds a control character, which not every carrier hands on")
    known = isinstance(value, str | bool | int | float)
    if not known or (isinstance(value, float) and not math.isfinite(value)):
        raise Unusable(f"holds {value}, which JSON does not know: put it in quotes")


def public_key_problem(value: str) -> str | None:
    """Say what is wrong with a Pipecat Cloud public key; it travels in a header."""
    if not value:
        return 'is not set: the public key "pk_..." of your Pipecat Cloud organisation'
    if not (value.isascii() and value.isprintable()) or " " in value:
        return "holds characters no key has: copy it again"
    if "," in value:
        return "is a list: give one key; a line of numbers.toml can name another"
    if value.startswith("sk_"):
        return "is a private key (sk_...): give the public one (pk_...)"
    return None


def shown(value: Any) -> str:
    """Return a value for a message, cut short."""
    whole = repr(value)
    return whole if len(whole) <= 60 else f"{whole[:57]}..."
