"""That a simulated carrier behaves like the real one: its XML, its socket, its messages."""

import base64
import json
import struct
import time
import warnings
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from simulator.__main__ import CARRIERS
from simulator.audio import UnusableWav, decode, encode, read_wav, tone, write_wav
from simulator.call import Script, make_call
from simulator.carrier import AnswerRefused, Caller, Carrier
from simulator.document import read_document
from simulator.report import Report
from simulator.ringing import Ring
from tests.bots import Bot, listening
from tests.misbehaving import Server, answer, hang_up

SECRETS = {
    "twilio": "test-token",
    "plivo": "test-token",
    "telnyx": base64.b64encode(bytes(range(32))).decode(),
}
XML = {"Content-Type": "text/xml"}
TONE = tone(0.1)

STREAMS = {
    "twilio": '<Connect><Stream url="{url}"><Parameter name="k" value="v"/></Stream></Connect>',
    "plivo": '<Stream bidirectional="true" keepCallAlive="true" '
    'contentType="audio/x-mulaw;rate=8000">{url}</Stream>',
    "telnyx": '<Connect><Stream url="{url}" bidirectionalMode="rtp" bidirectionalCodec="PCMU" '
    'codec="PCMU" track="inbound_track" enableReconnect="false"/></Connect>',
}


@pytest.fixture(params=sorted(CARRIERS))
def simulated(request: pytest.FixtureRequest) -> Carrier:
    """Each carrier."""
    return CARRIERS[request.param](SECRETS[request.param])


@pytest.fixture
def bot() -> Iterator[Bot]:
    """A bot that listens."""
    with listening() as listening_bot:
        yield listening_bot


def stream(carrier: Carrier, url: str = "wss://a.example/ws/T?body=eA%3D%3D") -> str:
    """Return a good document."""
    return f"<Response>{STREAMS[carrier.name].format(url=url)}</Response>"


def call(carrier: Carrier, xml: str, status: int = 200, **script: Any) -> Report:
    """Ring a bridge that answers with `xml`."""
    with Server(answer(status, xml.encode(), XML, close=True)) as bridge:
        ring = Ring(bridge.url, bridge.url)
        who = carrier.new_call("+14155550100", "+14155550123")
        return make_call(
            carrier, who, Script(**{"ring": ring, "mulaw": TONE, "listen_s": 0.1, **script})
        )


def said(report: Report) -> str:
    """Return the timeline as text."""
    return "\n".join(what for _, what in report.timeline)


# The document


def test_good_document_is_read(simulated: Carrier) -> None:
    """URL, attributes and parameters."""
    document = read_document(simulated, "text/xml; charset=utf-8", stream(simulated).encode())

    assert document.stream is not None
    assert document.stream.url == "wss://a.example/ws/T?body=eA%3D%3D"
    assert document.stream.parameters == ({"k": "v"} if simulated.name == "twilio" else {})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("<Response>", "<!DOCTYPE x><Response>"), "DOCTYPE"),
        (("<Response>", " <Response>"), "first byte"),
        (("Response>", "response>"), "<response>, not <Response>"),
        (("</Response>", ""), "not well-formed"),
        (("/ws/T?", "/ws/T&x?"), "not well-formed"),
        (("<Response>", "<Response><Foo/>"), "no child <Foo>"),
        (("<Response>", '<Response version="1">'), "no attribute 'version'"),
        (("<Response>", "<Response>hello"), "holds no text"),
        (("<Stream ", '<Stream token="x" '), "no attribute 'token'"),
        (("wss://a.example", "undefined"), "no wss:// URL"),
        (("wss://a.example", "https://a.example"), "no wss:// URL"),
        (("wss://a.example", "ws://a.example"), "loopback"),
        (("wss://a.example", "wss://"), "no wss:// URL"),
        (("wss://a.example", "\n wss://a.example"), "blanks"),
        (("wss://a.example", "wss://[a"), "cannot be parsed"),
    ],
)
def test_bad_document_is_refused(simulated: Carrier, change: tuple[str, str], problem: str) -> None:
    """Not well-formed, not known, or not a URL that a carrier opens: named, and no call."""
    xml = stream(simulated).replace(*change)
    assert xml != stream(simulated)
    with pytest.raises(AnswerRefused) as caught:
        read_document(simulated, "text/xml", xml.encode())

    assert problem in str(caught.value)
    assert "body=" not in str(caught.value)


