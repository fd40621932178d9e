"""Twilio: signs with its own SDK, drops the query of a socket URL, takes TwiML.

https://www.twilio.com/docs/voice/twiml/stream
https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

import time
import uuid
from collections.abc import Mapping

from twilio.request_validator import RequestValidator

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
    without_query,
)
from simulator.grammar import grammar

ACCOUNT = "AC" + "0" * 31 + "1"


class Twilio(Carrier):
    """A Twilio number whose voice URL is the bridge."""

    name = "twilio"
    secret_variable = "TWILIO_AUTH_TOKEN"  # noqa: S105
    document = grammar("""
        Response > Connect Dial Hangup Pause Play Redirect Reject Say
        Connect action method > Stream
        Stream url name track statusCallback statusCallbackMethod > Parameter
        Parameter name value
        Say voice language loop > #text
        Play loop digits > #text
        Pause length
        Redirect method > #text
        Hangup
        Reject reason
        Dial action method timeout callerId timeLimit answerOnBridge > Number Sip #text
        Number > #text
        Sip > #text
    """)

    def new_call(self, from_number: str, to_number: str) -> Caller:
        """Ids have two letters and 32 hexadecimal digits."""
        return Caller(from_number, to_number, f"CA{uuid.uuid4().hex}", f"MZ{uuid.uuid4().hex}")

    def webhook(self, call: Caller) -> dict[str, str]:
        """Unknown places are sent as empty fields, and are signed."""
        return {
            "AccountSid": ACCOUNT,
            "ApiVersion": "2010-04-01",
            "CallSid": call.call_id,
            "CallStatus": "ringing",
            "Called": call.to_number,
            "Caller": call.from_number,
            "Direction": "inbound",
            "From": call.from_number,
            "FromCity": "",
            "FromCountry": "US",
            "FromState": "",
            "FromZip": "",
            "To": call.to_number,
            "ToCity": "",
            "ToCountry": "US",
            "ToState": "",
            "ToZip": "",
        }

    def stream_callback(
        self, call: Caller, event: str, order: StreamOrder, error: str
    ) -> dict[str, str]:
        """stream-started, stream-stopped, stream-error."""
        words = {"started": "stream-started", "stopped": "stream-stopped", "failed": "stream-error"}
        fields = {
            "AccountSid": ACCOUNT,
            "CallSid": call.call_id,
            "StreamSid": call.stream_id,
            "StreamName": "",
            "StreamEvent": words[event],
            "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        return fields | ({"StreamError": error} if error else {})

    def status_callback(self, call: Caller, duration_s: int) -> dict[str, str]:
        """Duration is in minutes, CallDuration in seconds."""
        return self.webhook(call) | {
            "CallStatus": "completed",
            "CallDuration": str(duration_s),
            "Duration": str(1 + duration_s // 60),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": "3",
        }

    def sign(self, method: str, url: str, form: Mapping[str, str], body: bytes) -> dict[str, str]:
        """twilio.request_validator, which signs as well as it checks."""
        signature = RequestValidator(self.secret).compute_signature(url, dict(form))
        return {"X-Twilio-Signature": signature}

    def check_stream(self, order: StreamOrder) -> None:
        """Errors 31941 and the limit of a Parameter."""
        if order.attributes.get("track", "inbound_track") != "inbound_track":
            raise AnswerRefused("31941: with <Connect> the track can only be inbound_track")
        for name, value in order.parameters.items():
            if len(name) + len(value) >= 500:
                raise AnswerRefused(f"<Parameter> {name!r}: name and value reach 500 characters")

    def socket_url(self, url: str) -> str:
        """The query string of a Stream url is dropped without a word."""
        return without_query(url)

    def opening(self, call: Caller, order: StreamOrder) -> list[Message]:
        """From and To are not among it: they travel as Parameters."""
        start = {
            "accountSid": ACCOUNT,
            "streamSid": call.stream_id,
            "callSid": call.call_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": dict(order.parameters),
        }
        return [
            {"event": "connected", "protocol": "Call", "version": "1.0.0"},
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": call.stream_id,
                "start": start,
            },
        ]

    def media(self, call: Caller, number: int, payload: str) -> Message:
        """Numbers are strings."""
        return {
            "event": "media",
            "sequenceNumber": str(number + 2),
            "streamSid": call.stream_id,
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
                "sequenceNumber": str(frames + 2),
                "streamSid": call.stream_id,
                "stop": {"accountSid": ACCOUNT, "callSid": call.call_id},
            }
        ]

    def hear(self, message: Message, call: Caller) -> FromBot:
        """media, mark and clear, with the right streamSid; the rest is warning 31951."""
        if message.get("streamSid") != call.stream_id:
            return Ignored("31951: streamSid is missing or another stream's")
        match message:
            case {"event": "media", "media": {"payload": payload}}:
                return read_audio(payload)
            case {"event": "mark", "mark": {"name": str(name)}}:
                return Mark(name)
            case {"event": "clear"}:
                return Clear()
        return Ignored(f"31951: event {message.get('event')!r}")

    def played(self, call: Caller, name: str) -> Message:
        """The mark comes back with its name."""
        return {"event": "mark", "streamSid": call.stream_id, "mark": {"name": name}}
