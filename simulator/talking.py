"""The conversation on an open socket: 20 ms frames out in real time, whatever comes back noted."""

import base64
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from simulator.audio import RATE, SILENCE
from simulator.carrier import (
    FRAME_BYTES,
    FRAME_MS,
    Audio,
    Caller,
    Carrier,
    Clear,
    Ignored,
    Mark,
    Message,
    StreamOrder,
    read_message,
)
from simulator.report import Report

FRAME_S = FRAME_MS / 1000
SILENT_FRAME = bytes([SILENCE]) * FRAME_BYTES


@dataclass
class Conversation:
    """One caller on one socket. `heard` is the bot's audio as it came."""

    carrier: Carrier
    call: Caller
    socket: ClientConnection
    report: Report
    stop: Event  # set when the person at the terminal has had enough
    heard: bytearray = field(default_factory=bytearray)
    _plays_until: float = 0.0  # monotonic; when all audio so far has been played to the caller
    _marks: list[tuple[float, str]] = field(default_factory=list)
    _opened_at: float = field(default_factory=time.monotonic)

    def hold(self, order: StreamOrder, mulaw: bytes, listen_s: float) -> None:
        """Say `mulaw`, listen `listen_s` more in silence, hang up; or end when the bot does."""
        padding = -len(mulaw) % FRAME_BYTES
        frames = [mulaw[i : i + FRAME_BYTES] for i in range(0, len(mulaw), FRAME_BYTES)]
        if padding:
            frames[-1] += bytes([SILENCE]) * padding
        frames += [SILENT_FRAME] * round(listen_s / FRAME_S)
        try:
            for message in self.carrier.opening(self.call, order):
                self._send(message)
            self._talk(frames)
        except ConnectionClosed as closed:
            self._hear_the_rest()
            code = closed.rcvd.code if closed.rcvd else 1006
            self.report.bot_hung_up = code
            self.report.note(f"the bot hung up with {code}")

    def _talk(self, frames: list[bytes]) -> None:
        started = time.monotonic()
        said = 0
        for number, frame in enumerate(frames):
            self._listen_until(started + number * FRAME_S)
            if self.stop.is_set():
                break
            said += 1
            payload = base64.b64encode(frame).decode()
            self._send(self.carrier.media(self.call, number, payload))
            self.report.sent_s += FRAME_S
        self._listen_until(started + said * FRAME_S)
        self.report.note("the caller hangs up")
        for message in self.carrier.closing(self.call, said):
            self._send(message)

    def _listen_until(self, moment: float) -> None:
        while True:
            left_s = moment - time.monotonic()
            self._confirm_marks()
            if left_s <= 0:
                return
            try:
                frame = self.socket.recv(timeout=left_s)
            except TimeoutError:
                return
            self._hear(frame)

    def _hear_the_rest(self) -> None:
        """Take what the bot said before it hung up and nobody had listened to yet."""
        with suppress(ConnectionClosed, TimeoutError):
            while True:
                self._hear(self.socket.recv(timeout=0))

    def _hear(self, frame: str | bytes) -> None:
        message = read_message(frame)
        if message is None:
            self.report.ignore("a frame that is no JSON text")
            return
        now = time.monotonic()
        match self.carrier.hear(message, self.call):
            case Audio(mulaw):
                if not self.heard and mulaw:
                    self.report.first_audio_ms = (now - self._opened_at) * 1000
                    self.report.note("first audio back")
                self.heard += mulaw
                self._plays_until = max(now, self._plays_until) + len(mulaw) / RATE
            case Mark(name):
                self._marks.append((self._plays_until, name))
            case Clear():
                self._plays_until = now
                self._marks = [(now, name) for _, name in self._marks]
                for confirmation in self.carrier.cleared(self.call):
                    self._send(confirmation)
            case Ignored(why):
                self.report.ignore(why)

    def _confirm_marks(self) -> None:
        now = time.monotonic()
        for due, name in list(self._marks):
            if due <= now:
                self._marks.remove((due, name))
                self._send(self.carrier.played(self.call, name))

    def _send(self, message: Message) -> None:
        self.socket.send(json.dumps(message))
