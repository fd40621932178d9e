"""Nothing from outside breaks or extends a document, and the SDKs would write the same."""

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo import plivoxml
from twilio.twiml.voice_response import Connect, VoiceResponse

from app import create_app
from bridge.line import Hold, Sorry
from bridge.settings import Settings
from bridge.stream import CallbackUrls, Stream, stream_for
from bridge.xml import xml_text
from providers import PROVIDERS
from providers.base import Call, Provider
from tests.conftest import BY_NAME, ROOT, SESSION, FakeLedger, FakeStart, environment

app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]
CALL = Call("CA1", "+14155550100", "+14155550199")

WORDS = "Sorry, we cannot take your call right now. Please try again later."
APOLOGY = Sorry(WORDS)
WITH_HUMAN = Sorry(WORDS, "+14155550142", "+14155550100", 20)
EVENTS = {"stream", "sorry", "hold", "goodbye", "reject"}
ENABLED = {p.name: p for p in Settings.from_env(environment(), PROVIDERS).providers}

anything = st.text(st.characters(), max_size=30)
nasty = st.sampled_from(
    ['"/><Hangup/>', "]]>", "<!--", "&amp;", "{{From}}", "{" * 5, "\x00\x1b", "\ud800", "\ufffe"]
)


def render(
    provider: str,
    event: str,
    call: Call = CALL,
    sorry: Sorry = APOLOGY,
    body: Mapping[str, object] | None = None,
) -> str:
    """Render one template as the bridge does."""
    urls = CallbackUrls("https://bridge.example.com", provider)
    with app.app_context():
        template = app.jinja_env.get_template(f"{provider}/{event}.xml")
        return template.render(
            stream=stream_for(ENABLED[provider], call, body or {}, SESSION),
            after_url=urls.after(1_700_000_000),
            stream_status_url=urls.stream,
            sorry=sorry.to(call),
            voice=ENABLED[provider].voice(sorry.voice),
            reason="busy",
            hold=Hold("One moment please.", 3),
            wait_s=5,
            voice_url=urls.voice(1),
        )


def structure(xml: str) -> list[tuple[str, frozenset[str]]]:
    """Return the elements of a document and the names of their attributes."""
    return [(e.tag, frozenset(e.attrib)) for e in ElementTree.fromstring(xml).iter()]


@given(
    id=anything | nasty,
    caller=st.lists(anything | nasty).map("".join),
    callee=anything | nasty,
)
def test_text_from_outside_cannot_extend_the_document(id: str, caller: str, callee: str) -> None:
    """Any id and any numbers: well-formed, the same elements, no mustache, UTF-8."""
    for provider in BY_NAME:
        # The JSON in ?body= is ASCII; a lone surrogate is the one thing it can hold and XML cannot.
        xml = render(provider, "stream", Call(id, caller, callee))

        assert structure(xml) == structure(render(provider, "stream"))
        assert "{{" not in xml
        xml.encode()


@given(anything | nasty)
def test_text_reads_back_without_its_control_characters(text: str) -> None:
    """A parser finds what was put in, braces and quotes included, less what XML cannot hold."""
    readable = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "", text)
    element = ElementTree.fromstring(f'<a b="{xml_text(text)}">{xml_text(text)}</a>')

    assert (element.get("b"), element.text or "") == (readable, readable)


def test_none_and_undefined_are_errors() -> None:
    """No document ever says url="None" or url=""."""
    with app.app_context():
        for source in ("{{ missing }}", "{{ nothing }}", "{{ stream.urll }}"):
            template = app.jinja_env.from_string(source)
            with pytest.raises((jinja2.UndefinedError, TypeError)):
                template.render(nothing=None, stream=Stream("wss://a", {}))


def test_twilio_sdk_writes_the_same() -> None:
    """TwiML, built by Twilio's own builder and compared canonically."""
    connect = Connect(
        action="https://bridge.example.com/twilio/after?sent_at=1700000000", method="POST"
    )
    stream = connect.stream(
        url=f"{SESSION.ws_url}/{SESSION.token}",
        status_callback="https://bridge.example.com/twilio/stream",
        status_callback_method="POST",
    )
    for name, value in (
        ("call_id", CALL.id),
        ("provider", "twilio"),
        ("from_number", CALL.from_number),
        ("to_number", CALL.to_number),
        ("direction", "inbound"),
    ):
        stream.parameter(name=name, value=value)
    built = {event: VoiceResponse() for event in EVENTS}
    built["stream"].append(connect)
    built["sorry"].say(WORDS)
    built["sorry"].dial("+14155550142", timeout=20, caller_id="+14155550100")
    built["sorry"].hangup()
    built["hold"].say("One moment please.")
    built["hold"].pause(length=5)
    built["hold"].redirect("https://bridge.example.com/twilio/voice?held=1", method="POST")
    built["goodbye"].hangup()
    built["reject"].reject(reason="busy")

    for event in EVENTS:
        ours = render("twilio", event, sorry=WITH_HUMAN)
        assert canonical(ours) == canonical(str(built[event])), event


