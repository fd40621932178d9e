"""What each carrier is told when a call comes in."""

import logging
from base64 import b64decode
from dataclasses import replace
from json import loads
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from syrupy.assertion import SnapshotAssertion

from bridge.errors import StartFailed
from providers.base import Provider
from tests.conftest import PUBLIC_URL, Bridge, FakeStart, Recording, environment, signed


def stream_url(xml: str) -> str:
    """Read the document as a carrier does: the URL is an attribute or the element's text."""
    stream = ElementTree.fromstring(xml).find(".//Stream")
    assert stream is not None
    return stream.get("url") or stream.text or ""


def test_answer_is_the_approved_one(
    bridge: Bridge, recorded: Recording, xml_snapshot: SnapshotAssertion
) -> None:
    """The XML is, byte for byte, what a person has read and approved."""
    response = bridge.ring(recorded)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.text == xml_snapshot


def test_apology_is_the_approved_one(recorded: Recording, xml_snapshot: SnapshotAssertion) -> None:
    """When no session can be had, the caller hears an approved apology, with status 200."""
    start = FakeStart(error=StartFailed("unreachable", "connection refused"))
    response = Bridge(start).ring(recorded)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.text == xml_snapshot


def test_every_recorded_webhook_gets_its_stream(bridge: Bridge, any_recorded: Recording) -> None:
    """POST, GET, with a query and percent-escapes: what the SDKs signed is answered."""
    response = bridge.ring(any_recorded)

    assert response.status_code == 200
    assert stream_url(response.text).startswith(
        "wss://us-west.api.pipecat.daily.co/ws/generic/my-agent.my-org/a&b"
    )


def test_caller_data_reaches_the_bot(bridge: Bridge, any_recorded: Recording) -> None:
    """Who calls whom is in a <Parameter> each, or in ?body=; the numbers are E.164."""
    xml = bridge.ring(any_recorded).text
    body = parse_qs(urlsplit(stream_url(xml)).query).get("body")
    if body:
        data = loads(b64decode(body[0], validate=True))
        numbers = data.pop("from"), data.pop("to")
    else:
        data = {
            p.get("name"): p.get("value") for p in ElementTree.fromstring(xml).iter("Parameter")
        }
        numbers = data.pop("from_number"), data.pop("to_number")

    webhook = any_recorded.webhook()
    assert data.pop("provider") == any_recorded.provider
    assert data.pop("direction") == "inbound"
    assert data.pop("caller_name", "") in ("", "José & Söhne <O'Brien>", "Jürgen D.")
    assert data.keys() == {"call_id"}
    assert data["call_id"] in {webhook.fields.first("CallSid"), webhook.fields.first("CallUUID")}
    assert [n.removeprefix("+") for n in numbers] == [
        webhook.fields.first(name).removeprefix("+") for name in ("From", "To")
    ]
    assert all(number.startswith("+1") for number in numbers)


def test_start_is_asked_for_the_configured_agent(bridge: Bridge, recorded: Recording) -> None:
    """/start is asked once, for PIPECAT_AGENT."""
    bridge.ring(recorded)

    assert [asked[:2] for asked in bridge.start.asked] == [("my-agent", recorded.provider)]


def test_forged_body_or_query_is_refused(bridge: Bridge, any_recorded: Recording) -> None:
    """One digit added to what was signed: 403, an empty body, no session."""
    field = "body" if any_recorded.body else "target"
    response = bridge.ring(any_recorded, **{field: getattr(any_recorded, field) + "0"})

    assert (response.status_code, response.data) == (403, b"")
    assert bridge.start.asked == []


def test_unsigned_webhook_is_refused(bridge: Bridge, any_recorded: Recording) -> None:
    """Without its signature headers, a webhook gets 403 and an empty body."""
    content_type = {n: v for n, v in any_recorded.headers.items() if n == "Content-Type"}
    response = bridge.ring(any_recorded, headers=content_type)

    assert (response.status_code, response.data) == (403, b"")
    assert bridge.start.asked == []


def test_empty_headers_are_refused(bridge: Bridge, any_recorded: Recording) -> None:
    """Each signature header that is there but empty: 403."""
    for name in any_recorded.headers.keys() - {"Content-Type"}:
        response = bridge.ring(any_recorded, headers=any_recorded.headers | {name: ""})

        assert (response.status_code, response.data) == (403, b""), name


