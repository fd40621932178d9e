"""What a carrier must tell us, and the errors a provider may raise.

Providers read plain data: no Flask, no network, no clock. Everything a provider looks at is
in Webhook. A provider writes `verify` and names its fields; `read_call` is finished here.

ProviderError
├── BadSecret         a configured secret cannot be one of this carrier's; raised at start
├── WebhookRejected   not signed by the carrier whose route it used; answered 403
└── BadWebhook        signed, but not a call we can answer; answered with sorry.xml
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

SOCKET_URL = re.compile(r"(?i)wss?://\S+")
LONGEST_NAME = 80  # characters; telephone networks carry 15
FORM = "application/x-www-form-urlencoded"


class ProviderError(Exception):
    """Base class of what a provider raises on purpose."""


class BadSecret(ProviderError):
    """A configured secret is unusable. The message names its variable and never shows it."""


class WebhookRejected(ProviderError):
    """The carrier did not sign this request. The message is for the log only.

    reason: "signature", "header" (missing, empty or malformed), "timestamp" (a replay, or a wrong
    clock), "secret" (none that this sender may use), "unchecked". One word, to be counted.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class BadWebhook(ProviderError):
    """A signed request is not an incoming call. The message names the field and the cure."""


class Fields(dict[str, list[str]]):
    """Decoded fields, every value of every name kept, blank ones too: carriers sign them all."""

    @classmethod
    def parse(cls, encoded: str) -> "Fields":
        """Decode `a=1&b=2`; bytes that are no UTF-8 become U+FFFD."""
        fields = cls()
        for name, value in parse_qsl(encoded, keep_blank_values=True, errors="replace"):
            fields.setdefault(name, []).append(value)
        return fields

    def first(self, name: str) -> str:
        """Return the first value of `name`, or an empty string."""
        return self.get(name, [""])[0]

    def getlist(self, name: str) -> list[str]:
        """Return all values of `name`. Twilio's RequestValidator asks in these words."""
        return self.get(name, [])


