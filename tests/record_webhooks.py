"""Write tests/webhooks/*.json: one voice webhook per carrier and method, signed by its own SDK.

Run by hand: `.venv/bin/python -m tests.record_webhooks`. Fields are those of the carriers'
documentation; replace a file by a real request when one arrives. Never signed with our own code:
two equal mistakes would agree.
"""

import base64
import json
from pathlib import Path
from urllib.parse import quote, urlencode

from nacl.signing import SigningKey
from plivo.utils import signature_v3
from twilio.request_validator import RequestValidator

FOLDER = Path(__file__).parent / "webhooks"
PUBLIC_URL = "https://bridge.example.com"
RECEIVED_AT = 1_700_000_000
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"
TWILIO = {
    "AccountSid": "AC00000000000000000000000000000001",
    "ApiVersion": "2010-04-01",
    "CallSid": "CA00000000000000000000000000000001",
    "CallStatus": "ringing",
    "Called": "+15005550006",
    "Caller": "+14155550100",
    "CallerName": "José & Söhne <O'Brien>",
    "Direction": "inbound",
    "From": "+14155550100",
    "FromCity": "SAN FRANCISCO",
    "FromZip": "",
    "To": "+15005550006",
}
PLIVO_TOKEN = "MyTestAuthToken00000000000000000000000000"
PLIVO_NONCE = "05429567804466091622"
PLIVO = {
    "BillRate": "0.0085",
    "CallStatus": "ringing",
    "CallUUID": "c8a1f1a2-0000-4b1e-9f10-aaaaaaaaaaaa",
    "CallerName": "+14155550100",
    "Direction": "inbound",
    "Event": "StartApp",
    "From": "14155550100",
    "ParentAuthID": "MAXXXXXXXXXXXXXXXXXX",
    "SessionStart": "2026-01-15 07:48:54.123456",
    "To": "14155550199",
}
TELNYX_KEY = SigningKey(bytes(range(32)))
TELNYX = {
    "AccountSid": "6a9a7976-012e-45d2-9258-6f5dc68d861e",
    "CallSid": "v3:abcDEF-_1",
    "CallSidLegacy": "v3:abcDEF-_1",
    "CallerId": "Jürgen D.",
    "CallingPartyType": "pstn",
    "From": "+15551230001",
    "FromSipUri": "+15551230001@10.239.182.10",
    "To": "+15551230002",
    "ConnectionId": "1568109700606592442",
}


def twilio(method: str, target: str, form: dict[str, str]) -> dict[str, object]:
    """Sign with twilio.request_validator."""
    signature = RequestValidator(TWILIO_TOKEN).compute_signature(PUBLIC_URL + target, form)
    headers = {"X-Twilio-Signature": signature}
    return recording(TWILIO_TOKEN, method, target, headers, form)


def plivo(method: str, target: str, form: dict[str, str]) -> dict[str, object]:
    """Sign with plivo.utils.signature_v3."""
    construct = (
        signature_v3.construct_get_url if method == "GET" else signature_v3.construct_post_url
    )
    signed = construct(PUBLIC_URL + target, dict(form)).decode()
    signature = signature_v3.get_signature_v3(PLIVO_TOKEN.encode(), signed, PLIVO_NONCE).decode()
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": PLIVO_NONCE}
    return recording(PLIVO_TOKEN, method, target, headers, form)


def telnyx(
    method: str, target: str, form: dict[str, str], now: int = RECEIVED_AT
) -> dict[str, object]:
    """Sign as Telnyx documents it; its SDK can only verify, and does so in test_signatures.py."""
    signed = f"{now}|{urlencode(form)}".encode()
    headers = {
        "Telnyx-Signature-Ed25519": base64.b64encode(TELNYX_KEY.sign(signed).signature).decode(),
        "Telnyx-Timestamp": str(now),
    }
    secret = base64.b64encode(bytes(TELNYX_KEY.verify_key)).decode()
    return recording(secret, method, target, headers, form)


def recording(
    secret: str, method: str, target: str, headers: dict[str, str], form: dict[str, str]
) -> dict[str, object]:
    """Return one file's content."""
    return {
        "secret": secret,
        "received_at": RECEIVED_AT,
        "method": method,
        "target": target,
        "headers": headers | (FORM if form else {}),
        "body": urlencode(form),
    }


SIGNERS = {"twilio": twilio, "plivo": plivo, "telnyx": telnyx}

RECORDINGS = {
    "twilio": twilio("POST", "/twilio/voice", TWILIO),
    "twilio_query": twilio("POST", "/twilio/voice?next=https%3A%2F%2Fx.y%2Fz&a=%27b%27", TWILIO),
    "twilio_get": twilio("GET", "/twilio/voice?" + urlencode(TWILIO, quote_via=quote), {}),
    "plivo": plivo("POST", "/plivo/voice", PLIVO),
    "plivo_query": plivo("POST", "/plivo/voice?agent=support&tenant=a%20b&empty=", PLIVO),
    "plivo_get": plivo("GET", "/plivo/voice?" + urlencode(PLIVO), {}),
    "telnyx": telnyx("POST", "/telnyx/voice", TELNYX),
}

if __name__ == "__main__":
    for name, content in RECORDINGS.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
