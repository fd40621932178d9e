"""A small bot on pipecat-ai: Pipecat's parser, its transport, its serializers, and an echo.

`python bot.py --ws-auth token` runs it in Pipecat's development runner; hosted.py runs it as
Pipecat Cloud does. INTEROP_HEARD is the file into which it writes what it was told.
"""

import json
import os
from pathlib import Path
from typing import Any

from loopback import stay_on_loopback
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import CallData, WebSocketRunnerArguments
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

TELEPHONE_HZ = 8000


def tell(what: str, **details: Any) -> None:
    """Write one line of JSON for the test."""
    with Path(os.environ["INTEROP_HEARD"]).open("a", encoding="utf-8") as heard:
        heard.write(json.dumps({"what": what, **details}) + "\n")


stay_on_loopback(tell)


class Echo(FrameProcessor):
    """What the caller says goes back through the pipeline's output."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Turn input audio into output audio; pass the rest on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


def serializer_for(carrier: str, call: CallData) -> FrameSerializer:
    """Return Pipecat's serializer; it hangs up at the carrier's API by default, here never."""
    match carrier:
        case "twilio":
            return TwilioFrameSerializer(
                call["stream_id"], params=TwilioFrameSerializer.InputParams(auto_hang_up=False)
            )
        case "plivo":
            return PlivoFrameSerializer(
                call["stream_id"], params=PlivoFrameSerializer.InputParams(auto_hang_up=False)
            )
        case "telnyx":
            return TelnyxFrameSerializer(
                call["stream_id"],
                outbound_encoding=call["outbound_encoding"],
                inbound_encoding="PCMU",
                params=TelnyxFrameSerializer.InputParams(auto_hang_up=False),
            )
    raise ValueError(f"Pipecat's parser says {carrier!r}")


async def bot(args: WebSocketRunnerArguments) -> None:
    """Take one call: the entry point that the runner and Pipecat Cloud look for."""
    carrier, call = await parse_telephony_websocket(args.websocket)
    tell(
        "call",
        arguments=type(args).__name__,
        carrier=carrier,
        call_id=call.call_id,
        caller=call.from_number,
        callee=call.to_number,
        parameters=call.body,
        body=args.body,
    )
    params = FastAPIWebsocketParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        add_wav_header=False,
        serializer=serializer_for(carrier, call),
    )
    transport = FastAPIWebsocketTransport(websocket=args.websocket, params=params)
    worker = PipelineWorker(
        Pipeline([transport.input(), Echo(), transport.output()]),
        params=PipelineParams(
            audio_in_sample_rate=TELEPHONE_HZ, audio_out_sample_rate=TELEPHONE_HZ
        ),
    )

    @transport.event_handler("on_client_disconnected")
    async def hang_up(*_: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    tell("over", call_id=call.call_id)


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
