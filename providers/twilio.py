"""Twilio: HMAC-SHA1 of the dialled URL followed by every form field, sorted by name."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import urlparse

from twilio.request_validator import (
    HMAC_SHA1,
    HMAC_SHA256,
    SIGNATURE_SETTINGS_HEADER,
    RequestValidator,
    add_port,
    get_signature_algorithm,
    remove_port,
)

from providers.base import BadSecret, Fields, Provider, StreamEvent, Webhook, WebhookRejected
from providers.signing import Secret, listed, matching, owned, required_header

HEADER = "X-Twilio-Signature"
ACCOUNT_SID = re.compile("AC[0-9a-f]{32}")


class Twilio(Provider):
    """https://www.twilio.com/docs/usage/webhooks/webhooks-security."""

    name = "twilio"
    secret_variable = "TWILIO_AUTH_TOKEN"  # noqa: S105
    more_secret_variables = ("TWILIO_AUTH_TOKENS", "TWILIO_SHARED_KEYS")
    methods = ("POST", "GET")
    call_id_field = "CallSid"
    stream_event_field = "StreamEvent"
    stream_events = MappingProxyType(
        {"stream-started": "started", "stream-stopped": "stopped", "stream-error": "failed"}
    )
    stream_reason_fields = ("StreamError",)
    duration_field = "CallDuration"  # Duration is in minutes
    caller_name_field = "CallerName"
    callback_status = 204
    console = (
        "Console, Phone Numbers, Active numbers, your number, Voice Configuration: "
        "A call comes in, Webhook"
    )
    voices = re.compile(r"man|woman|alice|(Polly|Google)\.[A-Za-z0-9-]+")
    longest_parameter = 499  # https://www.twilio.com/docs/voice/twiml/stream#custom-parameters

    def __init__(self, secrets: Mapping[str, str]) -> None:
        any_account, accounts, shared = self.secret_variables()
        if not secrets:
            raise BadSecret(f"{any_account} holds no secret")
        self._tokens = [
            *(owned(accounts, secrets[accounts]) if accounts in secrets else ()),
            *(listed(any_account, secrets[any_account]) if any_account in secrets else ()),
        ]
        self._shared_keys = owned(shared, secrets[shared]) if shared in secrets else ()
        for token in self._tokens:
            if not token.owner and re.match("AC[0-9a-f]{32}=", token.value):
                raise BadSecret(f"{any_account} holds an account's id: write that to {accounts}")
            if token.owner and not ACCOUNT_SID.fullmatch(token.owner):
                raise BadSecret(
                    f'{accounts} is no list of "AC...=token,AC...=token": '
                    "one id is no account SID (AC and 32 hexadecimal digits)"
                )

    def secret_lengths(self) -> Mapping[str, int]:
        """Those of accounts and shared keys too."""
        return {secret.label: len(secret.value) for secret in (*self._tokens, *self._shared_keys)}

    def verify(self, webhook: Webhook) -> str:
        """Accept one signature per secret of the sender and way of writing the port."""
        given = required_header(webhook, HEADER)
        settings = webhook.headers.get(SIGNATURE_SETTINGS_HEADER.lower(), "")
        algorithm = get_signature_algorithm(settings)
        if algorithm.upper() not in (HMAC_SHA1, HMAC_SHA256):
            raise WebhookRejected(f"algorithm {algorithm[:40]!r} is none that we know", "secret")
        secrets = self._secrets_of(webhook, settings)
        # The SDK's validate() does not compare in constant time; its parts do the rest here.
        # Twilio signs some URLs with the default port written out, some without.
        url = urlparse(webhook.url)
        form = webhook.form if webhook.method == "POST" else Fields()
        candidates = {webhook.url, add_port(url), remove_port(url)}
        expected = [
            (
                secret,
                RequestValidator(secret.value).compute_signature(one, form, algorithm),
            )
            for secret in secrets
            for one in candidates
        ]
        return matching([given], expected).label

    def proof(self, url: str) -> Mapping[str, str] | None:
        """Sign as the account of TWILIO_AUTH_TOKEN, if there is one."""
        for token in self._tokens:
            if not token.owner:
                return {HEADER: RequestValidator(token.value).compute_signature(url, {})}
        return None

    def _secrets_of(self, webhook: Webhook, settings: str) -> list[Secret]:
        """Return what this sender may sign with: a token that another account has proves nothing.

        The account is one of the signed fields: who lies about it must sign with its token.
        """
        key = dict(part.strip().partition("=")[::2] for part in settings.split(",")).get("key")
        if key:
            secrets = [secret for secret in self._shared_keys if secret.owner == key]
            where = f"TWILIO_SHARED_KEYS does not hold the shared key {key[:80]!r}"
        else:
            account = webhook.fields.first("AccountSid")
            secrets = [secret for secret in self._tokens if secret.owner in (account, "")]
            where = f"neither TWILIO_AUTH_TOKENS holds account {account[:80]!r} nor is there a"
            where += " TWILIO_AUTH_TOKEN"
        if not secrets:
            raise WebhookRejected(where, "secret")
        return secrets

    def attestation(self, fields: Fields) -> str:
        """https://www.twilio.com/docs/voice/trusted-calling-with-shakenstir."""
        word = fields.first("StirVerstat")
        passed = re.match(r"TN-Validation-Passed-([ABC])\b", word)
        return passed[1] if passed else "unverified" if word else ""

    def read_stream_event(self, webhook: Webhook) -> StreamEvent:
        """Take error 31921 for the end it is: the bot closed the socket, as it does to hang up."""
        event = super().read_stream_event(webhook)
        if event.kind == "failed" and "31921" in event.detail:
            return replace(event, kind="stopped")
        return event
