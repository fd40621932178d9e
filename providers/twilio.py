"""Twilio: HMAC-SHA1 of the dialled URL followed by every form field, sorted by name."""

from dataclasses import replace
from types import MappingProxyType
from urllib.parse import urlparse

from twilio.request_validator import RequestValidator, add_port, remove_port

from providers.base import (
    Provider,
    StreamEvent,
    Webhook,
    WebhookRejected,
    any_equal,
    required_header,
)


class Twilio(Provider):
    """https://www.twilio.com/docs/usage/webhooks/webhooks-security."""

    name = "twilio"
    secret_variable = "TWILIO_AUTH_TOKEN"  # noqa: S105
    methods = ("POST", "GET")
    call_id_field = "CallSid"
    stream_event_field = "StreamEvent"
    stream_events = MappingProxyType(
        {"stream-started": "started", "stream-stopped": "stopped", "stream-error": "failed"}
    )
    stream_reason_fields = ("StreamError",)
    duration_field = "CallDuration"  # Duration is in minutes
    callback_status = 204

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__(secrets)
        self._validators = [RequestValidator(secret) for secret in secrets]

    def verify(self, webhook: Webhook) -> None:
        """Accept one signature per auth token and way of writing the port."""
        given = required_header(webhook, "X-Twilio-Signature")
        # The SDK's validate() does not compare in constant time; its parts do the rest here.
        # Twilio signs some URLs with the default port written out, some without.
        url = urlparse(webhook.url)
        expected = [
            validator.compute_signature(candidate, webhook.form)
            for candidate in {webhook.url, add_port(url), remove_port(url)}
            for validator in self._validators
        ]
        if not any_equal([given], expected):
            raise WebhookRejected("signature does not match")

    def read_stream_event(self, webhook: Webhook) -> StreamEvent:
        """Take error 31921 for the end it is: the bot closed the socket, as it does to hang up."""
        event = super().read_stream_event(webhook)
        if event.kind == "failed" and "31921" in event.detail:
            return replace(event, kind="stopped")
        return event
