"""Whom we believe: the carriers' published vectors, and their SDKs as judges."""

import base64
import time
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from plivo.utils import signature_v3, validate_v3_signature
from twilio.request_validator import RequestValidator

from providers.base import BadSecret, Provider, Webhook, WebhookRejected
from providers.plivo import Plivo
from providers.telnyx import TOLERANCE_S, Telnyx
from providers.twilio import Twilio
from tests.conftest import FIRST_OF, signed
from tests.record_webhooks import FORM

NOW = 1_700_000_000.0

# https://www.twilio.com/docs/usage/webhooks/webhooks-security and the Python SDK's own tests.
TWILIO_PARAMS = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
TWILIO_VECTORS = [
    ("https://mycompany.com/myapp.php?foo=1&bar=2", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    ("https://mycompany.com:443/myapp.php?foo=1&bar=2", "kvajT1Ptam85bY51eRf/AJRuM3w="),
    ("http://mycompany.com:80/myapp.php?foo=1&bar=2", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ("http://mycompany.com:1234/myapp.php?foo=1&bar=2", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
]

# plivo-go, utils_test.go, TestValidateSignatureV3Pass1 to 4: captured from a Plivo test host.
PLIVO_TOKEN = "Y2Q2ZDgxZmY5YWRiOTI5YmQ1Njg0MTAxZWIyOTc4"
PLIVO_NONCE = "31627761595286130198"
PLIVO_URL = "https://plivobin.non-prod.plivops.com/api/v1/validate_signature03.xml"
PLIVO_CALL = "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"
PLIVO_USER = "sip:PlivoSignature382029104058171078704104"
PLIVO_PARAMS = {
    "Direction": "outbound",
    "From": "19792014278",
    "ALegUUID": PLIVO_CALL,
    "CallStatus": "in-progress",
    "BillRate": "0.002",
    "ParentAuthID": "MANWVLYTK4ZWU1YTY4QA",
    "To": f"{PLIVO_USER}@phone-qa.voice.plivodev.com",
    "ALegRequestUUID": PLIVO_CALL,
    "CallUUID": PLIVO_CALL,
    "RequestUUID": PLIVO_CALL,
    "SIP-H-To": f"<{PLIVO_USER}@52.9.11.55;transport=udp>;tag=1",
    "SessionStart": "2020-04-08 11:34:33.238707",
    "Event": "StartApp",
}
PLIVO_VECTORS = [
    ("POST", "/?a=b&c=d", "k7Pusd4OxCIjR5IfA9iedDNu/h/gbdYqdzG/MiYtd1c="),
    ("GET", "/?a=b&c=d", "UBq8jAtd32wR8EK9VgxbBn4n5rpI/l1H9iN4WfSEHFQ="),
    ("POST", "", "iAjE5QqI37mbkYe4w3jTMudqEzbDufdqi7sYwTu64e0="),
    ("GET", "", "i/MQsaQSAd6fiKhOh2qeeeLHZ9faldADSb3/7+Akfbc="),
]

TELNYX_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
TELNYX_JSON = (
    '{"data":{"event_type":"call.initiated","id":"0ccc7b54-4df3-4bca-a65a-3da1ecc777f0",'
    '"record_type":"event","payload":{"from":"+15551230001"}}}'
)
TELNYX_SIGNED = [
    (
        TELNYX_JSON,
        "d0EspnrQVB3+EVwqRjWaONPErLLyXu3y1d4gQoNxLZJ9J1/wEDIyOrvEfAmC8I/Hco2Wwy1PRCWotKFUNtoMBg==",
    ),
    (
        "AccountSid=6a9a7976-012e-45d2-9258-6f5dc68d861e&CallSid=v3%3AabcDEF-_1"
        "&CallSidLegacy=v3%3AabcDEF-_1&CallerId=J%C3%BCrgen+D.&From=%2B15551230001"
        "&To=%2B15551230002&ConnectionId=1568109700606592442",
        "dpisWjCUZcJypasTUdC64EtPSvsULcYYhZaSt+OTFwcsQ41S/TsmR4KZM5NPAfZl9tmD/ddC0X1HqhWPi202CQ==",
    ),
]

text = st.text(st.characters(codec="utf-8"), max_size=12)
ascii_text = st.text(st.characters(codec="ascii"), max_size=12)


def webhook(
    method: str, url: str, headers: dict[str, str], body: str = "", received_at: float = NOW
) -> Webhook:
    """Build what a provider sees."""
    lower = {name.lower(): value for name, value in (headers | FORM).items()}
    return Webhook(method, url, lower, body.encode(), received_at)


def accepted(provider: Provider, request: Webhook) -> bool:
    """Say what the provider says."""
    try:
        provider.verify(request)
    except WebhookRejected:
        return False
    return True


@pytest.mark.parametrize(("url", "signature"), TWILIO_VECTORS)
def test_twilio_published_vectors(url: str, signature: str) -> None:
    """Twilio's own vectors verify; with one altered field they do not."""
    headers = {"X-Twilio-Signature": signature}
    twilio = Twilio({"TWILIO_AUTH_TOKEN": "12345"})

    assert accepted(twilio, webhook("POST", url, headers, urlencode(TWILIO_PARAMS)))
    altered = urlencode(TWILIO_PARAMS | {"Digits": "1235"})
    assert not accepted(twilio, webhook("POST", url, headers, altered))


@pytest.mark.parametrize("signed_url", [TWILIO_VECTORS[0][0], TWILIO_VECTORS[1][0]])
@pytest.mark.parametrize("dialled_url", [TWILIO_VECTORS[0][0], TWILIO_VECTORS[1][0]])
def test_twilio_with_and_without_port(signed_url: str, dialled_url: str) -> None:
    """Twilio signs some URLs with the default port written out, whatever was configured."""
    signature = RequestValidator("12345").compute_signature(signed_url, TWILIO_PARAMS)
    request = webhook(
        "POST", dialled_url, {"X-Twilio-Signature": signature}, urlencode(TWILIO_PARAMS)
    )

    assert accepted(Twilio({"TWILIO_AUTH_TOKEN": "12345"}), request)


@given(
    form=st.dictionaries(text, st.lists(text, min_size=1, max_size=3), max_size=5),
    query=st.dictionaries(text, text, max_size=3),
    post=st.booleans(),
)
def test_twilio_agrees_with_its_sdk(
    form: dict[str, list[str]], query: dict[str, str], post: bool
) -> None:
    """Any fields, repeated and blank ones too: what the SDK signs, we accept."""
    form = form if post else {}
    url = "https://bridge.example.com/twilio/voice" + (f"?{urlencode(query)}" if query else "")
    fields = type("Fields", (dict,), {"getlist": dict.__getitem__})(form)
    signature = RequestValidator("token").compute_signature(url, fields)
    request = webhook(
        "POST" if post else "GET",
        url,
        {"X-Twilio-Signature": signature},
        urlencode(form, doseq=True),
    )

    assert accepted(Twilio({"TWILIO_AUTH_TOKEN": "token"}), request)
    assert not accepted(Twilio({"TWILIO_AUTH_TOKEN": "other"}), request)
    assert not accepted(
        Twilio({"TWILIO_AUTH_TOKEN": "token"}), replace(request, url=request.url + "&x=1")
    )


@pytest.mark.parametrize(("method", "path_and_query", "signature"), PLIVO_VECTORS)
def test_plivo_published_vectors(method: str, path_and_query: str, signature: str) -> None:
    """Plivo's own vectors verify; with one altered field they do not."""

    def request(params: dict[str, str]) -> Webhook:
        headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": PLIVO_NONCE}
        url = PLIVO_URL + path_and_query
        if method == "POST":
            return webhook("POST", url, headers, urlencode(params))
        return webhook("GET", url + ("&" if "?" in url else "?") + urlencode(params), headers)

    assert accepted(Plivo({"PLIVO_AUTH_TOKEN": PLIVO_TOKEN}), request(PLIVO_PARAMS))
    assert not accepted(
        Plivo({"PLIVO_AUTH_TOKEN": PLIVO_TOKEN}), request(PLIVO_PARAMS | {"From": "19792014279"})
    )


@given(
    method=st.sampled_from(["GET", "POST"]),
    query=st.dictionaries(ascii_text.filter(bool), ascii_text, max_size=4),
    form=st.dictionaries(ascii_text.filter(bool), ascii_text, max_size=4),
)
def test_plivo_agrees_with_its_sdk(
    method: str, query: dict[str, str], form: dict[str, str]
) -> None:
    """GET and POST, with and without query and form: what the SDK accepts, we accept."""
    form = form if method == "POST" else {}
    url = "https://bridge.example.com/plivo/voice" + (f"?{urlencode(query)}" if query else "")
    construct = (
        signature_v3.construct_get_url if method == "GET" else signature_v3.construct_post_url
    )
    signature = signature_v3.get_signature_v3(
        b"token", construct(url, dict(form)).decode(), "77"
    ).decode()
    assert validate_v3_signature(
        method=method,
        uri=url,
        nonce="77",
        auth_token="token",
        v3_signature=signature,
        params=dict(form),
    )
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "77"}
    request = webhook(method, url, headers, urlencode(form))

    assert accepted(Plivo({"PLIVO_AUTH_TOKEN": "token"}), request)
    assert not accepted(Plivo({"PLIVO_AUTH_TOKEN": "other"}), request)
    assert not accepted(Plivo({"PLIVO_AUTH_TOKEN": "token"}), replace(request, url=url + "x"))


def test_plivo_caller_name_outside_ascii_is_no_crash() -> None:
    """For such a name on GET the SDK raises on some Pythons; here the decoded text is checked."""
    url = "https://bridge.example.com/plivo/voice?CallerName=" + quote("José")
    signed = "https://bridge.example.com/plivo/voice?CallerName=José"
    signature = signature_v3.get_signature_v3(b"token", signed, "77").decode()
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "77"}

    assert accepted(Plivo({"PLIVO_AUTH_TOKEN": "token"}), webhook("GET", url, headers))
    assert not accepted(Plivo({"PLIVO_AUTH_TOKEN": "token"}), webhook("GET", url + "%ff", headers))


@pytest.mark.parametrize("header", ["X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3"])
@pytest.mark.parametrize("layout", ["{}", "x,{}", "x, {}", "{} , x", " {},,x "])
def test_plivo_signature_lists(header: str, layout: str) -> None:
    """One signature per active token, with or without spaces, in either header."""
    recording = FIRST_OF["plivo"]
    headers = dict(recording.headers)
    signature = headers.pop("X-Plivo-Signature-V3")
    request = replace(recording, headers=headers | {header: layout.format(signature)}).webhook()

    assert accepted(Plivo({"PLIVO_AUTH_TOKEN": recording.secret}), request)


def test_plivo_other_headers_are_no_signature() -> None:
    """V2 leaves query and form unsigned: its header alone is nothing."""
    recording = FIRST_OF["plivo"]
    headers = dict(recording.headers)
    headers["X-Plivo-Signature-V2"] = headers.pop("X-Plivo-Signature-V3")

    assert not accepted(
        Plivo({"PLIVO_AUTH_TOKEN": recording.secret}), replace(recording, headers=headers).webhook()
    )


@pytest.mark.parametrize(("body", "signature"), TELNYX_SIGNED)
def test_telnyx_vectors(body: str, signature: str) -> None:
    """JSON and form bodies verify over their raw bytes."""
    headers = {"Telnyx-Timestamp": "1700000000", "Telnyx-Signature-Ed25519": signature}

    assert accepted(
        Telnyx({"TELNYX_PUBLIC_KEY": TELNYX_KEY}), webhook("POST", "https://x/", headers, body)
    )
    assert not accepted(
        Telnyx({"TELNYX_PUBLIC_KEY": TELNYX_KEY}),
        webhook("POST", "https://x/", headers, body + " "),
    )


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [(0, True), (TOLERANCE_S, True), (-TOLERANCE_S, True), (301, False), (-301, False)],
)
def test_telnyx_timestamp_is_fresh(age_s: int, expected: bool) -> None:
    """300 s either way are accepted, one more is not."""
    recording = FIRST_OF["telnyx"]
    request = replace(recording, received_at=recording.received_at + age_s).webhook()

    assert accepted(Telnyx({"TELNYX_PUBLIC_KEY": recording.secret}), request) is expected


