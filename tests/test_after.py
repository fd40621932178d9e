"""What happens when the bot cannot take a call, and after it has."""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from syrupy.assertion import SnapshotAssertion
from werkzeug.test import TestResponse

from bridge.errors import StartFailed
from bridge.line import Line
from providers.base import Provider
from tests.conftest import FIRST_OF, Bridge, FakeStart, Recording, counted, environment, signed
from tests.record_webhooks import RECEIVED_AT

FULL = StartFailed("at_capacity", "status 429", retry_after_s=7)


def root(response: TestResponse) -> ElementTree.Element:
    """Return the document of an answer that a carrier reads."""
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    return ElementTree.fromstring(response.text)


def tags(response: TestResponse) -> list[str]:
    return [element.tag for element in root(response)]


def is_sorry(response: TestResponse) -> bool:
    return "Sorry" in "".join(root(response).itertext())


def is_goodbye(response: TestResponse) -> bool:
    return tags(response) == ["Hangup"]


def is_stream(response: TestResponse) -> bool:
    return root(response).find(".//Stream") is not None


def call_id(recording: Recording) -> str:
    fields = recording.webhook().fields
    return fields.first("CallSid") or fields.first("CallUUID")


def send(
    bridge: Bridge,
    recording: Recording,
    route: str,
    fields: Mapping[str, str] | None = None,
    later_s: float = 0,
) -> TestResponse:
    """Send one more webhook of the same call, signed by the carrier's SDK."""
    name = "CallUUID" if recording.provider == "plivo" else "CallSid"
    form = {name: call_id(recording), "From": "+14155550100", "To": "+14155550199"}
    later = signed(
        recording.provider,
        form | dict(fields or {}),
        target=f"/{recording.provider}/{route}",
        now=RECEIVED_AT + int(later_s),
    )
    return bridge.ring(later, received_at=recording.received_at + later_s)


def after(
    bridge: Bridge,
    recording: Recording,
    later_s: float,
    fields: Mapping[str, str] | None = None,
) -> TestResponse:
    """Ask what comes after the stream, so long after the call rang."""
    route = f"after?sent_at={int(recording.received_at)}"
    return send(bridge, recording, route, fields, later_s)


def stream_event(provider: str, kind: str) -> dict[str, str]:
    """Return the fields of a stream status callback in the carrier's own words."""
    if provider == "plivo":
        words = {"started": "StartStream", "stopped": "StopStream", "failed": "DroppedStream"}
        return {"Event": words[kind]}
    failed = "stream-error" if provider == "twilio" else "stream-failed"
    words = {"started": "stream-started", "stopped": "stream-stopped", "failed": failed}
    return {"StreamEvent": words[kind]}


# No session


@pytest.mark.parametrize("kind", ["unreachable", "deadline", "refused", "unavailable", "garbage"])
def test_no_session_is_an_apology(recorded: Recording, kind: str) -> None:
    """Whatever the reason, but for capacity: message, hang-up, and the reason in the ledger."""
    bridge = Bridge(FakeStart(error=StartFailed(kind, "what happened")))

    assert is_sorry(bridge.ring(recorded))
    assert bridge.ledger.row["outcome"] == "sorry"
    assert bridge.ledger.row["reason"] == f"{kind}: what happened"


def test_apology_has_the_owners_words_and_human(
    recorded: Recording, xml_snapshot: SnapshotAssertion
) -> None:
    """SORRY_MESSAGE, then SORRY_DIAL with its timeout and caller id, then hang up."""
    env = environment(
        SORRY_MESSAGE="Unser Büro & <wir> sind {{weg}}.",
        SORRY_DIAL="+14155550142",
        SORRY_TIMEOUT_S="25",
        SORRY_CALLER_ID="+14155550100",
    )
    response = Bridge(FakeStart(error=StartFailed("deadline", "x")), env).ring(recorded)

    assert response.text == xml_snapshot


# At capacity


def test_agent_of_a_failed_call_is_in_the_ledger(bridge: Bridge, recorded: Recording) -> None:
    """The first thing that is asked when somebody complains."""
    bridge.start.error = StartFailed("refused", "no")
    bridge.ring(recorded)

    assert bridge.ledger.row["agent"] == "my-agent"


def test_full_house_is_a_hold(recorded: Recording, xml_snapshot: SnapshotAssertion) -> None:
    """A message, the wait that Retry-After asks for, and a redirect back."""
    bridge = Bridge(FakeStart(error=FULL), environment(HOLD_MESSAGE="One moment please."))
    response = bridge.ring(recorded)

    assert response.text == xml_snapshot
    assert bridge.ledger.row["outcome"] == "hold"


