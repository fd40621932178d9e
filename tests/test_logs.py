"""What a log line holds, and what it never holds."""

import json
import logging
import os
import subprocess
import sys
import timeit
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
        f"x=%2F{TOKEN}",
        "/ws/generic/my-agent.my-org/opaque-canary-token",
        "wss%3A%2F%2Fhost%2Fcanary",
        "wss:\\/\\/host\\/canary",
        repr(SECRETS[1]),
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
        ("/x/14155550100.xml", "/x/***0100.xml"),
        ("14155550100:busy", "***0100:busy"),
        ("14155550100-", "***0100-"),
        ("_14155550100", "_***0100"),
        ("to%3A14155550100%26", "to%3A***0100%26"),
        ("+1 415 555 0100", "***0100"),
        ("tel:+1-415-555-0100", "tel:***0100"),
        ("+1.415.555.0100", "***0100"),
        ("+1 (415) 555-0100", "***0100"),
        ("(415) 555-0100", "***0100"),
        ("1-415-555-0100", "***0100"),
        ("+4917012345678901", "***8901"),
        ("1234567890123456", "***3456"),
        # Ids stay whole: the story of a call is a grep for one.
        ("CA00000000000000000000000000000001", "CA00000000000000000000000000000001"),
        ("c8a1f1a2-0000-4b1e-9f10-123456789012", "c8a1f1a2-0000-4b1e-9f10-123456789012"),
        ("v3:14155550100abc", "v3:14155550100abc"),
        ("12345678-1234-1234-1234-123456789012", "12345678-1234-1234-1234-123456789012"),
        ("1568109700606592442", "1568109700606592442"),
        ("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("at 2026-11-23 12:00:00 +0000", "at 2026-11-23 12:00:00 +0000"),
        ("at http://10.239.182.100:44301", "at http://10.239.182.100:44301"),
        ("[4194304]", "[4194304]"),
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


@pytest.mark.parametrize(
    "text", ["123456789012345:" * 200, "-eyJ" * 1000, "-pk_" * 1000, "://" * 1300]
)
def test_strangers_text_costs_no_time(text: str) -> None:
    """Sixteen times the text takes some sixteen times the time, not 256 times."""
    redact = Redaction(SECRETS)

    def seconds(of: str) -> float:
        return min(timeit.repeat(lambda: redact(of), number=3, repeat=5))

    assert seconds(text * 16) < 60 * seconds(text)


def test_plain_line_is_one_line_too() -> None:
    """A path with a line break, or an escape for the terminal, makes neither."""
    line = written("GET %s 404", "/no\n2026-11-23 [1] ERROR app: forged\x1b[2J\u2028", kind="plain")

    assert line.count("\n") == 1
    assert "\\n2026" in line
    assert "\x1b" not in line


def test_plain_line_names_its_call() -> None:
    """One grep finds the whole story there, too."""
    with logs.story(call_id="CA1"):
        assert "(call CA1)" in written("/start took 5 ms", kind="plain")
        assert written("call CA1 rang", kind="plain").count("CA1") == 1
    assert "(call" not in written("x", kind="plain")


def test_fields_cannot_break_the_line() -> None:
    """Numbers, what JSON does not know, stacks: text that has been through the redaction."""
    found = json.loads(
        written("x", agent=14155550100, line=float("nan"), stack_info="canary-token-0123")
    )

    assert (found["agent"], found["line"]) == ("***0100", "nan")
    assert found["stack"] == "(a secret)"


SCRIPT = """
import logging, sys, threading, warnings
from bridge import logs
from bridge.redaction import Redaction
logs.to_stdout("json", Redaction(["canary-token-0123"]))
log = logging.getLogger("x")
log.info("%d %s", "canary-token-0123", "+14155550100")
class Worse:
    def __str__(self): raise ValueError("canary-token-0123")
    def __del__(self): raise ValueError("canary-token-0123 in del")
log.info("%s", Worse())
warnings.warn("canary-token-0123 warned")
thread = threading.Thread(target=lambda: 1 / 0, name="canary-token-0123")
thread.start()
thread.join()
raise SystemError("canary-token-0123 at the end")
"""


def test_what_python_prints_is_redacted() -> None:
    """Lines that cannot be formatted, warnings, threads, destructors, the last traceback."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "canary" not in result.stdout + result.stderr
    assert "4155550100" not in result.stdout + result.stderr
    for said in ("could not be written", "warned", "ZeroDivisionError", "in del", "at the end"):
        assert said in result.stdout, said
    assert result.returncode == 1


def test_flask_run_shows_no_query() -> None:
    """Its server has log lines of its own."""
    record = logging.LogRecord(
        "werkzeug", 20, "", 1, "%s", ('"GET /x?From=1&n=Zoe HTTP/1.1" 200',), None
    )

    assert logs.without_query(record)
    assert record.getMessage() == '"GET /x HTTP/1.1" 200'


def test_stories_nest() -> None:
    """What is known stays known inside."""
    with logs.story(provider="twilio"), logs.story(stage="start"):
        assert '"provider": "twilio"' in written("x")
