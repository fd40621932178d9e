"""Takes out of the text of a log line what must not be in it, whoever wrote it.

Our own lines hold no secrets on purpose; an exception's text or another library's line might.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

SHORTEST_SECRET = 4  # characters; a shorter one would be found in ordinary words
PATTERNS = (
    (re.compile(r"(?i)\bwss?(:|%3a)(//|\\/\\/|%2f%2f)[^\s\"'<>\\,)]+"), "(a socket's URL)"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+"), "(a token)"),
    (re.compile(r"(?i)\b(bearer|authorization\W{1,4}basic)\s+[\w+/=.~-]{6,}"), r"\1 (a secret)"),
    (re.compile(r"\b[ps]k_[A-Za-z0-9_-]{6,}"), "(a key)"),
    (re.compile(r"://[^\s/@\"']+@"), "://(a secret)@"),
)
# With its plus, or as many digits by themselves: an id has letters or hyphens beside them.
NUMBER = re.compile(
    r"(?:\+|%2[Bb])[0-9]{3,11}([0-9]{4})|(?<![\w.-])[0-9]{4,11}([0-9]{4})(?![\w.:-]*[\w-])"
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

    def __call__(self, line: str) -> str:
        """Return a text without them."""
        if self._secrets:
            line = self._secrets.sub("(a secret)", line)
        for pattern, instead in PATTERNS:
            line = pattern.sub(instead, line)
        return NUMBER.sub(masked, line) if self._mask_numbers else line


def masked(number: re.Match[str]) -> str:
    """Return a number's last four digits, enough to find a call by."""
    return f"***{number[1] or number[2]}"
