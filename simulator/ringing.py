"""Rings the bridge: one webhook, signed as the carrier signs, sent exactly as signed."""

import http.client
import ssl
from collections.abc import Mapping
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
    """How to ring: where the bridge listens, and the URL that is signed."""

    url: str  # dialled, "http://127.0.0.1:8000/twilio/voice"
    signed_url: str  # the same route below the bridge's PUBLIC_URL
    method: str = "POST"
    bad_signature: bool = False

    def send(self, carrier: Carrier, call: Caller) -> BridgeAnswer:
        """Send one webhook and return the answer, or raise RingFailed."""
        fields = carrier.webhook(call)
        form = fields if self.method == "POST" else {}
        suffix = "" if form else ("&" if "?" in self.url else "?") + urlencode(fields)
        body = urlencode(form).encode()
        headers = carrier.sign(self.method, self.signed_url + suffix, form, body)
        if self.bad_signature:
            headers = {name: forge(value) for name, value in headers.items()}
        if form:
            headers["Content-Type"] = FORM
        return exchange(self.method, self.url + suffix, headers, body, carrier.patience_s)


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
    try:
        connection.request(method, target, body or None, dict(headers))
        response = connection.getresponse()
        answer = response.read(LONGEST_ANSWER_BYTES)
    except TimeoutError as error:
        raise RingFailed(f"no answer from {parts.netloc} within {patience_s:g} s") from error
    except ConnectionRefusedError as error:
        raise RingFailed(f"nobody listens at {parts.netloc}: is the bridge running?") from error
    except (OSError, http.client.HTTPException) as error:
        raise RingFailed(f"{parts.netloc}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return BridgeAnswer(response.status, response.headers.get("Content-Type", ""), answer)
