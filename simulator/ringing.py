"""Rings the bridge: one webhook, signed as the carrier signs, sent exactly as signed."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from simulator.carrier import Caller, CallFailed, Carrier

FORM = "application/x-www-form-urlencoded"
LONGEST_ANSWER_BYTES = 1024 * 1024


class RingFailed(CallFailed):
    """No HTTP answer. The message says why."""


@dataclass(frozen=True)
class BridgeAnswer:
    """What the bridge answered."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Ring:
    """How the bridge is reached: where it listens, and the URLs that are signed."""

    url: str  # dialled, "http://127.0.0.1:8000/twilio/voice"
    signed_url: str  # the same route below the bridge's PUBLIC_URL
    method: str = "POST"
    bad_signature: bool = False

    def send(self, carrier: Carrier, call: Caller) -> BridgeAnswer:
        """Send the voice webhook and return the answer, or raise RingFailed."""
        return self.post(carrier, self.signed_url, carrier.webhook(call), self.method)

    def post(
        self, carrier: Carrier, signed_url: str, fields: Mapping[str, str], method: str = "POST"
    ) -> BridgeAnswer:
        """Send any webhook to a URL of the bridge and return the answer, or raise RingFailed."""
        form = dict(fields) if method == "POST" else {}
        suffix = "" if form else ("&" if "?" in signed_url else "?") + urlencode(fields)
        body = urlencode(form).encode()
        headers = carrier.sign(method, signed_url + suffix, form, body)
        if self.bad_signature:
            headers = {name: forge(value) for name, value in headers.items()}
        if form:
            headers["Content-Type"] = FORM
        return exchange(
            method, self.dialled(signed_url) + suffix, headers, body, carrier.patience_s
        )

    def dialled(self, signed_url: str) -> str:
        """Return where a URL below PUBLIC_URL is really dialled."""
        parts = urlsplit(self.url)
        route = parts.path + (f"?{parts.query}" if parts.query else "")
        public, local = self.signed_url.removesuffix(route), self.url.removesuffix(route)
        if not signed_url.startswith(f"{public}/"):
            raise RingFailed(f"a URL of the document leads elsewhere than {public}")
        return local + signed_url.removeprefix(public)

    def sibling(self, route: str) -> str:
        """Return the signed URL of another route of this carrier: "status" beside "voice"."""
        return (
            urlsplit(self.signed_url)._replace(query="").geturl().rpartition("/")[0] + f"/{route}"
        )


def forge(value: str) -> str:
    """Return a header value of the same shape that proves nothing."""
    return value if value.isdecimal() else ("B" if value[0] == "A" else "A") + value[1:]


def exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes, patience_s: float
) -> BridgeAnswer:
    """Send one request on a connection of its own; the target goes out as it is written."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=patience_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=patience_s)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # The time-out of a socket counts from byte to byte; a carrier's patience does not.
    patience = threading.Timer(patience_s, hang_up, [connection])
    patience.start()
    started = time.monotonic()
    try:
        connection.request(method, target, body or None, dict(headers))
        response = connection.getresponse()
        answer = response.read(LONGEST_ANSWER_BYTES)
    except ConnectionRefusedError as error:
        raise RingFailed(f"nobody listens at {parts.netloc}: is the bridge running?") from error
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() - started >= patience_s:
            raise RingFailed(f"no answer from {parts.netloc} within {patience_s:g} s") from error
        raise RingFailed(f"{parts.netloc}: {error or type(error).__name__}") from error
    finally:
        patience.cancel()
        connection.close()
    if time.monotonic() - started >= patience_s:
        raise RingFailed(f"no whole answer from {parts.netloc} within {patience_s:g} s")
    return BridgeAnswer(response.status, response.headers.get("Content-Type", ""), answer)


def hang_up(connection: http.client.HTTPConnection) -> None:
    """End an exchange that has lasted longer than the carrier waits."""
    if connection.sock:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
