"""The three carriers' media protocols, as far as a bot has to know them.

Pipecat finds out from the first two messages which carrier is talking; so does this.
"""

from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """One carrier's stream, and how audio goes back on it."""

    carrier: str
    stream_id: str

    def audio(self, payload: str) -> Message:
        """Return the message that plays base64 mu-law to the caller."""
        if self.carrier == "twilio":
            # https://www.twilio.com/docs/voice/media-streams/websocket-messages
            return {"event": "media", "streamSid": self.stream_id, "media": {"payload": payload}}
        if self.carrier == "plivo":
            # https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference
            media = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": payload}
            return {"event": "playAudio", "media": media}
        # https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
        return {"event": "media", "media": {"payload": payload}}


def detect(message: Message) -> Conversation | None:
    """Return the conversation that a message starts, or None."""
    start = message.get("start")
    if not isinstance(start, dict):
        return None
    if message.get("event") == "start" and "streamSid" in start and "callSid" in start:
        return Conversation("twilio", str(start["streamSid"]))
    if "stream_id" in message and "call_control_id" in start:
        return Conversation("telnyx", str(message["stream_id"]))
    if "streamId" in start and "callId" in start:
        return Conversation("plivo", str(start["streamId"]))
    return None


def heard(message: Message) -> str | None:
    """Return the caller's audio in a message (base64), or None. Our own track is not echoed."""
    media = message.get("media")
    if message.get("event") != "media" or not isinstance(media, dict):
        return None
    if media.get("track", "inbound") != "inbound":
        return None
    payload = media.get("payload")
    return payload if isinstance(payload, str) else None
