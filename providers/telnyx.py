"""Telnyx: Ed25519 over a timestamp and the raw body, checked with the account's public key."""

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from providers.base import (
    BadSecret,
    BadWebhook,
    Fields,
    Provider,
    Webhook,
    WebhookRejected,
)
from providers.signing import listed, required_header

TOLERANCE_S = 300  # how far the signed timestamp may lie from now, either way
SIGNATURE_BYTES = 64


class Telnyx(Provider):
    """https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks#webhook-signing.

    The signature covers neither the URL nor a query, so a GET proves nothing: POST only.
    """

    name = "telnyx"
    secret_variable = "TELNYX_PUBLIC_KEY"  # noqa: S105
    methods = ("POST",)
    call_id_field = "CallSid"
    stream_event_field = "StreamEvent"
    # Two of its pages, two words for a failure.
    stream_events = MappingProxyType(
        {
            "stream-started": "started",
            "stream-stopped": "stopped",
            "stream-failed": "failed",
            "stream-error": "failed",
        }
    )
    stream_reason_fields = ("StreamError",)
    duration_field = "CallDuration"
    caller_name_field = "CallerId"
    callback_status = 200
    console = (
        "Mission Control, Voice, TeXML applications: Webhook URL, and the method, whose default "
        "GET is refused; then Numbers, your number, that application"
    )
    timestamp_header = "Telnyx-Timestamp"
    tolerance_s = TOLERANCE_S
    voices = re.compile(r"man|woman|alice|(Polly|ElevenLabs|Azure|Telnyx)\.[A-Za-z0-9._-]+")
    longest_stream_url = 2000  # of a <Stream> it says nothing; of URLs elsewhere, this

    def __init__(self, secrets: Mapping[str, str]) -> None:
        variable = self.secret_variable
        keys = listed(variable, secrets.get(variable, ""))
        self._keys = [(key.label, public_key(variable, key.value)) for key in keys]

    def verify(self, webhook: Webhook) -> str:
        """Accept a fresh timestamp signed with any of the keys."""
        timestamp = required_header(webhook, "Telnyx-Timestamp")
        given = required_header(webhook, "Telnyx-Signature-Ed25519")
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
            raise WebhookRejected("header Telnyx-Timestamp is not whole Unix seconds", "header")
        age_s = webhook.received_at - int(timestamp)
        if abs(age_s) > TOLERANCE_S:
            raise WebhookRejected(
                f"timestamp is {abs(age_s):.0f} s in the {'past' if age_s > 0 else 'future'}, "
                f"{TOLERANCE_S} s are allowed: a replay, or this machine's clock is wrong",
                "timestamp",
            )
        try:
            signature = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError) as error:
            raise WebhookRejected("signature is not base64", "header") from error
        if len(signature) != SIGNATURE_BYTES:
            what = f"signature has {len(signature)} bytes, not {SIGNATURE_BYTES}"
            raise WebhookRejected(what, "header")
        # The timestamp as it came: int() would drop a leading zero that was signed.
        signed = timestamp.encode() + b"|" + webhook.body
        for label, key in self._keys:
            if signed_with(key, signed, signature):
                return label
        raise WebhookRejected("signature does not match", "signature")

    def attestation(self, fields: Fields) -> str:
        """https://developers.telnyx.com/api-reference/callbacks/texml-call-initiated."""
        letter, valid = fields.first("ShakenStirAttestation"), fields.first("ShakenStirValidated")
        if letter in ("A", "B", "C") and valid.lower() == "true":
            return letter
        return "unverified" if letter or valid else ""

    def refuse_callback(self, webhook: Webhook) -> None:
        """The signature does not cover the URL: a captured callback could be sent to /voice."""
        for field in ("CallbackSource", "StreamEvent"):
            if field in webhook.fields:
                raise BadWebhook(
                    f"{field!r} makes this a status callback, not a call: "
                    "use /telnyx/voice for the voice URL only"
                )


def public_key(variable: str, secret: str) -> VerifyKey:
    """Decode a public key as the portal shows it: base64 of 32 bytes."""
    try:
        return VerifyKey(base64.b64decode(secret, validate=True))
    except (ValueError, TypeError) as error:  # binascii.Error is a ValueError
        raise BadSecret(
            f"{variable} is not a Telnyx public key (base64 of 32 bytes; "
            "portal: Account, Keys & Credentials, Public Key)"
        ) from error


def signed_with(key: VerifyKey, signed: bytes, signature: bytes) -> bool:
    """Say whether `signature` over `signed` was made with the secret half of `key`."""
    try:
        key.verify(signed, signature)
    except BadSignatureError:
        return False
    return True