def test_wrong_secret_is_refused(carrier: type[Provider], recorded: Recording) -> None:
    """A webhook signed with somebody else's secret gets 403."""
    other = "A" * 43 + "=" if carrier.name == "telnyx" else "somebody-elses-token"
    bridge = Bridge(env=environment(**{carrier.secret_variable: other}))

    assert bridge.ring(recorded).status_code == 403


def test_any_of_several_secrets_is_enough(carrier: type[Provider], recorded: Recording) -> None:
    """While a secret is being rotated, webhooks signed with either are answered."""
    other = "iGtB96aTJO4SmJPzRPqW20Zc10AWCiN8OQLE5Tg330U=" if carrier.name == "telnyx" else "new"
    for both in (f"{other},{recorded.secret}", f" {recorded.secret} , {other},"):
        bridge = Bridge(env=environment(**{carrier.secret_variable: both}))

        assert bridge.ring(recorded).status_code == 200


def test_signature_covers_the_public_url(recorded: Recording) -> None:
    """Signed for another host: 403. Telnyx signs no URL; its body and clock are checked instead."""
    bridge = Bridge(env=environment(PUBLIC_URL="https://other.example.com"))

    expected = 200 if recorded.provider == "telnyx" else 403
    assert bridge.ring(recorded).status_code == expected


def test_forged_host_changes_nothing(bridge: Bridge, any_recorded: Recording) -> None:
    """Host and X-Forwarded-* come from anybody; the URL that is checked comes from PUBLIC_URL."""
    forged = {
        "Host": "evil.example.net:99999",
        "X-Forwarded-Host": "evil.example.net",
        "X-Forwarded-Proto": "http",
    }

    assert bridge.ring(any_recorded, headers=any_recorded.headers | forged).status_code == 200


def test_path_prefix_is_part_of_the_signed_url(any_recorded: Recording) -> None:
    """PUBLIC_URL with a path: the platform strips it, and says so in SCRIPT_NAME or not at all."""
    bridge = Bridge(env=environment(PUBLIC_URL=f"{PUBLIC_URL}/"))
    client = bridge.client(any_recorded.received_at)
    response = client.open(
        any_recorded.target,
        method=any_recorded.method,
        headers=any_recorded.headers,
        data=any_recorded.body,
        environ_overrides={"SCRIPT_NAME": "/calls", "RAW_URI": "/calls" + any_recorded.target},
    )

    assert response.status_code == 200


def test_absolute_request_target_is_understood(bridge: Bridge, any_recorded: Recording) -> None:
    """A proxy may put scheme and host into the request line (RFC 9112); they are not believed."""
    client = bridge.client(any_recorded.received_at)
    response = client.open(
        any_recorded.target,
        method=any_recorded.method,
        headers=any_recorded.headers,
        data=any_recorded.body,
        environ_overrides={"RAW_URI": "http://evil.example.net:1" + any_recorded.target},
    )

    assert response.status_code == 200


