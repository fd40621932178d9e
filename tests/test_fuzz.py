"""The routes as an OpenAPI document, and schemathesis to break them, signed or not."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case

from app import create_app
from providers import PROVIDERS
from tests.conftest import BY_NAME, FakeLedger, FakeStart, environment, signed
from tests.record_webhooks import RECEIVED_AT

pytestmark = pytest.mark.fuzz

FIELDS = (
    *("CallSid", "CallUUID", "From", "To", "CallStatus", "SequenceNumber", "CallDuration"),
    *("Duration", "Event", "StreamEvent", "StreamError", "Error", "CallbackSource", "CallerName"),
)
QUERY = ("held", "sent_at", "agent")


def operation(method: str) -> dict[str, Any]:
    """Describe what carriers send to any route of ours."""
    text = {"type": "string"}
    described: dict[str, Any] = {
        "parameters": [{"in": "query", "name": name, "schema": text} for name in QUERY],
        "responses": {"default": {"description": "XML, nothing, or a bare refusal"}},
    }
    if method == "post":
        form = {"type": "object", "properties": dict.fromkeys(FIELDS, text)}
        content = {"application/x-www-form-urlencoded": {"schema": form}}
        described["requestBody"] = {"required": True, "content": content}
    return described


DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "The bridge's webhooks", "version": "1"},
    "paths": {
        f"/{provider.name}/{route}": {
            method.lower(): operation(method.lower()) for method in provider.methods
        }
        for provider in PROVIDERS
        for route in ("voice", "after", "stream", "status")
    },
}
schema = schemathesis.openapi.from_dict(DOCUMENT)
app = create_app(
    environment(),
    FakeStart(),  # type: ignore[arg-type]
    FakeLedger(),  # type: ignore[arg-type]
    lambda: RECEIVED_AT,
)
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def prepared(case: Case[Any]) -> tuple[str, str, str]:
    """Return method, target and form of a generated request, as they would be on the wire."""
    request = case.as_transport_kwargs(base_url="https://bridge.example.com")
    query = urlencode(request.get("params") or {}, doseq=True)
    data = request.get("data") or {}
    form = urlencode(data, doseq=True) if isinstance(data, dict) else ""
    return case.method, urlsplit(request["url"]).path + (f"?{query}" if query else ""), form


@schema.parametrize()
@quick
def test_unsigned_requests_are_refused(case: Case[Any]) -> None:
    """403 or 405, and an empty body, for whatever schemathesis makes up."""
    method, target, form = prepared(case)
    content = "application/x-www-form-urlencoded"
    response = app.test_client().open(target, method=method, data=form, content_type=content)

    assert (response.status_code in (403, 405), response.data) == (True, b"")


@schema.parametrize()
@quick
def test_signed_requests_are_answered(case: Case[Any]) -> None:
    """200 with XML, or the callback's bare status: never an error."""
    method, target, form = prepared(case)
    provider = BY_NAME[target.split("/")[1]]
    if provider.name == "plivo" and not ascii_query(target):
        return  # its SDK cannot sign such a query; test_signatures.py has one
    fields = dict(parse_qsl(form, keep_blank_values=True)) if method != "GET" else {}
    recording = signed(provider.name, fields, target=target)
    if method == "GET" and "GET" in provider.methods:
        path, _, query = target.partition("?")
        query_fields = dict(parse_qsl(query, keep_blank_values=True)) | {"x": "1"}
        recording = signed(provider.name, query_fields, method="GET", target=path)
    response = app.test_client().open(
        recording.target, method=method, headers=recording.headers, data=recording.body
    )

    if method not in provider.methods:
        assert response.status_code == 405
    elif target.split("/")[2].partition("?")[0] in ("voice", "after"):
        assert (response.status_code, response.data[:5]) == (200, b"<?xml")
    else:
        assert (response.status_code, response.data) == (provider.callback_status, b"")


def ascii_query(target: str) -> bool:
    """Say whether a query holds nothing that Plivo's SDK fails on."""
    return all(part.isascii() for pair in parse_qsl(urlsplit(target).query) for part in pair)
