"""Whether PUBLIC_URL leads to a bridge, asked from here as a carrier would."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from bridge.deadline_http import reason
from bridge.doctor.findings import Finding
from bridge.settings import Settings
from providers.base import Provider

CONNECT_S, READ_S = 5.0, 10.0
LONGEST_BODY = 1000  # bytes that are looked at

NO_TLS = re.compile("(?i)wrong.version.number|record.layer|packet.length")


@dataclass(frozen=True)
class Reply:
    """What PUBLIC_URL answered."""

    status: int
    body: bytes = b""
    location: str = ""  # where a redirect leads


# Method, URL and headers; raises requests.RequestException.
Ask = Callable[[str, str, Mapping[str, str]], Reply]


def ask(method: str, url: str, headers: Mapping[str, str]) -> Reply:
    """Send a request without a body; follow no redirect, because carriers sign one URL."""
    with requests.request(
        method,
        url,
        headers=dict(headers),
        allow_redirects=False,
        timeout=(CONNECT_S, READ_S),
        stream=True,
    ) as response:
        body = next(response.iter_content(LONGEST_BODY), b"")
        return Reply(response.status_code, body, response.headers.get("Location", ""))


def check_public_url(settings: Settings, ask: Ask) -> Iterator[Finding]:
    """Yield whether a bridge answers there, and whether it knows the same carriers."""
    url = f"{settings.public_url}/health"
    try:
        reply = ask("GET", url, {})
    except requests.RequestException as error:
        yield unreachable(url, error)
        return
    if problem := not_a_bridge(url, reply):
        yield problem
        return
    yield Finding("ok", f"{url} answers ok")
    for provider in settings.providers:
        try:
            forged = refuses_forgeries(settings, provider.name, provider.secret_variable, ask)
            yield forged
            if forged.level == "ok":
                yield from knows_our_secret(settings, provider, ask)
        except requests.RequestException as error:
            yield unreachable(f"{settings.public_url}/{provider.name}/voice", error)


def not_a_bridge(url: str, reply: Reply) -> Finding | None:
    """Say what answers instead of /health, or None if it is a bridge's own answer."""
    if reply.status == 200 and reply.body.strip() == b"ok":
        return None
    if 300 <= reply.status < 400:
        return redirected(url, reply)
    if reply.status == 200:
        what, cure = "200, but not with ok: another program", "PUBLIC_URL, or what it leads to"
    elif reply.status in (401, 403, 407):
        what, cure = f"{reply.status}", "something in front asks for a login: let carriers through"
    elif reply.status == 404:
        what = "404"
        cure = (
            "another program answers there, or the path prefix is wrong: PUBLIC_URL has one too "
            "many or too few, or the proxy keeps it on"
        )
    elif reply.status in (502, 503, 504):
        what, cure = f"{reply.status}", "what is in front is up, the bridge behind it is not"
    else:
        what, cure = f"{reply.status}", "PUBLIC_URL, or what it leads to"
    return Finding("error", f"{url} answers {what}", cure)


def redirected(url: str, reply: Reply) -> Finding:
    """Name what a redirect changes: a carrier that follows it loses the form or its signature."""
    there = urlsplit(urljoin(url, reply.location))
    here = urlsplit(url)
    target = f"{there.scheme}://{there.netloc}{there.path}"
    if there.netloc == here.netloc and there.path == f"{here.path}/":
        cure = "something in front adds a trailing slash: turn that off, carriers sign without it"
    elif there.scheme != here.scheme and there.hostname == here.hostname:
        cure = f"give PUBLIC_URL, and the URL at the carrier, with {there.scheme}://"
    elif there.netloc != here.netloc:
        cure = f"if {there.netloc} is the bridge, name it in PUBLIC_URL and at the carrier"
    else:
        cure = "if that is the bridge, PUBLIC_URL has the wrong path prefix; else let carriers in"
    return Finding("error", f"{url} redirects to {target} ({reply.status})", cure)


def unreachable(url: str, error: requests.RequestException) -> Finding:
    """Name why there is no answer."""
    why = reason(error)
    if isinstance(error, requests.exceptions.SSLError) and NO_TLS.search(why):
        cure = "that port speaks no TLS: http:// or another port in PUBLIC_URL, or TLS there"
    elif isinstance(error, requests.exceptions.SSLError):
        cure = "the certificate or the TLS of that host: carriers refuse it too"
    elif isinstance(error, requests.Timeout):
        cure = "a firewall drops what comes in, or the host is down"
    elif "refused" in why.lower():
        cure = "nothing listens there: start the bridge, or its tunnel, and look at the port"
    elif "gaierror" in why or "resolve" in why.lower():
        cure = "the host's name is wrong, or has no address yet"
    else:
        cure = "PUBLIC_URL, and the way from here to there"
    return Finding("error", f"{url} cannot be reached: {why}", cure)


def refuses_forgeries(settings: Settings, name: str, variable: str, ask: Ask) -> Finding:
    """Post what nobody signed: a bridge that knows the carrier answers 403 and nothing else.

    A route that told which bridge this is would tell it to everybody.
    """
    url = f"{settings.public_url}/{name}/voice"
    reply = ask("POST", url, {})
    if reply.status == 403 and not reply.body:
        return Finding("ok", f"{url} refuses what is not signed, as a bridge does")
    if 300 <= reply.status < 400:
        return redirected(url, reply)
    if reply.status == 404:
        return Finding(
            "error",
            f"{url} answers 404",
            f"the bridge that runs there has no {variable}, or is an older start of this one",
        )
    return Finding(
        "error",
        f"{url} answers {reply.status} to a request that nobody signed, not a bare 403",
        "another program answers there, or something in front of the bridge does",
    )


def knows_our_secret(settings: Settings, provider: Provider, ask: Ask) -> Iterator[Finding]:
    """Post what our own secret signs: only a bridge with that secret and this PUBLIC_URL takes it.

    To the route for status callbacks, with no call in it: nothing comes of it but a log line.
    """
    url = f"{settings.public_url}/{provider.name}/status"
    proof = provider.proof(url)
    if proof is None:
        return
    reply = ask("POST", url, proof)
    if reply.status == provider.callback_status:
        yield Finding("ok", f"{url} knows this {provider.secret_variable} and this PUBLIC_URL")
    else:
        yield Finding(
            "error",
            f"{url} answers {reply.status} to what our {provider.secret_variable} signs",
            "another bridge answers there, or that one was started with another secret or another "
            "PUBLIC_URL",
        )
