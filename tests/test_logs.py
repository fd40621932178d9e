"""What a log line holds, and what it never holds."""

import json
import logging
import os
import subprocess
import sys
import threading
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import logs
from bridge.redaction import Redaction
from tests.conftest import ROOT, environment

SECRETS = ("canary-token-0123", 'canary"\\quoted', "canary+/=base64")
SOCKET = "wss://us-west.api.pipecat.daily.co/ws/generic/my-agent.my-org"
TOKEN = "eyJzaCI6Im15LWFnZW50In0.c2lnbmF0dXJl"


def written(message: str, *args: object, kind: str = "json", **options: object) -> str:
    """Return the line that a message becomes."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.formatter(stream, kind, Redaction(SECRETS)))
    record = logging.LogRecord("bridge.x", logging.INFO, __file__, 1, message, args, None)
    vars(record).update(options)
    handler.emit(record)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["json", "plain"])
@pytest.mark.parametrize(
    "text",
    [
        *SECRETS,
        f"token {TOKEN}",
        f"\n{TOKEN}",
        f"url {SOCKET}/{TOKEN}?body=eyJhIjoxfQ%3D%3D",
        f"{SOCKET}/opaque-canary",
        "WSS://HOST/canary",
        "Authorization: Bearer canary1234",
        "{'Authorization': 'Basic Y2FuYXJ5OmNhbmFyeQ=='}",
        "\tBearer canary1234",
        "pk_canary_123456 and sk_canary_123456",
        "postgresql://bridge:canary@db/bridge",
        "canary%2B%2F%3Dbase64",
    ],
)
def test_secrets_are_taken_out(text: str, kind: str) -> None:
    """Known ones in any spelling, and whatever looks like one; in messages and in exceptions."""
    assert written("before %s after", text, kind=kind).count("after") == 1
    try:
        raise ValueError(text)
    except ValueError:
        trace = sys.exc_info()
    for line in (written("%s", text, kind=kind), written("oh", kind=kind, exc_info=trace)):
        assert "canary" not in line.lower()
        assert TOKEN not in line
        assert "/ws/" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call from +14155550100", "call from ***0100"),
        ("To=%2B14155550100&x=1", "To=***0100&x=1"),
        ("14155550100 rang", "***0100 rang"),
        ("sip:+14155550100@host", "sip:***0100@host"),
        ("sip:14155550100@host", "sip:***0100@host"),
        ("(+491701234567)", "(***4567)"),
        ("\n+14155550100\n", "\n***0100\n"),
        ("/x/14155550100/y", "/x/***0100/y"),
        # Ids stay whole: the story of a call is a grep for one.
        ("CA00000000000000000000000000000001", "CA00000000000000000000000000000001"),
        ("c8a1f1a2-0000-4b1e-9f10-123456789012", "c8a1f1a2-0000-4b1e-9f10-123456789012"),
        ("v3:14155550100abc", "v3:14155550100abc"),
        ("12345678-1234-1234-1234-123456789012", "12345678-1234-1234-1234-123456789012"),
        ("at http://0.0.0.0:8000 (12345)", "at http://0.0.0.0:8000 (12345)"),
    ],
)
def test_numbers_are_masked_and_ids_are_not(text: str, shown: str) -> None:
    """The last four digits, enough to find a call by; whole numbers only when it is asked for."""
    assert Redaction()(text) == shown
    assert Redaction(numbers="full")(text) == text


def test_line_is_one_json_object() -> None:
    """With the moment, the level and every field that is known, and nothing else."""
    with logs.story(provider="twilio", call_id="CA1"):
        logs.tell(agent="support", session_id=None)
        line = written("/start took %d ms", 5, stage="start", ms=5.25, unknown="x")

    found = json.loads(line)
    assert line.count("\n") == 1
    assert found.pop("at").endswith("Z")
    assert found.pop("process") > 0
    assert found == {
        "level": "info",
        "message": "/start took 5 ms",
        "provider": "twilio",
        "call_id": "CA1",
        "agent": "support",
        "session_id": None,
        "stage": "start",
        "ms": 5.25,
        "logger": "bridge.x",
    }


def test_story_ends_with_its_webhook() -> None:
    """Threads answer one call after the other: nothing of one is told of the next."""
    with logs.story(provider="twilio"):
        logs.tell(call_id="CA1")

    assert "CA1" not in written("later")
    assert "twilio" not in written("later")


@given(st.text(), st.text())
def test_any_text_stays_one_readable_line(message: str, field: str) -> None:
    """Line breaks, quotes and digits from outside cannot make a line of their own."""
    line = written("%s", message, agent=field, kind="json")

    assert line.count("\n") == 1
    assert isinstance(json.loads(line)["message"], str)


def test_plain_is_for_terminals_and_coloured_there_only() -> None:
    """`auto` is JSON wherever nobody is looking."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    error = logging.LogRecord("x", logging.ERROR, "", 1, "oh", (), None)
    on_terminal = logs.formatter(Terminal(), "auto", Redaction()).format(error)
    assert on_terminal.startswith("\033[31m")
    assert "oh" in on_terminal
    assert logs.formatter(StringIO(), "auto", Redaction()).format(error).startswith("{")
    assert logs.formatter(Terminal(), "json", Redaction()).format(error).startswith("{")
    assert "\033" not in logs.formatter(StringIO(), "plain", Redaction()).format(error)


def test_commands_print_their_answer_and_no_log() -> None:
    """What `flask --app app calls` prints is for a program, too; only warnings go beside it."""
    command = [sys.executable, "-m", "flask", "--app", "app", "calls", "--json"]
    env = os.environ | environment(DATABASE_URL="sqlite://")
    result = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )

    assert result.stderr in ("", "Error: the ledger cannot be read: OperationalError\n")


def test_thread_that_dies_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Python would print it to standard error, past the redaction."""
    died = threading.ExceptHookArgs((ValueError, ValueError("oh"), None, None))
    logs.log_thread(died)

    assert "ValueError: oh" in caplog.text
