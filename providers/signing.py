"""Secrets that carriers sign with: several at once, so that one can follow another."""

import hmac
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from providers.base import BadSecret, Webhook, WebhookRejected


@dataclass(frozen=True)
class Secret:
    """One secret, or public key, that a carrier may have signed with."""

    label: str  # names it in log and metrics: "TWILIO_AUTH_TOKEN 1 of 2"
    value: str = field(repr=False)
    owner: str = ""  # the account or key id that it belongs to, where that is known


def listed(variable: str, text: str) -> tuple[Secret, ...]:
    """Read "secret,secret", the one to keep first; raise BadSecret if there is none."""
    values = parts_of(variable, text)
    return tuple(Secret(label(variable, n, len(values)), v) for n, v in enumerate(values, 1))


def owned(variable: str, text: str) -> tuple[Secret, ...]:
    """Read "owner=secret,owner=secret"; an owner may come twice while one is being rotated."""
    pairs = [part.partition("=")[::2] for part in parts_of(variable, text)]
    if not all(owner.strip() and value.strip() for owner, value in pairs):
        raise BadSecret(f'{variable} is no list of "id=secret,id=secret"')
    pairs = [(owner.strip(), value.strip()) for owner, value in pairs]
    of, seen = Counter(owner for owner, _ in pairs), Counter[str]()
    secrets = []
    for owner, value in pairs:
        seen[owner] += 1
        secrets.append(Secret(label(f"{variable} {owner}", seen[owner], of[owner]), value, owner))
    return tuple(secrets)


def parts_of(variable: str, text: str) -> list[str]:
    """Return what stands between commas, or raise BadSecret: a forgery passes an empty secret."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise BadSecret(f"{variable} holds no secret")
    return parts


def label(name: str, number: int, of: int) -> str:
    """Return what a secret is called where it must not be shown."""
    return name if of == 1 else f"{name} {number} of {of}"


def matching(given: Iterable[str], expected: Iterable[tuple[Secret, str]]) -> Secret:
    """Return the first secret that made one of the signatures given, or raise WebhookRejected.

    Every pair is compared, each in constant time, so that timing says nothing about a signature.
    """
    signatures = [signature.encode() for signature in given]
    found = [
        secret
        for secret, signature in expected
        for one in signatures
        if hmac.compare_digest(one, signature.encode())
    ]
    if not found:
        raise WebhookRejected("signature does not match", "signature")
    return found[0]


def required_header(webhook: Webhook, name: str) -> str:
    """Return a header's value, or raise WebhookRejected saying that it is missing or empty."""
    value = webhook.headers.get(name.lower())
    if not value:
        what = "missing" if value is None else "empty"
        raise WebhookRejected(f"header {name} is {what}", "header")
    return value
