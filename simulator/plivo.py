"""Plivo: signs as its own SDK does, numbers without a plus, takes Plivo XML.

https://www.plivo.com/docs/voice/xml/audio-streaming
https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference
"""

import secrets
import time
import uuid
from collections.abc import Mapping

from plivo.utils import signature_v3

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

ACCOUNT = "MA" + "X" * 18
LONGEST_URL = 2048
MULAW = "audio/x-mulaw;rate=8000"


class Plivo(Carrier):
    """A Plivo number whose application's answer URL is the bridge."""

    name = "plivo"
    secret_variable = "PLIVO_AUTH_TOKEN"  # noqa: S105
    longest_document_bytes = 100_000
    connect_attempts = 3  # a failed connect is tried twice more, on the same URL
    document = grammar("""
        Response > Dial Hangup Play PreAnswer Redirect Speak Stream Wait
        Stream audioTrack bidirectional contentType extraHeaders keepCallAlive noiseCancellation \
               noiseCancellationLevel statusCallbackMethod statusCallbackUrl streamTimeout > #text
        PreAnswer > Play Speak Wait
        Speak voice language loop > #text
        Play loop > #text
        Wait length silence minSilence beep
        Redirect method > #text
        Hangup reason schedule
        Dial action callerId method redirect timeLimit timeout > Number User
        Number > #text
        User > #text
    """)

    def new_call(self, from_number: str, to_number: str) -> Caller:
        """Ids are UUIDs."""
        return Caller(from_number, to_number, str(uuid.uuid4()), str(uuid.uuid4()))

    def webhook(self, call: Caller) -> dict[str, str]:
        """E.164 without its plus sign."""
        return {
            "BillRate": "0.0085",
            "CallStatus": "ringing",
            "CallUUID": call.call_id,
            "CallerName": call.from_number,
            "Direction": "inbound",
            "Event": "StartApp",
            "From": call.from_number.removeprefix("+"),
            "ParentAuthID": ACCOUNT,
            "SessionStart": time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime()),
            "To": call.to_number.removeprefix("+"),
        }

    def stream_callback(
        self, call: Caller, event: str, order: StreamOrder, error: str
    ) -> dict[str, str]:
        """StartStream, StopStream, DroppedStream; ServiceURL is the whole socket URL."""
        words = {"started": "StartStream", "stopped": "StopStream", "failed": "DroppedStream"}
        fields = {
            "CallUUID": call.call_id,
            "Event": words[event],
            "From": call.from_number.removeprefix("+"),
            "ParentAuthID": ACCOUNT,
            "ServiceURL": order.url,
            "StreamID": call.stream_id,
            "Timestamp": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            "To": call.to_number.removeprefix("+"),
        }
        return fields | ({"Error": error} if error else {})

    def status_callback(self, call: Caller, duration_s: int) -> dict[str, str]:
        """The hangup URL's fields; there is no sequence number."""
        return self.webhook(call) | {
            "Event": "Hangup",
            "CallStatus": "completed",
            "Duration": str(duration_s),
            "BillDuration": str(60 * (1 + duration_s // 60)),
            "HangupCause": "NORMAL_CLEARING",
        }

    def stream_callback_url(self, order: StreamOrder) -> str:
        """Plivo's name for it."""
        return order.attributes.get("statusCallbackUrl", "")

    def sign(self, method: str, url: str, form: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The signing half of plivo.utils.validate_v3_signature."""
        nonce = "".join(secrets.choice("0123456789") for _ in range(20))
        construct = (
            signature_v3.construct_get_url if method == "GET" else signature_v3.construct_post_url
        )
        signed = construct(url, dict(form)).decode()
        signature = signature_v3.get_signature_v3(self.secret.encode(), signed, nonce).decode()
        return {
            "X-Plivo-Signature-V3": signature,
            "X-Plivo-Signature-Ma-V3": signature,
            "X-Plivo-Signature-V3-Nonce": nonce,
        }

    def check_stream(self, order: StreamOrder) -> None:
        """Attributes without which there is no conversation, and the URL's length."""
        if len(order.url) > LONGEST_URL:
            raise AnswerRefused(
                f"the URL has {len(order.url)} characters, {LONGEST_URL} are allowed"
            )
        if order.attributes.get("bidirectional") != "true":
            raise AnswerRefused('<Stream> is not bidirectional="true": the bot would be mute')
        if order.attributes.get("keepCallAlive") != "true":
            raise AnswerRefused('<Stream> is not keepCallAlive="true": the call would end at once')
        if order.attributes.get("audioTrack", "inbound") != "inbound":
            raise AnswerRefused("audioTrack must be inbound on a bidirectional stream")
        if order.attributes.get("contentType") != MULAW:
            raise AnswerRefused(f"contentType is not {MULAW}: Pipecat would hear noise")

    def opening(self, call: Caller, order: StreamOrder) -> list[Message]:
        """From and To are not among it: they travel in ?body=."""
        start = {
            "callId": call.call_id,
            "streamId": call.stream_id,
            "accountId": ACCOUNT,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        }
        headers = order.attributes.get("extraHeaders", "")
        return [{"event": "start", "sequenceNumber": 1, "start": start, "extra_headers": headers}]

    def media(self, call: Caller, number: int, payload: str) -> Message:
        """sequenceNumber and chunk are numbers, timestamp is a string."""
        return {
            "event": "media",
            "sequenceNumber": number + 2,
            "streamId": call.stream_id,
            "media": {
                "track": "inbound",
                "timestamp": str(number * FRAME_MS),
                "chunk": number + 1,
                "payload": payload,
            },
            "extra_headers": "",
        }

    def closing(self, call: Caller, frames: int) -> list[Message]:
        """The reference knows no stop message: the socket closes."""
        return []

    def hear(self, message: Message, call: Caller) -> FromBot:
        """playAudio in the stream's own format, checkpoint and clearAudio."""
        match message:
            case {"event": "playAudio", "media": {"payload": payload} as media}:
                kind = (media.get("contentType"), str(media.get("sampleRate")))
                if kind != ("audio/x-mulaw", "8000"):
                    return Ignored(f"playAudio is {kind}, the stream is {MULAW}")
                return read_audio(payload)
            case {"event": "checkpoint", "name": str(name)}:
                return Mark(name)
            case {"event": "clearAudio"}:
                return Clear()
        return Ignored(f"event {message.get('event')!r}")

    def played(self, call: Caller, name: str) -> Message:
        """playedStream names the checkpoint."""
        return {"event": "playedStream", "streamId": call.stream_id, "name": name}

    def cleared(self, call: Caller) -> list[Message]:
        """clearAudio is confirmed."""
        return [{"event": "clearedAudio", "streamId": call.stream_id}]
