"""How body, method, clock and secret may differ from what the carrier signed."""

from collections.abc import Iterator, Mapping

from bridge.explain.attempt import Attempt, Change
from providers.base import FORM, Provider, whole


def other_changes(given: Attempt, others: Mapping[str, Provider]) -> Iterator[Change]:
    """Yield everything but the URL. others: the provider with another secret, by its variable."""
    yield from secrets(given, others)
    yield from clock(given)
    yield from body(given)
    yield from method(given)


def secrets(given: Attempt, others: Mapping[str, Provider]) -> Iterator[Change]:
    """The carrier may sign with a secret that the bridge does not have."""
    own = " or ".join(given.provider.secret_variables())
    for variable, provider in others.items():
        yield Change(
            "secret",
            f"signed with the secret in {variable}, not with one in {own}",
            f"put it into {given.provider.secret_variable}; while it replaces another one, both, "
            "separated by a comma (docs/secrets.md)",
            lambda attempt, provider=provider: attempt.by(provider),  # type: ignore[misc]
        )


def clock(given: Attempt) -> Iterator[Change]:
    """A carrier that signs the moment is believed only around that moment."""
    header = given.provider.timestamp_header
    stamp = given.webhook.headers.get(header.lower(), "") if header else ""
    sent_at = whole(stamp, digits=12)
    if not sent_at:
        return
    late_s = given.webhook.received_at - sent_at
    if late_s > 0:
        cure = (
            "if it came just now, this machine's clock is that far ahead: set it by NTP; "
            "if it came earlier, say when with --at; else somebody replayed it"
        )
    else:
        cure = f"this machine's clock is {-late_s:.0f} s behind: set it by NTP"
    yield Change(
        "clock",
        f"the carrier signed it {abs(late_s):.0f} s {'before' if late_s > 0 else 'after'} "
        "the moment at which it is said to have come",
        cure,
        lambda attempt: attempt.at(sent_at),
    )


def body(given: Attempt) -> Iterator[Change]:
    """Editors and terminals change the ends of lines; some proxies read forms and write them."""
    was = given.webhook.body
    saved = "the body was changed when it was saved: keep its bytes as they came"
    for difference, bytes_then in (
        ("the body without the line break at its end", was.rstrip(b"\r\n")),
        ("the body with a line break at its end", was + b"\n"),
        ("the body with LF where it has CRLF", was.replace(b"\r\n", b"\n")),
        ("the body with CRLF where it has LF", was.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
        ("an empty body", b""),
    ):
        if bytes_then != was:
            yield Change(
                "body",
                f"the carrier signed {difference}",
                saved,
                lambda attempt, to=bytes_then: attempt.with_body(to),  # type: ignore[misc]
            )
    if given.webhook.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        yield Change(
            "content type",
            f"the carrier sent {FORM}",
            "something in front of the bridge changes the header Content-Type: let it through",
            lambda attempt: attempt.with_form(),
        )


def method(given: Attempt) -> Iterator[Change]:
    """A redirect turns a POST into a GET; the console may say another method than one thinks."""
    was = given.webhook.method
    other = "GET" if was == "POST" else "POST"
    if other in given.provider.methods:
        yield Change(
            "method",
            f"the carrier sent a {other}, not a {was}",
            f"give --method {other}; if the bridge saw a {was}, something in front redirects",
            lambda attempt: attempt.with_method(other),
        )
