"""The call flow, written once for every carrier, without Flask.

webhook -> verify -> read the call -> start a session -> the event to answer with
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.errors import StartFailed
from bridge.socket_url import with_body, with_token
from bridge.start import Session, StartClient
from providers.base import BadWebhook, Call, Provider, Webhook, WebhookRejected

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stream:
    """The carrier's audio socket into one session. Both URLs hold the token: never log them."""

    session: Session
    body: Mapping[str, object] = field(repr=False)  # what the bot is told about the caller

    @property
    def url(self) -> str:
        """The socket URL for a carrier that drops query strings."""
        return with_token(self.session.ws_url, self.session.token)

    @property
    def url_with_body(self) -> str:
        """The socket URL for a carrier that has no other way to hand `body` to the bot."""
        return with_body(self.url, self.body)


@dataclass(frozen=True)
class Answer:
    """What to tell the carrier: templates/<provider>/<event>.xml and what it needs."""

    event: str  # "stream", "sorry"
    values: Mapping[str, object] = field(default_factory=dict, repr=False)


SORRY = Answer("sorry")


class Answering:
    """Decides what a ringing carrier is told."""

    def __init__(self, start: StartClient, agent: str) -> None:
        self._start = start
        self._agent = agent

    def answer(self, provider: Provider, webhook: Webhook, deadline: float) -> Answer:
        """Return the answer, or raise WebhookRejected; nothing else escapes.

        deadline: monotonic seconds by which /start must have answered.
        """
        verify(provider, webhook)
        # From here on a person is waiting behind the request: whatever breaks, they hear something.
        call = None
        try:
            call = provider.read_call(webhook)
            started = time.monotonic()
            session = self._start.start(self._agent, provider.name, deadline)
            log.info(
                "%s call %s -> session %s of agent %s, /start took %.0f ms",
                provider.name,
                call.id,
                session.id or "(no id)",
                self._agent,
                (time.monotonic() - started) * 1000,
            )
            return Answer(
                "stream", {"call": call, "stream": stream_for(provider.name, call, session)}
            )
        except BadWebhook as error:
            log.error("%s webhook is not a call: %s", provider.name, error)
        except StartFailed as error:
            log.error(
                "%s call %s got no session of agent %s: %s: %s",
                provider.name,
                call.id if call else "?",
                self._agent,
                error.kind,
                error,
            )
        except Exception:
            log.exception("%s call %s failed", provider.name, call.id if call else "?")
        return SORRY


def verify(provider: Provider, webhook: Webhook) -> None:
    """Return if the carrier signed the webhook, else raise WebhookRejected: no third way out."""
    try:
        provider.verify(webhook)
    except WebhookRejected:
        raise
    except Exception as error:
        log.exception("%s signature could not be checked", provider.name)
        raise WebhookRejected("signature could not be checked") from error


def stream_for(provider: str, call: Call, session: Session) -> Stream:
    """Return the stream, with what the bot is told about the caller."""
    body = {
        "from": call.from_number,
        "to": call.to_number,
        "call_id": call.id,
        "provider": provider,
    }
    return Stream(session, body)