@pytest.mark.parametrize("timestamp", ["", "soon", "1.7e9", "-1", "٣", "9" * 400, "1700000000 "])
def test_telnyx_timestamp_is_whole_seconds(timestamp: str) -> None:
    """Anything else is refused without a crash."""
    recording = FIRST_OF["telnyx"]
    headers = recording.headers | {"Telnyx-Timestamp": timestamp}

    assert not accepted(
        Telnyx({"TELNYX_PUBLIC_KEY": recording.secret}),
        replace(recording, headers=headers).webhook(),
    )


@pytest.mark.parametrize("signature", ["", "x", "é", "AAAA", "A" * 88, "====", "A" * 5000])
def test_telnyx_signature_is_64_bytes(signature: str) -> None:
    """Anything else is refused without a crash."""
    recording = FIRST_OF["telnyx"]
    headers = recording.headers | {"Telnyx-Signature-Ed25519": signature}

    assert not accepted(
        Telnyx({"TELNYX_PUBLIC_KEY": recording.secret}),
        replace(recording, headers=headers).webhook(),
    )


@given(body=st.binary(max_size=60), flip=st.integers(0, 63))
def test_telnyx_any_bytes(body: bytes, flip: int) -> None:
    """Any body is signed as it came, UTF-8 or not; one flipped bit is refused."""
    key = SigningKey(bytes(32))
    signature = bytearray(key.sign(b"1700000000|" + body).signature)
    telnyx = Telnyx({"TELNYX_PUBLIC_KEY": base64.b64encode(bytes(key.verify_key)).decode()})

    def request() -> Webhook:
        given_signature = base64.b64encode(bytes(signature)).decode()
        headers = {"telnyx-timestamp": "1700000000", "telnyx-signature-ed25519": given_signature}
        return Webhook("POST", "https://x/", headers, body, NOW)

    assert accepted(telnyx, request())
    signature[flip] ^= 1
    assert not accepted(telnyx, request())


