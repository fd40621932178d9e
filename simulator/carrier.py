"""What a simulated carrier is: how it signs, what XML it takes, what it says on the socket.

A carrier here is plain: no network, no clock. call.py does the work.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from simulator.grammar import Element

FRAME_MS = 20
FRAME_BYTES = 160  # 20 ms of 8 kHz mu-law

Message = dict[str, Any]


class CallFailed(Exception):
    """The call ends here. The message says why."""


class AnswerRefused(CallFailed):
    """The carrier does not act on this document. The message says what is wrong with it."""


@dataclass(frozen=True)
class Caller:
    """One simulated call."""

    from_number: str  # E.164, "+14155550100"
    to_number: str
    call_id: str  # in the carrier's own form
    stream_id: str


@dataclass(frozen=True)
class StreamOrder:
    """What the document says about the stream."""

    url: str = field(repr=False)  # the token is in it
    attributes: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Audio:
    """The bot plays these mu-law bytes."""

    mulaw: bytes


@dataclass(frozen=True)
class Mark:
    """The bot wants to know when what it played so far has been heard."""

    name: str


@dataclass(frozen=True)
class Clear:
    """The bot stops what is still being played."""


@dataclass(frozen=True)
class Ignored:
    """A message that the carrier drops, and why."""

    why: str


FromBot = Audio | Mark | Clear | Ignored


class Carrier(ABC):
    """One carrier, as far as a bridge and a bot can tell."""

    name: ClassVar[str]
    secret_variable: ClassVar[str]  # where the signing secret is found
    patience_s: ClassVar[float] = 15.0  # how long it waits for the XML, connecting included
    longest_document_bytes: ClassVar[int] = 64_000
    connect_attempts: ClassVar[int] = 1  # on one socket URL
    document: ClassVar[Mapping[str, Element]]

    def __init__(self, secret: str) -> None:
        self.secret = secret

    @abstractmethod
    def new_call(self, from_number: str, to_number: str) -> Caller:
        """Return a call with fresh ids."""

    @abstractmethod
    def webhook(self, call: Caller) -> dict[str, str]:
        """Return the fields of the voice webhook."""

    @abstractmethod
    def sign(self, method: str, url: str, form: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the signature headers, made by the carrier's own SDK where it can."""

    @abstractmethod
    def stream_callback(
        self, call: Caller, event: str, order: StreamOrder, error: str
    ) -> dict[str, str]:
        """Return what is told about a stream: event is "started", "stopped" or "failed"."""

    @abstractmethod
    def status_callback(self, call: Caller, duration_s: int) -> dict[str, str]:
        """Return what is told about a call that has ended."""

    def stream_callback_url(self, order: StreamOrder) -> str:
        """Return where it is told, or an empty string."""
        return order.attributes.get("statusCallback", "")

    @abstractmethod
    def check_stream(self, order: StreamOrder) -> None:
        """Raise AnswerRefused for a stream on which no conversation comes about."""

    def socket_url(self, url: str) -> str:
        """Return the URL that is dialled."""
        return url

    @abstractmethod
    def opening(self, call: Caller, order: StreamOrder) -> list[Message]:
        """Return what is said before the first audio."""

    @abstractmethod
    def media(self, call: Caller, number: int, payload: str) -> Message:
        """Return the message of audio frame `number`, counted from 0."""

    @abstractmethod
    def closing(self, call: Caller, frames: int) -> list[Message]:
        """Return what is said when the caller has hung up after so many frames."""

    @abstractmethod
    def hear(self, message: Message, call: Caller) -> FromBot:
        """Say what a message of the bot means."""

    @abstractmethod
    def played(self, call: Caller, name: str) -> Message:
        """Return the answer to a Mark whose time has come."""

    def cleared(self, call: Caller) -> list[Message]:
        """Return the answer to a Clear."""
        return []


def read_audio(payload: object) -> FromBot:
    """Decode base64 mu-law, or say why a carrier would drop it."""
    try:
        return Audio(base64.b64decode(payload, validate=True))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return Ignored("media.payload is not base64")


def read_message(frame: str | bytes) -> Message | None:
    """Return a bot's message, or None for a frame that is no JSON object."""
    if isinstance(frame, bytes):
        return None
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def without_query(url: str) -> str:
    """Return a URL without its query string."""
    return urlsplit(url)._replace(query="").geturl()