def test_refusal_says_why_in_the_log_only(
    bridge: Bridge, any_recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the reason, the URL that was checked and the variable, but no field's value."""
    bridge.ring(any_recorded, headers={})

    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    path = any_recorded.target.partition("?")[0]
    assert f"{PUBLIC_URL}{path}" in record.getMessage()
    assert "missing" in record.getMessage()
    assert "it claims to be call" in record.getMessage()
    assert "5550100" not in record.getMessage()


def test_methods_whose_signature_proves_nothing_are_refused(
    bridge: Bridge, carrier: type[Provider]
) -> None:
    """Telnyx signs no query, so its GET is 405; HEAD, OPTIONS and PUT are 405 everywhere."""
    client = bridge.client(now=0)
    refused = {"GET", "POST", "HEAD", "OPTIONS", "PUT"} - set(carrier.methods)

    assert refused >= {"HEAD", "OPTIONS", "PUT"}
    assert ("GET" in refused) == (carrier.name == "telnyx")
    for method in refused:
        response = client.open(f"/{carrier.name}/voice", method=method)
        assert (response.status_code, response.data) == (405, b"")
    assert bridge.start.asked == []


@pytest.mark.parametrize("path", ["/{}/voice/", "//{}/voice", "/{}//voice", "/{}"])
def test_other_spellings_of_the_route_are_not_redirected(
    bridge: Bridge, carrier: type[Provider], path: str
) -> None:
    """A redirect loses the form: a wrong path is 404, without a body."""
    response = bridge.client(now=0).post(path.format(carrier.name))

    assert (response.status_code, response.data) == (404, b"")


def test_carrier_without_a_secret_has_no_routes(
    carrier: type[Provider], recorded: Recording
) -> None:
    """An unset secret never means that everything is let in."""
    bridge = Bridge(env=environment(**{carrier.secret_variable: ""}))

    assert bridge.ring(recorded).status_code == 404


def test_body_over_64_kib_is_refused(bridge: Bridge, carrier: type[Provider]) -> None:
    """No voice webhook is that long."""
    response = bridge.client(now=0).post(f"/{carrier.name}/voice", data=b"a=" + b"x" * 64 * 1024)

    assert response.status_code == 413


def test_surprise_in_our_own_code_is_an_apology(
    recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever breaks after the signature held, the carrier gets XML and the log a traceback."""
    bridge = Bridge(FakeStart(error=ZeroDivisionError("boom")))
    response = bridge.ring(recorded)

    assert response.status_code == 200
    assert "Sorry" in response.text
    assert "ZeroDivisionError: boom" in caplog.text
    assert bridge.ledger.row["outcome"] == "sorry"


def test_template_that_cannot_be_rendered_is_an_apology(
    recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in stream.xml does not reach the caller as a 500."""
    broken = replace(FakeStart().session, ws_url=None)  # type: ignore[arg-type]
    response = Bridge(FakeStart(session=broken)).ring(recorded)

    assert response.status_code == 200
    assert "Sorry" in response.text
    assert "Traceback" in caplog.text


def test_crash_while_checking_a_signature_is_a_refusal(
    bridge: Bridge, recorded: Recording, carrier: type[Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature that cannot be checked is not a signature."""

    def crash(*_: object) -> None:
        raise UnicodeEncodeError("ascii", "é", 0, 1, "as the Plivo SDK does")

    monkeypatch.setattr(carrier, "verify", crash)
    response = bridge.ring(recorded)

    assert (response.status_code, response.data) == (403, b"")


def test_webhook_without_a_call_id_gets_no_session(
    bridge: Bridge, carrier: type[Provider], caplog: pytest.LogCaptureFixture
) -> None:
    """A signed request that is no call is answered; the log names the field and the cure."""
    response = bridge.ring(signed(carrier.name, {"From": "+14155550100", "To": "+14155550199"}))

    assert "Sorry" in response.text
    assert bridge.start.asked == []
    assert f"no '{carrier.call_id_field}'" in caplog.text
    assert f"/{carrier.name}/voice" in caplog.text


def test_withheld_number_is_no_obstacle(bridge: Bridge, carrier: type[Provider]) -> None:
    """A caller without a number is put through all the same."""
    response = bridge.ring(signed(carrier.name, {carrier.call_id_field: "1", "To": "+14155550199"}))

    assert stream_url(response.text).startswith("wss://")


@pytest.mark.parametrize("field", ["CallbackSource", "StreamEvent"])
def test_telnyx_status_callback_on_the_voice_route_starts_nothing(
    bridge: Bridge, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Telnyx signs no URL: a captured status callback must not be good for a session."""
    form = {"CallSid": "v3:a", "From": "+14155550100", "To": "+14155550199", field: "x"}
    response = bridge.ring(signed("telnyx", form))

    assert "Sorry" in response.text
    assert bridge.start.asked == []
    assert "status callback" in caplog.text


def test_token_and_stream_url_are_never_logged(
    any_recorded: Recording, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever happens to a call, the log holds neither its token, nor its URL, nor a secret."""
    caplog.set_level(logging.DEBUG)
    for error in (None, StartFailed("garbage", "x"), ZeroDivisionError()):
        session = replace(FakeStart().session, token="canary-token")
        Bridge(FakeStart(session, error)).ring(any_recorded)
        Bridge(FakeStart(session, error)).ring(any_recorded, headers={})

    written = caplog.text + "".join(capfd.readouterr())
    assert any_recorded.provider in written
    for canary in ("canary-token", "wss://", "pk_test_canary", any_recorded.secret, "<Response>"):
        assert canary not in written


def test_health_asks_nobody(bridge: Bridge) -> None:
    """GET /health answers 200 ok without a call to anybody."""
    response = bridge.client(now=0).get("/health")

    assert (response.status_code, response.text) == (200, "ok")
    assert bridge.start.asked == []