@dataclass(frozen=True)
class Webhook:
    """One request from a carrier, already read off the network."""

    method: str  # "POST"
    url: str  # public URL with its query, not decoded: what the carrier dialled and signed
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # as it came; Telnyx signs these bytes
    received_at: float  # Unix seconds; Telnyx signs a timestamp

    @cached_property
    def query(self) -> Fields:
        """The decoded query of the URL."""
        return Fields.parse(urlsplit(self.url).query)

    @cached_property
    def form(self) -> Fields:
        """The decoded form in the body; empty when the body is something else."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return (
            Fields.parse(self.body.decode("utf-8", "replace")) if media_type == FORM else Fields()
        )

    @property
    def fields(self) -> Fields:
        """What the carrier says about the call: in the query of a GET, else in the form."""
        return self.query if self.method == "GET" else self.form


@dataclass(frozen=True)
class Call:
    """What every carrier says about an incoming call."""

    id: str  # the carrier's own id; quote it to their support
    from_number: str  # E.164 "+14155550100", a SIP address, a client name; "", "anonymous", ...
    to_number: str  # the same, for the number that was called
    direction: str = "inbound"  # or "outbound"
    attestation: str = ""  # STIR: "A", "B", "C", "unverified"; "" if the carrier does not say
    name: str = ""  # the caller's, as the caller's side wrote it: believe nothing in it

    @property
    def our_number(self) -> str:
        """The side of the call that is ours."""
        return self.from_number if self.direction == "outbound" else self.to_number


@dataclass(frozen=True)
class StreamEvent:
    """What a stream status callback says."""

    call_id: str
    kind: str  # "started", "stopped", "failed", or the carrier's own word for anything else
    detail: str  # the carrier's reason; never the stream's URL


@dataclass(frozen=True)
class CallStatus:
    """What a call status callback says."""

    call_id: str
    status: str  # the carrier's own word: "ringing", "completed", "no-answer"
    is_final: bool
    sequence: int  # callbacks arrive in any order; the highest is the latest
    duration_s: int | None


# Every carrier ends a call with one of these.
FINAL = {"busy", "canceled", "cancel", "completed", "failed", "no-answer", "timeout"}
# Where the carrier sends no sequence number, a status can only be replaced by a later stage.
STAGES = ("queued", "initiated", "ringing", "in-progress")


class Provider(ABC):
    """One carrier: how it signs, and what it calls its fields."""

    name: ClassVar[str]  # URL prefix and template folder, "twilio"
    secret_variable: ClassVar[str]  # environment variable with its signing secrets
    more_secret_variables: ClassVar[tuple[str, ...]] = ()  # for accounts that have other ones too
    methods: ClassVar[tuple[str, ...]]  # HTTP methods whose signature covers every field
    call_id_field: ClassVar[str]  # its name for the id of a call
    stream_event_field: ClassVar[str]  # its name for the event of a stream
    stream_events: ClassVar[Mapping[str, str]]  # its words for started, stopped and failed
    stream_reason_fields: ClassVar[tuple[str, ...]]  # where it says why a stream failed
    duration_field: ClassVar[str]  # its name for the seconds a call took
    caller_name_field: ClassVar[str]  # its name for the caller's name
    voices: ClassVar[re.Pattern[str]]  # that can read messages
    # In characters. A carrier that drops the query of a stream's URL has a limit for each
    # <Parameter>, its name and value together; the others have one for the whole URL.
    longest_parameter: ClassVar[int | None] = None
    longest_stream_url: ClassVar[int] = 2047
    longest_document: ClassVar[int] = 64_000  # in bytes; Twilio names a limit, the others none
    callback_status: ClassVar[int]  # what it wants to hear when a callback was taken
    console: ClassVar[str]  # where in its console the voice URL is pasted, for a person
    # If it signs the moment of sending: the header with it, and how many seconds it may be off.
    timestamp_header: ClassVar[str | None] = None
    tolerance_s: ClassVar[int | None] = None

    @abstractmethod
    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Read the secrets out of the text of each secret variable, or raise BadSecret."""

    @classmethod
    def secret_variables(cls) -> tuple[str, ...]:
        """Return every variable that holds secrets; one that is set enables the carrier."""
        return (cls.secret_variable, *cls.more_secret_variables)

    def secret_lengths(self) -> Mapping[str, int]:
        """Return how many characters each secret has, by its label; public keys are none."""
        return {}

    def proof(self, url: str) -> Mapping[str, str] | None:
        """Return headers for an empty POST to `url` that only who holds our secret can make.

        None where that is the carrier alone.
        """
        return None

    @abstractmethod
    def verify(self, webhook: Webhook) -> str:
        """Return which secret the carrier signed with (never the secret); or WebhookRejected."""

    def refuse_callback(self, webhook: Webhook) -> None:  # noqa: B027
        """Raise BadWebhook if this cannot be a ringing phone, although the signature holds."""

    def read_call(self, webhook: Webhook) -> Call:
        """Return the call, or raise BadWebhook naming the field that is missing."""
        fields = webhook.fields
        # Cut: whoever calls chooses it, and its room is taken from what the line says.
        name = fields.first(self.caller_name_field).strip()[:LONGEST_NAME]
        if name.removeprefix("+") == fields.first("From").removeprefix("+"):
            name = ""  # the number once more, for want of a name
        return Call(
            self.read_call_id(webhook),
            self.number(fields.first("From")),
            self.number(fields.first("To")),
            "outbound" if fields.first("Direction").startswith("outbound") else "inbound",
            self.attestation(fields),
            name,
        )

    @abstractmethod
    def attestation(self, fields: Fields) -> str:
        """Return the caller's STIR attestation in one carrier-independent word, see Call."""

    def voice(self, wanted: str | None) -> str | None:
        """Return the voice that reads messages: the one wanted, if this carrier has it."""
        return wanted if wanted and self.voices.fullmatch(wanted) else None

    def read_call_id(self, webhook: Webhook) -> str:
        """Return the call's id, or raise BadWebhook naming the field that is missing."""
        call_id = webhook.fields.first(self.call_id_field)
        if not call_id:
            raise BadWebhook(
                f"no {self.call_id_field!r}: is this {self.name}'s voice webhook? "
                f"Set the number's voice URL, and nothing else, to /{self.name}/voice"
            )
        return call_id

    def read_stream_event(self, webhook: Webhook) -> StreamEvent:
        """Return what happened to a stream, or raise BadWebhook."""
        fields = webhook.fields
        word = fields.first(self.stream_event_field)
        reasons = [fields.first(name) for name in self.stream_reason_fields]
        # A carrier's free text may quote the socket's URL, and the token is in that.
        detail = SOCKET_URL.sub("(the socket's URL)", ", ".join(filter(None, reasons)))
        return StreamEvent(self.read_call_id(webhook), self.stream_events.get(word, word), detail)

    def read_status(self, webhook: Webhook) -> CallStatus:
        """Return what became of a call, or raise BadWebhook."""
        fields = webhook.fields
        status = fields.first("CallStatus")
        stage = STAGES.index(status) if status in STAGES else len(STAGES)
        duration = fields.first(self.duration_field)
        sequence = fields.first("SequenceNumber")
        return CallStatus(
            self.read_call_id(webhook),
            status,
            status in FINAL,
            whole(sequence, otherwise=stage),
            whole(duration) if duration else None,
        )

    def number(self, value: str) -> str:
        """Return a number as E.164 where the carrier writes it otherwise."""
        return value


def whole(text: str, otherwise: int = 0, digits: int = 9) -> int:
    """Return a whole number of at most so many digits that a carrier sent, or `otherwise`."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else otherwise
