"""What a carrier needs to know to connect a caller, and where it reports back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.caller_data import as_parameters, caller_data, in_url
from bridge.errors import StartFailed
from bridge.socket_url import with_token
from bridge.start import Session
from providers.base import Call, Provider


@dataclass(frozen=True)
class Stream:
    """The carrier's audio socket into one session. The URL holds the token: never log it."""

    url: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)  # for a carrier that drops query strings
    left_out: tuple[str, ...] = ()  # names of what the bot is not told, because it did not fit


def stream_for(
    provider: Provider, call: Call, body: Mapping[str, object], session: Session
) -> Stream:
    """Return the stream, with what the bot is told; or raise StartFailed: no carrier can dial it.

    body: what the line tells the bot besides.
    """
    data = caller_data(provider.name, call, body)
    url = with_token(session.ws_url, session.token) if session.token else session.ws_url
    if provider.longest_parameter is not None:
        parameters, left_out = as_parameters(
            data, provider.longest_parameter, provider.longest_document
        )
        return Stream(url, parameters, tuple(left_out))
    most = provider.longest_stream_url
    if len(url) > most:
        what = f"'wsUrl' and 'token' make a URL of {len(url)} characters: {most} are allowed"
        raise StartFailed("garbage", what)
    url, left_out = in_url(data, url, most)
    return Stream(url, {}, tuple(left_out))


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
