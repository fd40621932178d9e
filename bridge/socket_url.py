"""The URL that a carrier opens: what /start returned, its token, and the caller's data.

Composed by a URL parser: the token is the last path segment, before any query.
"""

import base64
import json
import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

# Every character a URL may hold (RFC 3986), without "#": a WebSocket URL has no fragment.
URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")


class UnusableSocketUrl(ValueError):
    """Not a URL that a carrier can open. The message never shows the URL."""


def check_socket_url(ws_url: str) -> None:
    """Return if a carrier can open `ws_url`, else raise UnusableSocketUrl saying why not."""
    if not URL_CHARACTERS.fullmatch(ws_url):
        raise UnusableSocketUrl("is empty or holds characters that no URL has")
    try:
        url = urlsplit(ws_url)
        host = url.hostname
        _ = url.port  # raises on a port that is no number
    except ValueError as error:
        raise UnusableSocketUrl("has no usable host or port") from error
    if not host:
        raise UnusableSocketUrl("has no host")
    if url.username is not None:
        raise UnusableSocketUrl("holds a user name")
    if url.scheme not in ("wss", "ws"):
        raise UnusableSocketUrl(f"has the scheme {url.scheme!r}, not wss")
    if url.scheme == "ws" and not is_loopback(host):
        raise UnusableSocketUrl("has the scheme 'ws'; only a loopback host may go without TLS")


def is_loopback(host: str) -> bool:
    """Say whether `host` is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def socket_url(pattern: str, region: str, agent: str, organization: str) -> str:
    """Return the socket URL of an agent that asks for no token; with one, /start returns it.

    https://docs.pipecat.ai/pipecat-cloud/guides/generic-websocket
    """
    for name, value in (("region", region), ("agent", agent), ("organization", organization)):
        pattern = pattern.replace(f"{{{name}}}", quote(value, safe=""))
    return pattern


def with_token(ws_url: str, token: str) -> str:
    """Return `ws_url` with the token as last path segment, any query kept behind it."""
    url = urlsplit(ws_url)
    return url._replace(path=f"{url.path.rstrip('/')}/{token}").geturl()


def with_body(url: str, body: Mapping[str, object]) -> str:
    """Return `url` with `?body=`: percent-encoded standard base64 of a JSON object.

    A raw "+" would arrive as a space and the URL-safe alphabet is refused: both lose the body.
    https://docs.pipecat.ai/pipecat-cloud/guides/generic-websocket
    """
    # In UTF-8, not in \\u escapes: names of many languages take a third of the room that way.
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    parts = urlsplit(url)
    query = f"{parts.query}&" if parts.query else ""
    return parts._replace(query=f"{query}body={quote(encoded, safe='')}").geturl()
