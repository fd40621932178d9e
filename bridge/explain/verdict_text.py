"""Puts a verdict into words, for people and for machines. Shows no secret and no value."""

from collections.abc import Iterator
from dataclasses import replace

from bridge.explain.attempt import Attempt, shown_url
from bridge.explain.search import Verdict


def as_json(given: Attempt, public_url: str, verdict: Verdict) -> dict[str, object]:
    """Return what `lines` says, field by field."""
    return {
        "verifies": verdict.secret is not None,
        "secret": verdict.secret,
        "reason": verdict.reason,
        "method": given.webhook.method,
        "url": shown_url(given.webhook.url),
        "tries": verdict.tries,
        "explanations": [
            {
                "differences": [
                    {"kind": change.kind, "difference": change.difference, "cure": change.cure}
                    for change in explanation.changes
                ],
                "secret": explanation.secret,
                "url": shown_attempt(given, explanation.attempt),
            }
            for explanation in verdict.explanations
        ],
        "notes": list(notes(given, public_url, verdict)),
    }


def lines(given: Attempt, public_url: str, verdict: Verdict) -> Iterator[str]:
    """Yield the verdict, then what would change it."""
    checked = f"{given.webhook.method} {shown_url(given.webhook.url)}"
    if verdict.secret is not None:
        yield f"verifies: signed with {verdict.secret}; checked {checked}"
    else:
        variables = " and ".join(given.provider.secret_variables())
        yield f"does not verify: {verdict.reason}; checked {checked} with {variables}"
    for explanation in verdict.explanations:
        told = " and ".join(change.difference for change in explanation.changes)
        yield f"it would verify if {told}"
        yield f"  that is {shown_attempt(given, explanation.attempt)}, with {explanation.secret}"
        for change in explanation.changes:
            yield f"  -> {change.cure}"
    yield from notes(given, public_url, verdict)


def shown_attempt(given: Attempt, attempt: Attempt) -> str:
    """Return a made-up URL. The names in a query are those that were given.

    Once a query is decoded, an ampersand in a value makes the rest of the value look like a name.
    """
    asked = attempt.url.query and (given.url.query or attempt.url.query)
    return shown_url(attempt.url._replace(query=asked).geturl())


def notes(given: Attempt, public_url: str, verdict: Verdict) -> Iterator[str]:
    """Yield what else there is to know."""
    if verdict.secret is None and verdict.tries == 1:
        yield "nothing was tried: give that header as it came, --header 'Name: value'"
    elif verdict.secret is None and not verdict.explanations:
        variable = given.provider.secret_variable
        yield (
            f"nothing that was tried makes it verify ({verdict.tries} tries); what remains: "
            "another host or path at the carrier than --url has; "
            f"the secret of another account (name a variable that holds it: --secret-variable), "
            f"or one that {variable} had before; a body that is not byte for byte what came; "
            "a query that something dropped, with other fields than the bridge's own; "
            "a header that was cut short; or somebody who is not the carrier"
        )
    if verdict.secret is not None and not accepted_by_the_bridge(given, public_url):
        ours = shown_url(as_the_bridge_sees_it(given, public_url).webhook.url)
        yield (
            f"but the bridge checks {ours}, and would refuse it: "
            "make PUBLIC_URL what the carrier dials"
        )


def accepted_by_the_bridge(given: Attempt, public_url: str) -> bool:
    """Say whether it verifies with PUBLIC_URL in front, too."""
    return as_the_bridge_sees_it(given, public_url).secret() is not None


def as_the_bridge_sees_it(given: Attempt, public_url: str) -> Attempt:
    """Return the request with the URL that the bridge checks: PUBLIC_URL and the route."""
    route = f"/{given.provider.name}/"
    path = given.url.path
    path = path[path.index(route) :] if route in path else path
    target = given.url._replace(scheme="", netloc="", path=path).geturl()
    return replace(given, webhook=replace(given.webhook, url=public_url + target))