def test_plivo_sdk_writes_the_same() -> None:
    """Plivo XML, built by Plivo's own builder and compared canonically."""
    url = ElementTree.fromstring(render("plivo", "stream")).findtext("Stream") or ""
    built = {event: plivoxml.ResponseElement() for event in EVENTS}
    built["stream"].add(
        plivoxml.StreamElement(
            url,
            bidirectional=True,
            keepCallAlive=True,
            contentType="audio/x-mulaw;rate=8000",
            statusCallbackUrl="https://bridge.example.com/plivo/stream",
            statusCallbackMethod="POST",
        )
    )
    after = "https://bridge.example.com/plivo/after?sent_at=1700000000"
    built["stream"].add(plivoxml.RedirectElement(after, method="POST"))
    built["sorry"].add(plivoxml.SpeakElement(WORDS, voice="WOMAN", language="en-US"))
    dial = plivoxml.DialElement(timeout=20, caller_id="14155550100")
    built["sorry"].add(dial.add(plivoxml.NumberElement("14155550142")))
    built["sorry"].add(plivoxml.HangupElement())
    speak = plivoxml.SpeakElement("One moment please.", voice="WOMAN", language="en-US")
    built["hold"].add(speak)
    built["hold"].add(plivoxml.WaitElement(length=5))
    again = "https://bridge.example.com/plivo/voice?held=1"
    built["hold"].add(plivoxml.RedirectElement(again, method="POST"))
    built["goodbye"].add(plivoxml.HangupElement())
    built["reject"].add(plivoxml.HangupElement(reason="busy"))

    assert url == url.strip()
    for event in EVENTS:
        ours = render("plivo", event, sorry=WITH_HUMAN)
        assert canonical(ours) == canonical(built[event].to_string()), event


def test_telnyx_stream_says_what_its_defaults_would_not() -> None:
    """The attributes whose defaults lose the bot's audio, or dial a spent token again."""
    stream = ElementTree.fromstring(render("telnyx", "stream")).find("Connect/Stream")
    assert stream is not None
    attributes = dict(stream.attrib)

    assert attributes.pop("url").startswith(f"{SESSION.ws_url}/{SESSION.token}?body=")
    assert attributes == {
        "bidirectionalMode": "rtp",
        "bidirectionalCodec": "PCMU",
        "codec": "PCMU",
        "track": "inbound_track",
        "enableReconnect": "false",
        "statusCallback": "https://bridge.example.com/telnyx/stream",
        "statusCallbackMethod": "POST",
    }


def test_what_comes_after_the_stream_is_asked_for(carrier: type[Provider]) -> None:
    """No <Pause>, which keeps dead calls up, and no apology, which a good call must not hear."""
    root = ElementTree.fromstring(render(carrier.name, "stream"))
    [first, *rest] = root
    after = f"https://bridge.example.com/{carrier.name}/after?sent_at=1700000000"

    assert len(list(root.iter("Stream"))) == 1
    if rest:
        assert [(e.tag, e.text, e.attrib) for e in rest] == [
            ("Redirect", after, {"method": "POST"})
        ]
    else:
        assert (first.get("action"), first.get("method")) == (after, "POST")


def test_templates_begin_at_byte_0_and_stay_small(carrier: type[Provider]) -> None:
    """A blank before the declaration is Twilio's error 12100; 64 kB is its limit."""
    for path in sorted((ROOT / "templates" / carrier.name).glob("*.xml")):
        xml = render(carrier.name, path.stem)
        assert xml.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<Response>')
        assert len(xml.encode()) < 64_000


def test_every_carrier_has_the_same_events() -> None:
    """One file per event, the same names in every folder, and no folder of a carrier unknown."""
    folders = {p.name: {f.name for f in p.iterdir()} for p in Path(ROOT / "templates").iterdir()}

    assert folders.keys() == BY_NAME.keys()
    assert {frozenset(names) for names in folders.values()} == {
        frozenset(f"{event}.xml" for event in EVENTS)
    }


def test_comments_do_not_reach_the_carrier(carrier: type[Provider]) -> None:
    """Why a document looks as it does is for us to read."""
    for event in EVENTS:
        xml = render(carrier.name, event)
        assert "http" not in xml.replace("https://bridge.example.com", "")
        assert "{#" not in xml


def test_human_is_dialled_only_if_there_is_one(carrier: type[Provider]) -> None:
    """With timeout and caller id, after the message; without a human, message and hang-up."""
    with_human = ElementTree.fromstring(render(carrier.name, "sorry", sorry=WITH_HUMAN))
    without = ElementTree.fromstring(render(carrier.name, "sorry"))

    assert [e.tag for e in with_human][1:] == ["Dial", "Hangup"]
    assert [e.tag for e in without][1:] == ["Hangup"]
    dial = with_human.find("Dial")
    assert dial is not None
    assert "".join(dial.itertext()).strip().removeprefix("+") == "14155550142"
    assert dial.get("timeout") == "20"
    assert (dial.get("callerId") or "").removeprefix("+") == "14155550100"


def test_line_does_not_dial_itself(carrier: type[Provider]) -> None:
    """SORRY_DIAL that is the number called would ring the bridge again."""
    itself = Sorry(WORDS, CALL.to_number)
    xml = render(carrier.name, "sorry", sorry=itself)

    assert ElementTree.fromstring(xml).find("Dial") is None


def test_human_sees_the_number_that_was_called(carrier: type[Provider]) -> None:
    """A caller id that the account does not own is refused; none at all is better."""
    for to_number, expected in (("+14155550199", "14155550199"), ("sip:a@b", None)):
        call = Call("CA1", "+491701234567", to_number)
        xml = render(carrier.name, "sorry", call, Sorry(WORDS, "+14155550142"))
        dial = ElementTree.fromstring(xml).find("Dial")
        assert dial is not None
        shown = dial.get("callerId")
        assert (shown.removeprefix("+") if shown else shown) == expected


def canonical(xml: str) -> str:
    """Return a form in which attribute order, entities and layout make no difference."""
    return ElementTree.canonicalize(xml, strip_text=True)
