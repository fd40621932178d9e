"""Plivo: HMAC-SHA256 (V3) of the URL, its sorted query, the sorted form and a nonce."""

import base64
import hmac
import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from providers.base import Fields, Provider, Webhook, WebhookRejected
from providers.signing import listed, matching, required_header

# "V3" is made with the token of the account or subaccount that owns the number, "Ma-V3" with the
# main account's. Either proves the sender, so one of both tokens is enough.
NONCE_HEADER = "X-Plivo-Signature-V3-Nonce"
SIGNATURE_HEADERS = ("X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3")


class Plivo(Provider):
    """https://www.plivo.com/docs/voice/concepts/signature-validation."""

    name = "plivo"
    secret_variable = "PLIVO_AUTH_TOKEN"  # noqa: S105
    methods = ("GET", "POST")
    call_id_field = "CallUUID"
    stream_event_field = "Event"
    # Two of its pages, two sets of words.
    stream_events = MappingProxyType(
        {
            "StartStream": "started",
            "StopStream": "stopped",
            "DroppedStream": "failed",
            "started": "started",
            "stopped": "stopped",
            "failed": "failed",
        }
    )
    stream_reason_fields = ("Error", "StatusReason")
    duration_field = "Duration"
    caller_name_field = "CallerName"
    callback_status = 200
    console = (
        "Console, Voice, Applications, an XML application: Primary answer URL; "
        "then Phone Numbers, your number, that application"
    )
    voices = re.compile(r"(?i:man|woman)|Polly\.[A-Za-z0-9-]+")
    # https://www.plivo.com/docs/voice/xml/audio-streaming: less than 2048
    longest_stream_url = 2047

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._tokens = listed(self.secret_variable, secrets.get(self.secret_variable, ""))

    def secret_lengths(self) -> Mapping[str, int]:
        """Those of every auth token."""
        return {token.label: len(token.value) for token in self._tokens}

    def verify(self, webhook: Webhook) -> str:
        """Accept any listed signature made with any of the auth tokens."""
        nonce = required_header(webhook, NONCE_HEADER)
        listed = ",".join(webhook.headers.get(name.lower(), "") for name in SIGNATURE_HEADERS)
        given = [signature.strip() for signature in listed.split(",") if signature.strip()]
        if not given:
            what = f"headers {' and '.join(SIGNATURE_HEADERS)} are missing or empty"
            raise WebhookRejected(what, "header")
        signed = f"{signed_url(webhook)}.{nonce}"
        return matching(given, [(token, sign(token.value, signed)) for token in self._tokens]).label

    def attestation(self, fields: Fields) -> str:
        """https://www.plivo.com/docs/voice/concepts/stir-shaken: "Verified" is attestation A."""
        word = fields.first("STIRVerification")
        return {"Verified": "A", "Not Verified": "unverified"}.get(word, "")

    def proof(self, url: str) -> Mapping[str, str]:
        """Sign with the first auth token."""
        webhook, nonce = Webhook("POST", url, {}, b"", 0), "1"
        signature = sign(self._tokens[0].value, f"{signed_url(webhook)}.{nonce}")
        return {SIGNATURE_HEADERS[0]: signature, NONCE_HEADER: nonce}

    def number(self, value: str) -> str:
        """Plivo writes E.164 without its plus sign: 14155550100."""
        return f"+{value}" if re.fullmatch(r"[1-9][0-9]{7,14}", value) else value


def sign(secret: str, text: str) -> str:
    """Return the V3 signature of `text` in standard base64."""
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()


def signed_url(webhook: Webhook) -> str:
    """Return what V3 signs, before the nonce: its path stays encoded, its values do not.

    Plivo's own SDK raises on a query that is not ASCII, so a caller's name could drop the call;
    this is the same text for every query, judged by that SDK and by Plivo's published vectors.
    """
    url = urlsplit(webhook.url)
    form = webhook.form if webhook.method == "POST" else Fields()
    query = "&".join(f"{name}={value}" for name, value in in_order(webhook.query))
    text = f"{url.scheme}://{url.netloc}{url.path}"
    if query or form:
        text += "?" + query
    if query and form:
        text += "."
    return text + "".join(f"{name}{value}" for name, value in in_order(form))


def in_order(fields: Fields) -> list[tuple[str, str]]:
    """Return all (name, value) pairs sorted by name, then value."""
    return sorted((name, value) for name, values in fields.items() for value in values)