def test_two_streams_are_one_too_many(simulated: Carrier) -> None:
    """Exactly one stream."""
    two = stream(simulated).replace("<Response>", "<Response>" + STREAMS[simulated.name])
    with pytest.raises(AnswerRefused, match="2 <Stream> elements"):
        read_document(simulated, "text/xml", two.encode())


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/html", "application/json"])
def test_only_xml_is_xml(simulated: Carrier, content_type: str) -> None:
    """Text would be read aloud, a page is luck."""
    with pytest.raises(AnswerRefused, match="Content-Type"):
        read_document(simulated, content_type, stream(simulated).encode())


def test_document_has_a_limit(simulated: Carrier) -> None:
    """64 kB, Plivo 100."""
    long = stream(simulated) + " " * 100_000
    with pytest.raises(AnswerRefused, match="are allowed"):
        read_document(simulated, "text/xml", long.encode())


@pytest.mark.parametrize(
    ("carrier", "change", "problem"),
    [
        ("twilio", ('url="', 'track="both_tracks" url="'), "31941"),
        ("twilio", ('value="v"', f'value="{"v" * 499}"'), "500 characters"),
        ("twilio", ('value="v"', ""), "lacks"),
        ("plivo", ('bidirectional="true"', ""), "mute"),
        ("plivo", ('keepCallAlive="true"', ""), "end at once"),
        ("plivo", ("rate=8000", "rate=16000"), "noise"),
        ("plivo", ("bidirectional", 'audioTrack="both" bidirectional'), "inbound"),
        ("plivo", ("body=", "body=" + "A" * 2048), "2048 are allowed"),
        ("telnyx", ('bidirectionalMode="rtp"', ""), "mp3"),
        ("telnyx", ('enableReconnect="false"', ""), "spent token"),
        ("telnyx", ("inbound_track", "both_tracks"), "hear itself"),
        ("telnyx", ('codec="PCMU"', 'codec="OPUS"'), "PCMU"),
    ],
)
def test_stream_on_which_nobody_could_talk_is_refused(
    carrier: str, change: tuple[str, str], problem: str
) -> None:
    """The attributes whose defaults, or limits, end a conversation before it begins."""
    simulated = CARRIERS[carrier](SECRETS[carrier])
    xml = stream(simulated).replace(*change)
    with pytest.raises(AnswerRefused) as caught:
        read_document(simulated, "text/xml", xml.encode())

    assert problem in str(caught.value)


# The call


def test_no_answer_is_a_failed_call(simulated: Carrier) -> None:
    """A bridge that hangs up, or is not there."""
    with Server(hang_up) as bridge:
        who = simulated.new_call("+1", "+2")
        report = make_call(simulated, who, Script(Ring(bridge.url, bridge.url), b""))
    assert report.outcome == "failed"
    assert "127.0.0.1" in report.reason


def test_status_other_than_200_is_a_failed_call(simulated: Carrier) -> None:
    """Carriers read no XML in an error."""
    report = call(simulated, stream(simulated), status=500)

    assert (report.outcome, report.reason) == ("failed", "the bridge answered 500")
    assert "PUBLIC_URL" in call(simulated, "", status=403).reason


def test_apology_is_a_failed_call(simulated: Carrier) -> None:
    """What the caller hears instead of the bot is in the report."""
    say = "Speak" if simulated.name == "plivo" else "Say"
    report = call(simulated, f"<Response><{say}>Sorry, later.</{say}><Hangup/></Response>")

    assert report.outcome == "failed"
    assert "Sorry, later." in report.reason


def test_silent_bot_is_a_failed_call(simulated: Carrier, bot: Bot) -> None:
    """A socket alone is not a conversation."""
    report = call(simulated, stream(simulated, bot.url))

    assert report.outcome == "failed"
    assert "no audio came back" in report.reason


