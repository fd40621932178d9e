"""Tries what may have been different, one thing alone and then two, and says what verifies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from bridge.explain.attempt import Attempt, Change
from providers.base import WebhookRejected

MOST_TRIES = 5000  # a try takes some 50 microseconds
MOST_FOUND = 5  # explanations; a person reads them


@dataclass(frozen=True)
class Explanation:
    """What, had it been so, would have made the signature hold."""

    changes: Sequence[Change]
    secret: str  # its label
    attempt: Attempt = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """Whether a request verifies as it was given, and if not what would make it."""

    secret: str | None  # the label of the one that it is signed with
    reason: str  # what verify said; "" if it verifies
    explanations: Sequence[Explanation]
    tries: int


def judge(given: Attempt, changes: Sequence[Change]) -> Verdict:
    """Return whether `given` verifies, else the smallest changes with which it does."""
    try:
        return Verdict(given.verify(), "", (), 1)
    except WebhookRejected as rejection:
        reason = str(rejection)
        if rejection.reason == "header":  # no other URL or secret makes up for it
            return Verdict(None, reason, (), 1)
    tries = 1
    for count in (1, 2):
        found: list[Explanation] = []
        for several, attempt in altered(given, changes, count):
            if tries >= MOST_TRIES or len(found) >= MOST_FOUND:
                break
            tries += 1
            secret = attempt.secret()
            if secret and not any(attempt == other.attempt for other in found):
                found.append(Explanation(several, secret, attempt))
        if found:
            return Verdict(None, reason, found, tries)
    return Verdict(None, reason, (), tries)


def altered(
    given: Attempt, changes: Sequence[Change], count: int
) -> Iterator[tuple[Sequence[Change], Attempt]]:
    """Yield the request with so many changes of different kinds, where each changes something."""
    for several in combinations(changes, count):
        if len({change.kind for change in several}) < count:
            continue
        attempts = [given]
        for change in several:
            attempts.append(change.apply(attempts[-1]))
        if all(before != after for before, after in pairwise(attempts)):
            yield several, attempts[-1]
