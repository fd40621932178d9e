"""Takes out of the text of a log line what must not be in it, whoever wrote it.

Our own lines hold no secrets on purpose; an exception's text or another library's line might.
Strangers choose some of the text: every pattern looks at a character a bounded number of times.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

SHORTEST_SECRET = 4  # characters; a shorter one would be found in ordinary words
# Where a word may begin: not inside another one, but behind a percent-encoded character.
BEGINNING = r"(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2}))"
PATTERNS = (
    (re.compile(r"(?i)\bwss?(:|%3a)(//|\\/\\/|%2f%2f)(\\/|[^\s\"'<>\\,)])+"), "(a socket's URL)"),
    (re.compile(r"/ws/generic/[^\s\"'<>\\,)]+"), "(a socket's path)"),
    (re.compile(BEGINNING + r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+"), "(a token)"),
    (re.compile(r"(?i)\b(bearer|authorization\W{1,4}basic)\s+[\w+/=.~-]{6,}"), r"\1 (a secret)"),
    (re.compile(BEGINNING + r"[ps]k_[A-Za-z0-9_-]{6,}"), "(a key)"),
    (re.compile(r"://[^\s/@\"']+@"), "://(a secret)@"),
)
# An id of hexadecimal digits or a date is left alone, even where all of it is digits.
NUMBER = re.compile(
    r"(?P<id>(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9-]))"
    r"|(?P<plus>\+|%2[Bb])[0-9](?:[ .()-]{0,2}[0-9]){6,15}"  # E.164, however it is grouped
    r"|(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))(?:"
    r"(?:1[ .-])?\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}"  # as North America writes it
    r"|[0-9]{8,16})(?![A-Za-z0-9])"  # as Plivo writes it
)


class Redaction:
    """What is taken out: known secrets, whatever looks like one, and callers' numbers."""

    def __init__(self, secrets: Iterable[str] = (), numbers: str = "masked") -> None:
        """Take the secrets that are known; numbers: "masked" or "full"."""
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= SHORTEST_SECRET
            for spelling in (secret, quote(secret, safe=""), repr(secret)[1:-1])
        }
        longest_first = sorted(spellings, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if spellings else None
        self._mask_numbers = numbers == "masked"

    def __call__(self, text: str) -> str:
        """Return a text without them."""
        if self._secrets:
            text = self._secrets.sub("(a secret)", text)
        for pattern, instead in PATTERNS:
            text = pattern.sub(instead, text)
        return NUMBER.sub(masked, text) if self._mask_numbers else text


def masked(found: re.Match[str]) -> str:
    """Return a number's last four digits, enough to find a call by; an id as it is."""
    if found["id"]:
        return found[0]
    digits = re.sub("[^0-9]", "", found[0].removeprefix(found["plus"] or ""))
    return f"***{digits[-4:]}"