def test_socket_is_dialled_as_the_carrier_does(simulated: Carrier, bot: Bot) -> None:
    """Twilio drops the query string, Plivo and Telnyx send it as it is written."""
    call(simulated, stream(simulated, f"{bot.url}?body=eA%3D%3D&amp;x=%2f"))

    path = "/ws/generic/a.b/TOKEN"
    expected = path if simulated.name == "twilio" else f"{path}?body=eA%3D%3D&x=%2f"
    assert bot.targets == [expected]


@pytest.mark.parametrize("refusals", [1, 2, 3])
def test_failed_connect_is_tried_again_by_plivo_only(simulated: Carrier, refusals: int) -> None:
    """Twice more, on the same URL."""
    with listening(refusals=refusals) as bot:
        report = call(simulated, stream(simulated, bot.url))

    attempts = min(refusals + 1, 3) if simulated.name == "plivo" else 1
    assert bot.targets == [bot.targets[0]] * attempts
    if attempts <= refusals:
        assert report.reason == "the socket was refused with 403; silence"
    assert said(report).count("tries the same URL again") == attempts - 1


# The messages: documented names, nesting and types


def messages_of(name: str, bot: Bot) -> tuple[Caller, list[dict[str, Any]]]:
    """Make one short call and return what was said on the socket."""
    simulated = CARRIERS[name](SECRETS[name])
    report = call(simulated, stream(simulated, bot.url), mulaw=b"\x11" * 320, listen_s=0.02)
    bot.wait_for_the_end()
    return report.call, bot.messages


def test_twilio_messages(bot: Bot) -> None:
    """connected, start, media, stop; numbers are strings, rates are numbers."""
    who, messages = messages_of("twilio", bot)
    account = messages[1]["start"]["accountSid"]

    assert messages[:2] == [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": who.stream_id,
            "start": {
                "accountSid": account,
                "streamSid": who.stream_id,
                "callSid": who.call_id,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"k": "v"},
            },
        },
    ]
    assert messages[3] == {
        "event": "media",
        "sequenceNumber": "3",
        "streamSid": who.stream_id,
        "media": {
            "track": "inbound",
            "chunk": "2",
            "timestamp": "20",
            "payload": base64.b64encode(b"\x11" * 160).decode(),
        },
    }
    assert messages[5:] == [
        {
            "event": "stop",
            "sequenceNumber": "5",
            "streamSid": who.stream_id,
            "stop": {"accountSid": account, "callSid": who.call_id},
        }
    ]
    assert (who.call_id[:2], len(who.call_id), who.stream_id[:2]) == ("CA", 34, "MZ")


def test_plivo_messages(bot: Bot) -> None:
    """start and media; sequenceNumber and chunk are numbers, timestamp is a string; no stop."""
    who, messages = messages_of("plivo", bot)

    assert messages[0] == {
        "event": "start",
        "sequenceNumber": 1,
        "start": {
            "callId": who.call_id,
            "streamId": who.stream_id,
            "accountId": messages[0]["start"]["accountId"],
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        },
        "extra_headers": "",
    }
    assert messages[2] == {
        "event": "media",
        "sequenceNumber": 3,
        "streamId": who.stream_id,
        "media": {
            "track": "inbound",
            "timestamp": "20",
            "chunk": 2,
            "payload": base64.b64encode(b"\x11" * 160).decode(),
        },
        "extra_headers": "",
    }
    assert [message["event"] for message in messages] == ["start", "media", "media", "media"]


def test_telnyx_messages(bot: Bot) -> None:
    """connected, start, media, stop, in snake_case; from and to are in start."""
    who, messages = messages_of("telnyx", bot)
    user = messages[1]["start"]["user_id"]

    assert messages[:2] == [
        {"event": "connected", "version": "1.0.0"},
        {
            "event": "start",
            "sequence_number": "1",
            "stream_id": who.stream_id,
            "start": {
                "user_id": user,
                "call_control_id": who.call_id,
                "call_session_id": messages[1]["start"]["call_session_id"],
                "from": "+14155550100",
                "to": "+14155550123",
                "custom_parameters": {},
                "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
            },
        },
    ]
    assert messages[3] == {
        "event": "media",
        "sequence_number": "3",
        "stream_id": who.stream_id,
        "media": {
            "track": "inbound",
            "chunk": "2",
            "timestamp": "20",
            "payload": base64.b64encode(b"\x11" * 160).decode(),
        },
    }
    assert messages[5:] == [
        {
            "event": "stop",
            "sequence_number": "5",
            "stream_id": who.stream_id,
            "stop": {"user_id": user, "call_control_id": who.call_id},
        }
    ]
    assert who.call_id.startswith("v3:")


