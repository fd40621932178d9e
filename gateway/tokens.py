"""Session tokens: signed, good for 300 s, one use, one agent of one organisation.

The published shape: base64url of a JSON object, a dot, base64url of its HMAC.
https://docs.pipecat.ai/pipecat-cloud/guides/websocket-authentication
"""

import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

LIFETIME_S = 300


class TokenRefused(Exception):
    """The token opens nothing. The message says why, for the log only."""


@dataclass(frozen=True)
class Claim:
    """What a genuine token says of itself."""

    nonce: str
    expires_at: int  # Unix seconds


class Tokens:
    """Mints and redeems tokens. One process only: spent ones are remembered in memory."""

    def __init__(self, key: bytes | None = None, clock: Callable[[], float] = time.time) -> None:
        self._key = key or secrets.token_bytes(32)
        self._clock = clock
        self._spent: dict[str, int] = {}  # nonce -> Unix seconds at which it may be forgotten

    def mint(self, service_host: str, nonce: str = "") -> str:
        """Return a token for "agent.organisation"; a nonce is made if none is given."""
        payload = {
            "sh": service_host,
            "exp": int(self._clock()) + LIFETIME_S,
            "nonce": nonce or secrets.token_urlsafe(12),
        }
        encoded = encode(json.dumps(payload, separators=(",", ":")).encode())
        return f"{encoded}.{encode(self._signature(encoded))}"

    def check(self, token: str, service_host: str) -> Claim:
        """Return the claim of an unspent token without spending it, or raise TokenRefused."""
        if not token.isascii():
            raise TokenRefused("malformed")
        encoded, _, signature = token.partition(".")
        # The signature comes first: nothing that a stranger wrote is parsed.
        if not hmac.compare_digest(decode(signature), self._signature(encoded)):
            raise TokenRefused("not one of ours, or altered")
        payload = json.loads(decode(encoded))
        if payload["exp"] <= self._clock():
            raise TokenRefused(f"expired {self._clock() - payload['exp']:.0f} s ago")
        if payload["sh"] != service_host:
            raise TokenRefused(f"issued for {payload['sh']!r}")
        if payload["nonce"] in self._spent:
            raise TokenRefused("already used")
        return Claim(payload["nonce"], payload["exp"])

    def spend(self, claim: Claim) -> None:
        """Spend a checked token, or raise TokenRefused if somebody was faster."""
        now = self._clock()
        self._spent = {nonce: end for nonce, end in self._spent.items() if end > now}
        if claim.nonce in self._spent:
            raise TokenRefused("already used")
        self._spent[claim.nonce] = claim.expires_at

    def _signature(self, encoded: str) -> bytes:
        return hmac.digest(self._key, encoded.encode(), "sha256")


def encode(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Return the bytes, or raise TokenRefused: one token has one spelling."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise TokenRefused("malformed") from error
    if encode(raw) != text:
        raise TokenRefused("malformed")
    return raw