@pytest.mark.parametrize(
    ("retry_after_s", "wait"), [(0, "5"), (0.2, "1"), (20, "20"), (3600, "20")]
)
def test_wait_is_bounded(recorded: Recording, retry_after_s: float, wait: str) -> None:
    """5 s if nobody says otherwise, 20 s at most."""
    full = StartFailed("at_capacity", "x", retry_after_s=retry_after_s)
    document = root(Bridge(FakeStart(error=full)).ring(recorded))
    [length] = [e.get("length") for e in document if e.tag in ("Pause", "Wait")]

    assert length == wait


def test_hold_ends_in_an_apology(recorded: Recording) -> None:
    """HOLD_ATTEMPTS times, each redirect counted in its URL; then sorry.xml."""
    bridge = Bridge(FakeStart(error=FULL), environment(HOLD_ATTEMPTS="2"))
    answers = [bridge.ring(recorded)]
    for _ in range(2):
        [redirect] = [e.text or "" for e in root(answers[-1]) if e.tag == "Redirect"]
        route = redirect.rpartition("/")[2]
        answers.append(send(bridge, recorded, route, later_s=20 * len(answers)))

    assert [is_sorry(answer) for answer in answers] == [False, False, True]
    assert len(bridge.start.asked) == 3


def test_held_caller_gets_the_bot_when_one_is_free(recorded: Recording) -> None:
    """The redirect is a fresh try, not a replay, however late it comes."""
    bridge = Bridge(FakeStart(error=FULL))
    bridge.ring(recorded)
    bridge.start.error = None

    assert is_stream(send(bridge, recorded, "voice?held=1", later_s=70))


def test_more_starts_than_places_are_held(recorded: Recording) -> None:
    """MAX_STARTS in flight in this process: the next caller is held, and /start is not asked."""
    bridge = Bridge(env=environment(MAX_STARTS="1"))
    inner: list[TestResponse] = []
    start = bridge.start.start

    def busy(line: Line, provider: str, deadline: float) -> object:
        if not inner:
            other = signed(recorded.provider, {"CallSid": "other", "CallUUID": "other"})
            inner.append(client.post(other.target, headers=other.headers, data=other.body))
        return start(line, provider, deadline)

    bridge.start.start = busy  # type: ignore[method-assign,assignment]
    client = bridge.client(recorded.received_at)
    outer = client.open(
        recorded.target, method=recorded.method, headers=recorded.headers, data=recorded.body
    )

    assert is_stream(outer)
    assert "Redirect" in tags(inner[0])
    assert len(bridge.start.asked) == 1


def test_held_in_the_query_is_not_believed_beyond_the_last_hold(bridge: Bridge) -> None:
    """Telnyx signs no query: a captured webhook is good for few sessions, whatever is added."""
    telnyx = FIRST_OF["telnyx"]
    streams = [is_stream(send(bridge, telnyx, f"voice?held={n}")) for n in range(20)]

    assert sum(streams) == 3 + 3  # one for each hold that could have been, the last one thrice


# The same call again


def test_same_call_gets_three_sessions_and_no_more(recorded: Recording, bridge: Bridge) -> None:
    """Carriers send a webhook again; a fourth is a replay: goodbye.xml and no session."""
    answers = [bridge.ring(recorded) for _ in range(5)]

    assert [is_stream(answer) for answer in answers] == [True, True, True, False, False]
    assert all(is_goodbye(answer) for answer in answers[3:])
    assert len(bridge.start.asked) == 3


@pytest.mark.parametrize(("later_s", "answered"), [(60, True), (61, False)])
def test_same_call_is_a_replay_after_a_minute(
    recorded: Recording, bridge: Bridge, later_s: float, answered: bool
) -> None:
    """Only within 60 s of the first webhook."""
    bridge.ring(recorded)
    response = bridge.ring(recorded, received_at=recorded.received_at + later_s)

    assert is_stream(response) is answered
    assert is_goodbye(response) is not answered


def test_replay_leaves_the_calls_outcome_alone(recorded: Recording, bridge: Bridge) -> None:
    """What the ledger says about the real call is not overwritten by a forger's copy of it."""
    for _ in range(4):
        bridge.ring(recorded)

    assert bridge.ledger.row["outcome"] == "stream"


# After the stream


def test_good_call_gets_a_goodbye(recorded: Recording, bridge: Bridge) -> None:
    """Started, then ended: hang up, and never an apology, however short it was."""
    bridge.ring(recorded)
    send(bridge, recorded, "stream", stream_event(recorded.provider, "started"))

    assert is_goodbye(after(bridge, recorded, later_s=2))
    assert bridge.ledger.row["outcome"] == "goodbye"


def test_stopped_stream_had_started(recorded: Recording, bridge: Bridge) -> None:
    """The callback of the start may be lost, or come later."""
    bridge.ring(recorded)
    send(bridge, recorded, "stream", stream_event(recorded.provider, "stopped"))

    assert is_goodbye(after(bridge, recorded, later_s=2))


