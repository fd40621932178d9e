"""What a carrier needs to know to connect a caller, and where it reports back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.socket_url import with_body, with_token
from bridge.start import Session
from providers.base import Call


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


def stream_for(provider: str, call: Call, session: Session) -> Stream:
    """Return the stream, with what the bot is told about the caller."""
    body = {
        "from": call.from_number,
        "to": call.to_number,
        "call_id": call.id,
        "provider": provider,
    }
    return Stream(session, body)


@dataclass(frozen=True)
class CallbackUrls:
    """Where the carrier of one call comes back to, below PUBLIC_URL. Carriers sign these."""

    public_url: str
    provider: str

    def voice(self, held: int) -> str:
        """Ring again after having been held so often."""
        return f"{self.public_url}/{self.provider}/voice?held={held}"

    def after(self, sent_at: float) -> str:
        """Ask what comes after a stream whose XML was sent then (Unix seconds)."""
        return f"{self.public_url}/{self.provider}/after?sent_at={round(sent_at)}"

    @property
    def stream(self) -> str:
        """Tell what happens to the stream."""
        return f"{self.public_url}/{self.provider}/stream"
