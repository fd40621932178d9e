"""Nothing from outside breaks or extends a document, and the SDKs would write the same."""

import re
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo import plivoxml
from twilio.twiml.voice_response import Connect, VoiceResponse

from app import create_app
from bridge.answering import SORRY, Stream, stream_for
from bridge.xml import xml_text
from providers.base import Call, Provider
from tests.conftest import BY_NAME, ROOT, SESSION, FakeStart, environment

app = create_app(environment(), FakeStart())  # type: ignore[arg-type]
CALL = Call("CA1", "+14155550100", "+14155550199")

anything = st.text(st.characters(), max_size=30)
nasty = st.sampled_from(
    ['"/><Hangup/>', "]]>", "<!--", "&amp;", "{{From}}", "{" * 5, "\x00\x1b", "\ud800", "\ufffe"]
)


def render(provider: str, event: str, call: Call = CALL) -> str:
    """Render one template as the bridge does."""
    stream = stream_for(provider, call, SESSION)
    with app.app_context():
        template = app.jinja_env.get_template(f"{provider}/{event}.xml")
        return template.render(call=call, stream=stream)


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
    readable = re.sub("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "", text)
    element = ElementTree.fromstring(f'<a b="{xml_text(text)}">{xml_text(text)}</a>')

    assert (element.get("b"), element.text or "") == (readable, readable)


def test_none_and_undefined_are_errors() -> None:
    """No document ever says url="None" or url=""."""
    with app.app_context():
        for source in ("{{ missing }}", "{{ nothing }}", "{{ stream.urll }}"):
            template = app.jinja_env.from_string(source)
            with pytest.raises((jinja2.UndefinedError, TypeError)):
                template.render(nothing=None, stream=Stream(SESSION, {}))


def test_twilio_sdk_writes_the_same_stream() -> None:
    """TwiML, built by Twilio's own builder and compared canonically."""
    connect = Connect()
    stream = connect.stream(url=f"{SESSION.ws_url}/{SESSION.token}")
    stream.parameter(name="from_number", value=CALL.from_number)
    stream.parameter(name="to_number", value=CALL.to_number)
    stream.parameter(name="call_id", value=CALL.id)
    built = VoiceResponse()
    built.append(connect)

    assert canonical(render("twilio", "stream")) == canonical(str(built))


def test_twilio_sdk_writes_the_same_apology() -> None:
    """The same for sorry.xml."""
    built = VoiceResponse()
    built.say("Sorry, we cannot take your call right now. Please try again later.")
    built.hangup()

    assert canonical(render("twilio", "sorry")) == canonical(str(built))


def test_plivo_sdk_writes_the_same_stream() -> None:
    """Plivo XML, built by Plivo's own builder and compared canonically."""
    xml = render("plivo", "stream")
    url = ElementTree.fromstring(xml).findtext("Stream")
    built = plivoxml.ResponseElement().add(
        plivoxml.StreamElement(
            url,
            bidirectional=True,
            keepCallAlive=True,
            contentType="audio/x-mulaw;rate=8000",
        )
    )

    assert url == url.strip() if url else False
    assert canonical(xml) == canonical(built.to_string())


def test_plivo_sdk_writes_the_same_apology() -> None:
    """The same for sorry.xml."""
    built = plivoxml.ResponseElement()
    built.add(
        plivoxml.SpeakElement(
            "Sorry, we cannot take your call right now. Please try again later.",
            voice="WOMAN",
            language="en-US",
        )
    )
    built.add(plivoxml.HangupElement())

    assert canonical(render("plivo", "sorry")) == canonical(built.to_string())


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
    }


def test_nothing_comes_after_the_stream(carrier: type[Provider]) -> None:
    """A <Pause> or anything else behind the stream keeps dead calls up."""
    root = ElementTree.fromstring(render(carrier.name, "stream"))

    assert len(root) == 1
    assert len(list(root.iter("Stream"))) == 1


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
        frozenset({"stream.xml", f"{SORRY.event}.xml"})
    }


def test_comments_do_not_reach_the_carrier(carrier: type[Provider]) -> None:
    """Why a document looks as it does is for us to read."""
    for event in ("stream", "sorry"):
        xml = render(carrier.name, event)
        assert "http" not in xml.replace(SESSION.ws_url, "")
        assert "{#" not in xml


def canonical(xml: str) -> str:
    """Return a form in which attribute order, entities and layout make no difference."""
    return ElementTree.canonicalize(xml, strip_text=True)