def test_failed_stream_gets_an_apology(recorded: Recording) -> None:
    """Whenever it fails, even in the middle of a call: message and human."""
    bridge = Bridge(env=environment(SORRY_DIAL="+14155550142"))
    bridge.ring(recorded)
    for kind in ("started", "failed"):
        send(bridge, recorded, "stream", stream_event(recorded.provider, kind))
    response = after(bridge, recorded, later_s=90)

    assert is_sorry(response)
    assert "Dial" in tags(response)
    assert bridge.ledger.row["stream_failed"] == "no reason given"


@pytest.mark.parametrize(("later_s", "sorry"), [(1, True), (9, True), (11, False), (600, False)])
def test_stream_that_told_nothing_is_judged_by_its_age(
    recorded: Recording, bridge: Bridge, later_s: float, sorry: bool
) -> None:
    """No event at all: younger than 10 s it never began, older it was a call."""
    bridge.ring(recorded)
    response = after(bridge, recorded, later_s)

    assert is_sorry(response) is sorry
    assert is_goodbye(response) is not sorry


def test_held_call_is_young_when_its_stream_is(recorded: Recording, bridge: Bridge) -> None:
    """The age counts from the stream's XML, not from the first ring."""
    bridge.ring(recorded)
    sent_at = int(recorded.received_at) + 40
    response = send(bridge, recorded, f"after?sent_at={sent_at}", later_s=45)

    assert is_sorry(response)


def test_after_needs_no_memory_of_the_call(recorded: Recording) -> None:
    """Another process, its ledger away: the URL, which the carrier signs, tells the age."""
    assert is_sorry(after(Bridge(), recorded, later_s=2))
    assert is_goodbye(after(Bridge(), recorded, later_s=200))


def test_request_that_carries_the_error_is_believed(recorded: Recording, bridge: Bridge) -> None:
    """Twilio's action request may say itself that the stream failed."""
    bridge.ring(recorded)

    assert is_sorry(after(bridge, recorded, 200, stream_event(recorded.provider, "failed")))


def test_twilio_31921_is_a_normal_end(bridge: Bridge) -> None:
    """The bot closed the socket, which is how it hangs up."""
    twilio = FIRST_OF["twilio"]
    bridge.ring(twilio)
    error = {"StreamEvent": "stream-error", "StreamError": "31921 closed"}
    send(bridge, twilio, "stream", error)

    assert is_goodbye(after(bridge, twilio, later_s=2))


@pytest.mark.parametrize(
    ("provider", "fields", "kind"),
    [
        ("plivo", {"Event": "StartStream"}, "started"),
        ("plivo", {"Event": "started"}, "started"),
        ("plivo", {"Event": "StopStream"}, "stopped"),
        ("plivo", {"Event": "stopped", "StatusReason": "completed"}, "stopped"),
        ("plivo", {"Event": "DroppedStream", "Error": "gone"}, "failed"),
        ("plivo", {"Event": "failed", "StatusReason": "connection_failed"}, "failed"),
        ("plivo", {"Event": "DegradedStream"}, "DegradedStream"),
        ("telnyx", {"StreamEvent": "stream-failed"}, "failed"),
        ("telnyx", {"StreamEvent": "stream-error", "StreamError": "x"}, "failed"),
        ("twilio", {"StreamEvent": "stream-error", "StreamError": "31920"}, "failed"),
        ("twilio", {"StreamEvent": "news"}, "news"),
    ],
)
def test_both_naming_schemes_are_understood(
    bridge: Bridge, provider: str, fields: dict[str, str], kind: str
) -> None:
    """The carriers' own pages disagree; an unknown word is kept as it is."""
    recording = FIRST_OF[provider]
    response = send(bridge, recording, "stream", fields)

    assert (response.status_code, response.data) == (204 if provider == "twilio" else 200, b"")
    assert [entry.what for entry in bridge.ledger.written] == [f"stream {kind}"]


