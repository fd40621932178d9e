"""Telnyx: signs with Ed25519 as it documents, takes TeXML, snake_case on the socket.

https://developers.telnyx.com/docs/voice/programmable-voice/stream
https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
"""

import base64
import time
import uuid
from collections.abc import Mapping

from nacl.signing import SigningKey

from simulator.carrier import (
    FRAME_MS,
    AnswerRefused,
    Caller,
    Carrier,
    Clear,
    FromBot,
    Ignored,
    Mark,
    Message,
    StreamOrder,
    read_audio,
)
from simulator.grammar import grammar

ACCOUNT = "6a9a7976-012e-45d2-9258-6f5dc68d861e"
APPLICATION = "1568109700606592442"


class Telnyx(Carrier):
    """A Telnyx number on a TeXML application whose voice URL is the bridge, by POST."""

    name = "telnyx"
    secret_variable = "TELNYX_PRIVATE_KEY"  # noqa: S105
    document = grammar("""
        Response > Connect Dial Hangup Pause Play Redirect Reject Say
        Connect action method > Stream
        Stream url name track codec enableReconnect bidirectionalMode bidirectionalCodec \
               bidirectionalSamplingRate statusCallback statusCallbackMethod > Parameter
        Parameter name value
        Say voice language loop > #text
        Play loop mediaStorage digits > #text
        Pause length
        Redirect method > #text
        Hangup
        Reject reason
        Dial action method timeout callerId timeLimit answerOnBridge > Number Sip #text
        Number > #text
        Sip > #text
    """)

    def __init__(self, secret: str) -> None:
        super().__init__(secret)
        try:
            self._key = SigningKey(base64.b64decode(secret, validate=True))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.secret_variable} is no private key (base64 of 32 bytes); "
                "python -m simulator telnyx --new-key makes a pair"
            ) from error

    def new_call(self, from_number: str, to_number: str) -> Caller:
        """The call id is the call_control_id, "v3:..."."""
        token = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        return Caller(from_number, to_number, f"v3:{token}", str(uuid.uuid4()))

    def webhook(self, call: Caller) -> dict[str, str]:
        """What an instruction fetch always includes."""
        return {
            "AccountSid": ACCOUNT,
            "CallSid": call.call_id,
            "CallSidLegacy": call.call_id,
            "CallStatus": "ringing",
            "CallerId": call.from_number,
            "CallingPartyType": "pstn",
            "ConnectionId": APPLICATION,
            "From": call.from_number,
            "FromSipUri": f"{call.from_number}@10.239.182.10",
            "To": call.to_number,
            "ToSipUri": f"{call.to_number}@10.239.182.10",
        }

    def stream_callback(
        self, call: Caller, event: str, order: StreamOrder, error: str
    ) -> dict[str, str]:
        """stream-started, stream-stopped, stream-failed."""
        fields = {
            "AccountSid": ACCOUNT,
            "CallSid": call.call_id,
            "CallSidLegacy": call.call_id,
            "StreamEvent": f"stream-{event}",
            "StreamName": "",
            "StreamSid": call.stream_id,
            "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        return fields | ({"StreamError": error} if error else {})

    def status_callback(self, call: Caller, duration_s: int) -> dict[str, str]:
        """Marked as a callback by CallbackSource."""
        return self.webhook(call) | {
            "CallStatus": "completed",
            "CallDuration": str(duration_s),
            "CallbackSource": "call-progress-events",
            "HangupCause": "normal_clearing",
            "SequenceNumber": "3",
        }

    def sign(self, method: str, url: str, form: Mapping[str, str], body: bytes) -> dict[str, str]:
        """timestamp|raw body; the URL is not signed."""
        timestamp = str(int(time.time()))
        signature = self._key.sign(f"{timestamp}|".encode() + body).signature
        return {
            "Telnyx-Signature-Ed25519": base64.b64encode(signature).decode(),
            "Telnyx-Timestamp": timestamp,
        }

    def check_stream(self, order: StreamOrder) -> None:
        """Attributes whose defaults make a bot mute, deaf, or dial a spent token again."""
        wanted = {
            "bidirectionalMode": ("rtp", "the default is mp3: the bot's audio would be dropped"),
            "enableReconnect": ("false", "a spent token would be dialled again"),
        }
        for name, (value, why) in wanted.items():
            if order.attributes.get(name) != value:
                raise AnswerRefused(f'<Stream> is not {name}="{value}": {why}')
        if order.attributes.get("track", "inbound_track") != "inbound_track":
            raise AnswerRefused("the bot would hear itself: track is not inbound_track")
        codecs = {order.attributes.get(name) for name in ("codec", "bidirectionalCodec")}
        if codecs != {"PCMU"}:
            raise AnswerRefused("codec and bidirectionalCodec are not both PCMU")

    def opening(self, call: Caller, order: StreamOrder) -> list[Message]:
        """From and To are among it."""
        start = {
            "user_id": ACCOUNT,
            "call_control_id": call.call_id,
            "call_session_id": call.stream_id,
            "from": call.from_number,
            "to": call.to_number,
            "custom_parameters": dict(order.parameters),
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        }
        return [
            {"event": "connected", "version": "1.0.0"},
            {
                "event": "start",
                "sequence_number": "1",
                "stream_id": call.stream_id,
                "start": start,
            },
        ]

    def media(self, call: Caller, number: int, payload: str) -> Message:
        """Numbers are strings."""
        return {
            "event": "media",
            "sequence_number": str(number + 2),
            "stream_id": call.stream_id,
            "media": {
                "track": "inbound",
                "chunk": str(number + 1),
                "timestamp": str(number * FRAME_MS),
                "payload": payload,
            },
        }

    def closing(self, call: Caller, frames: int) -> list[Message]:
        """One stop message."""
        return [
            {
                "event": "stop",
                "sequence_number": str(frames + 2),
                "stream_id": call.stream_id,
                "stop": {"user_id": ACCOUNT, "call_control_id": call.call_id},
            }
        ]

    def hear(self, message: Message, call: Caller) -> FromBot:
        """media, mark and clear; no stream_id is needed."""
        match message:
            case {"event": "media", "media": {"payload": payload}}:
                return read_audio(payload)
            case {"event": "mark", "mark": {"name": str(name)}}:
                return Mark(name)
            case {"event": "clear"}:
                return Clear()
        return Ignored(f"100003 malformed_frame: event {message.get('event')!r}")

    def played(self, call: Caller, name: str) -> Message:
        """The mark comes back with its name."""
        return {"event": "mark", "stream_id": call.stream_id, "mark": {"name": name}}


def new_key() -> tuple[str, str]:
    """Return a fresh private key and its public key, in base64."""
    key = SigningKey.generate()
    return base64.b64encode(bytes(key)).decode(), base64.b64encode(bytes(key.verify_key)).decode()