def test_audio_is_sent_in_real_time(simulated: Carrier, bot: Bot) -> None:
    """20 ms frames of 160 bytes, no faster than a person speaks; silence while listening."""
    started = time.monotonic()
    call(simulated, stream(simulated, bot.url), mulaw=b"\x11" * 1000, listen_s=0.1)
    took_s = time.monotonic() - started
    bot.wait_for_the_end()

    frames = [
        base64.b64decode(m["media"]["payload"]) for m in bot.messages if m["event"] == "media"
    ]
    assert [len(frame) for frame in frames] == [160] * 12
    assert b"".join(frames) == b"\x11" * 1000 + b"\xff" * 920
    assert took_s >= 12 * 0.020
    assert bot.close_codes == [1000]


# What the bot says


def audio(carrier: Carrier, who: dict[str, Any], payload: str, **change: Any) -> str:
    """Return a bot's audio in the carrier's framing."""
    if carrier.name == "plivo":
        media = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": payload, **change}
        return json.dumps({"event": "playAudio", "media": media})
    message = {"event": "media", "media": {"payload": payload}}
    if carrier.name == "twilio":
        message["streamSid"] = who["streamSid"]
    return json.dumps(message | change)


def on_start(talk: Any) -> Any:
    """Return a bot that says something when the call starts."""

    def run(connection: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            talk(connection, message["start"])

    return run


def test_what_the_bot_says_is_recorded(simulated: Carrier, tmp_path: Path) -> None:
    """Into a WAV file, as it came."""
    words = bytes(range(256))

    def talk(connection: ServerConnection, start: dict[str, Any]) -> None:
        connection.send(audio(simulated, start, base64.b64encode(words).decode()))

    with listening(on_start(talk)) as bot:
        report = call(simulated, stream(simulated, bot.url), out=tmp_path / "bot.wav")

    assert report.outcome == "answered"
    assert report.heard_s == len(words) / 8000
    with wave.open(str(tmp_path / "bot.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 8000, len(words))
        assert file.readframes(999) == decode(words)


def test_marks_come_back_when_their_time_has_come(simulated: Carrier) -> None:
    """After the audio before them has been played; at once when the bot clears."""

    def mark(start: dict[str, Any], name: str) -> str:
        if simulated.name == "plivo":
            return json.dumps({"event": "checkpoint", "streamId": "s", "name": name})
        extra = {"streamSid": start["streamSid"]} if simulated.name == "twilio" else {}
        return json.dumps({"event": "mark", "mark": {"name": name}, **extra})

    def talk(connection: ServerConnection, start: dict[str, Any]) -> None:
        connection.send(audio(simulated, start, base64.b64encode(b"\x11" * 480).decode()))
        connection.send(mark(start, "soon"))
        connection.send(audio(simulated, start, base64.b64encode(b"\x11" * 80_000).decode()))
        connection.send(mark(start, "cleared"))

    def clear(connection: ServerConnection, message: dict[str, Any]) -> None:
        on_start(talk)(connection, message)
        if "soon" in json.dumps(message):
            extra = {"streamSid": message["streamSid"]} if simulated.name == "twilio" else {}
            event = "clearAudio" if simulated.name == "plivo" else "clear"
            connection.send(json.dumps({"event": event, **extra}))

    with listening(clear) as bot:
        call(simulated, stream(simulated, bot.url), mulaw=tone(0.3))

    played = "playedStream" if simulated.name == "plivo" else "mark"
    back = [m for m in bot.messages if m["event"] in (played, "clearedAudio")]
    names = [m.get("name") or m.get("mark", {}).get("name") for m in back]
    assert [name for name in names if name] == ["soon", "cleared"]
    assert ("clearedAudio" in {m["event"] for m in back}) == (simulated.name == "plivo")
    before_soon = bot.messages[: bot.messages.index(back[0])]
    # 60 ms of audio stand before the mark: two frames at least pass in the meantime.
    assert sum(m["event"] == "media" for m in before_soon) >= 2


def test_what_a_carrier_drops_is_named(simulated: Carrier) -> None:
    """Binary frames, unknown events, bad base64: ignored, and on the timeline."""

    def talk(connection: ServerConnection, start: dict[str, Any]) -> None:
        for frame in (b"\x00", "no JSON", '{"event": "hello"}', audio(simulated, start, "%%%")):
            connection.send(frame)
        connection.send('{"event": "hello"}')

    with listening(on_start(talk)) as bot:
        report = call(simulated, stream(simulated, bot.url))

    assert said(report).count("ignored: ") == 3
    assert sorted(report.ignored.values()) == [1, 2, 2]
    assert "2 times: a frame that is no JSON text" in report.as_text()
    assert report.outcome == "failed"


def test_audio_of_the_wrong_kind_is_dropped() -> None:
    """Twilio wants its own streamSid, Plivo the stream's own format."""
    for name, change in (("twilio", {"streamSid": "MZ0"}), ("plivo", {"sampleRate": 16000})):
        simulated = CARRIERS[name](SECRETS[name])

        def talk(connection: ServerConnection, start: dict[str, Any]) -> None:
            connection.send(audio(simulated, start, "AAAA", **change))  # noqa: B023

        with listening(on_start(talk)) as bot:
            report = call(simulated, stream(simulated, bot.url))

        assert report.heard_s == 0
        assert "ignored: " in said(report)


def test_bot_that_hangs_up_ends_the_call(simulated: Carrier) -> None:
    """Its close code is on the timeline; what it said before counts."""

    def talk(connection: ServerConnection, start: dict[str, Any]) -> None:
        connection.send(audio(simulated, start, "AAAA"))
        connection.close(4000)

    with listening(on_start(talk)) as bot:
        report = call(simulated, stream(simulated, bot.url), mulaw=tone(20))

    assert report.outcome == "answered"
    assert "the bot hung up with 4000" in said(report)
    assert report.verdict().endswith("; the bot hung up with 4000")
    assert report.sent_s < 20


# The sound


def test_mulaw_is_bit_exact() -> None:
    """All 65,536 samples and all 256 codes, judged by the standard library's former module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop

    samples = struct.pack("<65536h", *range(-32768, 32768))
    codes = bytes(range(256))
    assert encode(samples) == audioop.lin2ulaw(samples, 2)
    assert decode(codes) == audioop.ulaw2lin(codes, 2)


def test_wav_files_go_round(tmp_path: Path) -> None:
    """What is written can be said."""
    write_wav(tmp_path / "a.wav", tone(0.5))

    assert read_wav(tmp_path / "a.wav") == tone(0.5)


@pytest.mark.parametrize(("channels", "rate"), [(1, 16000), (2, 8000), (2, 48000)])
def test_wav_is_brought_to_8_khz_mono(tmp_path: Path, channels: int, rate: int) -> None:
    """Any multiple of 8 kHz, any number of channels."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack("<h", 1000) * channels * (rate // 10))

    mulaw = read_wav(tmp_path / "a.wav")
    assert mulaw == encode(struct.pack("<h", 1000)) * 800


def test_unusable_wav_says_what_is_needed(tmp_path: Path) -> None:
    """8 bits, 44.1 kHz, no WAV, no file."""
    for width, rate in ((1, 8000), (2, 44100)):
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(width)
            file.setframerate(rate)
            file.writeframes(b"\x80" * 16)
        with pytest.raises(UnusableWav, match="16 bits at 8000 Hz"):
            read_wav(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    write_wav(tmp_path / "c.wav", b"")
    problems = {"b.wav": "no PCM WAV", "c.wav": "is empty", "d.wav": "No such file"}
    for name, problem in problems.items():
        with pytest.raises(UnusableWav, match=problem):
            read_wav(tmp_path / name)