def test_stream_url_in_a_carriers_words_is_not_kept(
    carrier: type[Provider], bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason for a failure may quote the URL, and the token is in it."""
    caplog.set_level("DEBUG")
    fields = stream_event(carrier.name, "failed")
    fields |= {carrier.stream_reason_fields[0]: "handshake failed WSS://a.example/x/canary now"}
    send(bridge, FIRST_OF[carrier.name], "stream", fields)

    assert "canary" not in caplog.text + repr(bridge.ledger.written)
    assert bridge.ledger.row["stream_failed"] == "handshake failed (the socket's URL) now"


def test_failure_that_is_under_way_is_waited_for(
    recorded: Recording, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started, and the failure's callback overtaken by the question what comes after."""
    bridge.ring(recorded)
    send(bridge, recorded, "stream", stream_event(recorded.provider, "started"))
    late = stream_event(recorded.provider, "failed")
    monkeypatch.setattr(
        "bridge.answering.time.sleep", lambda _: send(bridge, recorded, "stream", late)
    )

    assert is_sorry(after(bridge, recorded, later_s=2))


def test_slow_start_does_not_make_a_stream_look_old(
    recorded: Recording, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The age counts from the XML, not from the webhook that /start kept waiting."""
    moments = iter([0.0, 0.0, 9.5, 9.5, 9.5, 9.5, 9.5])
    monkeypatch.setattr("bridge.answering.time.monotonic", lambda: next(moments, 9.5))
    xml = bridge.ring(recorded).text
    monkeypatch.undo()
    sent_at = int(xml.partition("sent_at=")[2][:10])

    assert sent_at == recorded.received_at + 10
    assert is_sorry(send(bridge, recorded, f"after?sent_at={sent_at}", later_s=11))


def test_stream_url_of_a_callback_is_not_kept(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """Plivo's callback holds the whole socket URL, token and all."""
    caplog.set_level("DEBUG")
    plivo = FIRST_OF["plivo"]
    dropped = {"Event": "DroppedStream", "ServiceURL": "wss://a.example/canary"}
    send(bridge, plivo, "stream", dropped)

    assert "canary" not in caplog.text + repr(bridge.ledger.written)


# The call's own status


def test_status_is_recorded(recorded: Recording, bridge: Bridge) -> None:
    """204 for Twilio, 200 for the others, an empty body, and a row in the ledger."""
    duration = "Duration" if recorded.provider == "plivo" else "CallDuration"
    completed = {"CallStatus": "completed", "SequenceNumber": "3", duration: "42"}
    response = send(bridge, recorded, "status", completed)

    assert response.status_code == (204 if recorded.provider == "twilio" else 200)
    assert response.data == b""
    assert bridge.ledger.row == {
        "final_status": "completed",
        "status_sequence": 3,
        "duration_s": 42,
        "ended_at": recorded.received_at,
    }


def test_status_without_a_sequence_has_its_stage(recorded: Recording, bridge: Bridge) -> None:
    """So that a late "ringing" does not replace "completed"."""
    sequences = []
    for status in ("ringing", "in-progress", "no-answer"):
        send(bridge, recorded, "status", {"CallStatus": status})
        sequences.append(bridge.ledger.row["status_sequence"])

    assert sequences == sorted(set(sequences))


# All of them


@pytest.mark.parametrize("route", ["after", "stream", "status"])
def test_every_route_is_signed(carrier: type[Provider], bridge: Bridge, route: str) -> None:
    """Unsigned, or signed and altered: 403 and an empty body."""
    recording = signed(
        carrier.name, {carrier.call_id_field: "1"}, target=f"/{carrier.name}/{route}"
    )

    assert bridge.ring(recording).status_code in (200, 204)
    forgeries: list[dict[str, Any]] = [{"headers": {}}, {"body": recording.body + "0"}]
    for forged in forgeries:
        response = bridge.ring(recording, **forged)
        assert (response.status_code, response.data) == (403, b"")


@pytest.mark.parametrize("route", ["after", "stream", "status"])
def test_webhook_without_a_call_is_no_crash(
    carrier: type[Provider], bridge: Bridge, route: str
) -> None:
    """A callback that names no call changes nothing; a document is an apology."""
    response = bridge.ring(signed(carrier.name, {"a": "b"}, target=f"/{carrier.name}/{route}"))

    assert response.status_code == (200 if route == "after" else carrier.callback_status)
    assert bridge.ledger.written == []


@pytest.mark.parametrize("route", ["voice", "after", "stream", "status"])
def test_surprise_behind_any_route_is_no_500(
    carrier: type[Provider],
    bridge: Bridge,
    route: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A ledger that raises although it must not: XML or an empty answer, and a traceback."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("boom")

    for name in ("claim", "stream_seen", "stream_event", "note"):
        monkeypatch.setattr(bridge.ledger, name, broken)
    fields = stream_event(carrier.name, "started") if route in ("after", "stream") else {}
    recording = signed(
        carrier.name,
        {carrier.call_id_field: "1"} | fields,
        target=f"/{carrier.name}/{route}",
    )
    client = bridge.client(recording.received_at)
    response = client.post(recording.target, headers=recording.headers, data=recording.body)

    assert counted(client.application, "bridge_unexpected_errors_total", provider=carrier.name) == 1
    assert "ZeroDivisionError: boom" in caplog.text
    if route in ("voice", "after"):
        assert is_sorry(response)
    else:
        assert response.status_code == carrier.callback_status
