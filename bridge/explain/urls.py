"""How the URL that the carrier signed may differ from the one that is looked at."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlencode, urlsplit

from bridge.explain.attempt import Attempt, Change

OTHER_SCHEME = {"http": "https", "https": "http"}
USUAL_PORTS = ("443", "80", "8443", "8080", "8000", "5000")
MOST_HELD = 20  # HOLD_ATTEMPTS at most
AT_BOTH = "in PUBLIC_URL and at the carrier"


def url_changes(given: Attempt, public_url: str) -> Iterator[Change]:
    """Yield everything that may have happened to the URL on its way."""
    yield from scheme(given, public_url)
    yield from port(given, public_url)
    yield from host(given, public_url)
    yield from slash(given)
    yield from prefix(given, public_url)
    yield from encoding()
    yield from query(given)


def scheme(given: Attempt, public_url: str) -> Iterator[Change]:
    """TLS ends at a proxy, and who reads the URL behind it sees http."""
    was = given.url.scheme
    if other := OTHER_SCHEME.get(was):
        if urlsplit(public_url).scheme == other:
            cure = f"PUBLIC_URL has {other}:// already, so the bridge checks the right URL"
        elif other == "https":
            cure = f"set PUBLIC_URL to https{public_url[public_url.index(':') :]}"
        else:
            cure = f"write {was}:// into the URL at the carrier, or set PUBLIC_URL to "
            cure += f"{other}{public_url[public_url.index(':') :]}"
        yield Change(
            "scheme",
            f"the carrier signed {other}://, not {was}://",
            cure,
            lambda attempt: attempt.dialled(scheme=other),
        )


def port(given: Attempt, public_url: str) -> Iterator[Change]:
    """A port that somebody adds or strips is part of what is signed."""
    was = bare_netloc(given.url.netloc)[2]
    cure = f"write the port the same way {AT_BOTH}"
    if was:
        yield Change(
            "port",
            f"the carrier signed the URL without its port :{was}",
            cure,
            lambda attempt: attempt.dialled(netloc=bare_netloc(attempt.url.netloc)[0]),
        )
    headers = given.webhook.headers
    named = [
        bare_netloc(urlsplit(public_url).netloc)[2],
        bare_netloc(headers.get("host", ""))[2],
        headers.get("x-forwarded-port", "").strip(),
    ]
    for number in dict.fromkeys((*named, *USUAL_PORTS)):
        if number.isdecimal() and number != was:
            yield Change(
                "port",
                f"the carrier signed the URL with the port :{number}",
                cure,
                with_port(number),
            )


def bare_netloc(netloc: str) -> tuple[str, str, str]:
    """Return host, colon and port; a user name stays with the host."""
    found = re.fullmatch(r"(.*?)(?:(:)([0-9]*))?", netloc)
    return (found[1], found[2] or "", found[3] or "") if found else (netloc, "", "")


def with_port(number: str) -> Callable[[Attempt], Attempt]:
    """Return a change to this port."""
    return lambda attempt: attempt.dialled(netloc=f"{bare_netloc(attempt.url.netloc)[0]}:{number}")


def host(given: Attempt, public_url: str) -> Iterator[Change]:
    """A proxy may hand on another host than the one that was dialled."""
    headers, was = given.webhook.headers, given.url.netloc
    known = [
        ("PUBLIC_URL", urlsplit(public_url).netloc),
        ("the header Host", headers.get("host", "").strip()),
        ("the header X-Forwarded-Host", headers.get("x-forwarded-host", "").strip()),
        ("lower case", was.lower()),
        ("no user name", was.rpartition("@")[2]),
    ]
    seen = {was}
    for where, netloc in known:
        if not netloc or netloc in seen:
            continue
        seen.add(netloc)
        yield Change(
            "host",
            f"the carrier signed the host {netloc.rpartition('@')[2]} ({where})",
            f"use that host {AT_BOTH}",
            lambda attempt, netloc=netloc: attempt.dialled(netloc=netloc),  # type: ignore[misc]
        )


def slash(given: Attempt) -> Iterator[Change]:
    """Some frameworks and proxies add a slash at the end, or take it away."""
    if given.url.path.endswith("/"):
        yield Change(
            "slash",
            "the carrier signed the path without the trailing slash",
            "stop what adds it in front of the bridge: a redirect or a rewrite of the proxy",
            lambda attempt: attempt.dialled(path=attempt.url.path.rstrip("/")),
        )
    else:
        yield Change(
            "slash",
            "the carrier signed the path with a trailing slash",
            "remove the slash from the URL at the carrier: the bridge has no such route",
            lambda attempt: attempt.dialled(path=f"{attempt.url.path}/"),
        )


def prefix(given: Attempt, public_url: str) -> Iterator[Change]:
    """A platform may strip a path prefix, or PUBLIC_URL may name one that nobody dials."""
    path = urlsplit(public_url).path
    if path and not given.url.path.startswith(f"{path}/"):
        yield Change(
            "prefix",
            f"the carrier signed the path with PUBLIC_URL's prefix {path}",
            "the bridge puts the prefix back by itself; give the whole URL here",
            lambda attempt: attempt.dialled(path=path + attempt.url.path),
        )
    own = f"/{given.provider.name}/"
    before, found, _ = given.url.path.partition(own)
    if found and before:
        yield Change(
            "prefix",
            f"the carrier signed the path without the prefix {before}",
            f"use the same prefix, or none, {AT_BOTH}",
            lambda attempt: attempt.dialled(path=attempt.url.path.removeprefix(before)),
        )


ENCODINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("query decoded, as some logs and frameworks show it", unquote),
    (
        "query percent-encoded, blanks as +",
        lambda text: urlencode(parse_qsl(text, keep_blank_values=True), quote_via=quote_plus),
    ),
    (
        "query percent-encoded, blanks as %20",
        lambda text: urlencode(parse_qsl(text, keep_blank_values=True), quote_via=quote, safe=""),
    ),
    (
        "query percent-encoded but for / : @ '",
        lambda text: urlencode(
            parse_qsl(text, keep_blank_values=True), quote_via=quote, safe="/:@'"
        ),
    ),
    ("query with blanks as %20, not +", lambda text: text.replace("+", "%20")),
    ("query with blanks as +, not %20", lambda text: text.replace("%20", "+")),
)
PATH_ENCODINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("path decoded", unquote),
    ("path percent-encoded", lambda text: quote(unquote(text))),
    ("path percent-encoded but for : @ '", lambda text: quote(unquote(text), safe="/:@'")),
)
ENCODING_CURE = (
    "give the URL as it is on the wire; if the bridge refused it, something in front of it decodes "
    "or encodes URLs: turn that off, or keep to letters and digits in the URL at the carrier"
)


def encoding() -> Iterator[Change]:
    """Whoever decodes a URL and writes it anew writes it a little differently."""
    for part, ways in (("query", ENCODINGS), ("path", PATH_ENCODINGS)):
        for name, rewrite in ways:
            yield Change(
                f"{part} encoding",
                f"the carrier signed the {name}",
                ENCODING_CURE,
                rewritten(part, rewrite),
            )


def rewritten(part: str, rewrite: Callable[[str], str]) -> Callable[[Attempt], Attempt]:
    """Return a change of one part of the URL."""
    return lambda attempt: attempt.dialled(**{part: rewrite(getattr(attempt.url, part))})


def query(given: Attempt) -> Iterator[Change]:
    """A proxy or a platform may drop the query, or add one."""
    if given.url.query:
        yield Change(
            "query",
            "the carrier signed the URL without its query",
            "your proxy adds the query, or it is not in the URL at the carrier: use the same URL",
            lambda attempt: attempt.dialled(query=""),
        )
        return
    # What a caller on hold comes back with; any other query is known to the carrier alone.
    for times in range(1, MOST_HELD + 1):
        yield Change(
            "query",
            f"the carrier signed the URL with the query held={times}, which is missing here",
            "your proxy drops the query: let it through",
            lambda attempt, times=times: attempt.dialled(query=f"held={times}"),  # type: ignore[misc]
        )