def test_telnyx_sdk_accepts_our_recordings() -> None:
    """Telnyx's own verifier agrees on how tests/record_webhooks.py signs."""
    # 1.4 s and 90 MB: the reason why no web worker imports it.
    from telnyx.lib import webhook_verification as sdk

    recording = signed("telnyx", {"CallSid": "v3:a"}, now=int(time.time()))
    sdk.verify_webhook_signature(recording.body, recording.headers, recording.secret)
    with pytest.raises(sdk.WebhookVerificationError):
        sdk.verify_webhook_signature("x", recording.headers, recording.secret)


@pytest.mark.parametrize(
    "secret", ["", "not base64!", "QUJD", "-----BEGIN PUBLIC KEY-----", "A" * 44, "é"]
)
def test_telnyx_key_that_is_none_stops_the_start(secret: str) -> None:
    """A key that cannot verify anything is found at start, and is not shown."""
    with pytest.raises(BadSecret) as caught:
        Telnyx({"TELNYX_PUBLIC_KEY": secret})

    assert not secret or secret not in str(caught.value)


def test_provider_without_a_secret_cannot_be_made(carrier: type[Provider]) -> None:
    """The SDKs accept forgeries when the secret is empty; a provider refuses to exist."""
    for text in ("", " ", ",", " , "):
        with pytest.raises(BadSecret) as caught:
            carrier({carrier.secret_variable: text})
        assert carrier.secret_variable in str(caught.value)
    with pytest.raises(BadSecret):
        carrier({})
