"""Which number reaches which agent, and how a fault in numbers.toml is reported."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.line import Line, key_of
from bridge.settings import Settings
from bridge.toml_position import line_number
from providers import PROVIDERS
from providers.base import Call, Provider
from tests.conftest import ROOT, Bridge, Recording, environment, signed

LINES = """\
[default]
agent = "reception"

["+14155550100"]
agent = "support"
body = { department = "billing", vip = true }
deadline_s = 4
hold_message = "One moment please."
["+14155550100".sorry]
message = "We cannot take your call right now."
dial = "+14155550199"
caller_id = "+14155550100"
timeout_s = 30
voice = "Polly.Joanna"

["sip:sales@example.sip.twilio.com"]
agent = "sales"

["client:jenny"]
agent = "jenny"
"""


def settings(text: str = LINES, **changes: str) -> Settings:
    return Settings.from_env(environment(NUMBERS=text, **changes), PROVIDERS)


def line(number: str, text: str = LINES, **changes: str) -> Line:
    """Return the line of a number."""
    return settings(text, **changes).lines.of(Call("1", "+4930123456", number))


def faults(text: str, **changes: str) -> tuple[str, ...]:
    """Return what is wrong with a numbers.toml."""
    with pytest.raises(ConfigError) as caught:
        settings(text, **changes)
    return caught.value.faults


def fields(number: str) -> dict[str, str]:
    """Return the fields of a call to a number, for any carrier."""
    names = {"CallSid": "CA1", "CallUUID": "CA1", "AccountSid": "AC1"}
    return {**names, "From": "+4930123456", "To": number}


def test_number_reaches_its_agent_and_the_others_the_default(carrier: type[Provider]) -> None:
    """/start is asked for the agent of the line that was called."""
    written = "14155550100" if carrier.name == "plivo" else "+14155550100"
    for number, agent in ((written, "support"), ("+14155550177", "reception")):
        bridge = Bridge(env=environment(NUMBERS=LINES))
        bridge.ring(signed(carrier.name, fields(number)))
        assert [asked[0] for asked in bridge.start.asked] == [agent]


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("+14155550100", "14155550100"),
        ("14155550100", "+14155550100"),
        ("+14155550100", " +14155550100 "),
        ("911", "911"),
        ("sip:a@b.example", "sip:a@b.example"),
        ("sip:a@b.example", "a@B.Example"),
        ("a@b.example", "sip:a@b.example;transport=tls"),
        ("sip:+14155550100@b.example:5061", "sips:+14155550100@b.example:5061"),
        ("sip:a@b.example", "SIP:a@b.example:5060"),
        ("sip:a@b.example:5060", "a@b.example;transport=tls"),
        ("sip:a@b.example", "<sip:a@b.example:5060;transport=tls?x=1>"),
        ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8::1]:5060"),
        ("client:jenny", "client:jenny"),
    ],
)
def test_spellings_of_one_line(written: str, called: str) -> None:
    """Carriers write the same address in different ways."""
    assert line(called, f'["{written}"]\nagent = "mine"').agent == "mine"


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("+14155550100", "+141555501000"),
        ("+14155550100", "client:14155550100"),
        ("+14155550100", "sip:+14155550100@b.example"),
        ("sip:a@b.example", "sip:A@b.example"),
        ("client:jenny", "client:Jenny"),
        ("+14155550100", ""),
    ],
)
def test_other_lines_are_other_lines(written: str, called: str) -> None:
    """Nothing that only resembles a line reaches its agent."""
    assert line(called, f'["{written}"]\nagent = "mine"').agent == "my-agent"


def test_line_says_everything_about_its_calls() -> None:
    """Every key of the documented example is read."""
    support = line("+14155550100")

    assert support.agent == "support"
    assert support.body == {"department": "billing", "vip": True}
    assert support.deadline_s == 4.0
    assert support.hold.message == "One moment please."
    assert support.sorry.message == "We cannot take your call right now."
    assert support.sorry.dial == "+14155550199"
    assert support.sorry.caller_id == "+14155550100"
    assert support.sorry.timeout_s == 30
    assert support.sorry.voice == "Polly.Joanna"


def test_what_a_line_does_not_say_is_inherited() -> None:
    """From [default], wherever that stands in the file, and from the variables."""
    text = (
        '["+14155550100"]\nagent = "a"\n["+14155550100".sorry]\nmessage = "Own."\n'
        '[default]\ndeadline_s = 3\n[default.sorry]\ndial = "+14155550142"\n'
    )
    one = line("+14155550100", text, HOLD_MESSAGE="Held.", SORRY_TIMEOUT_S="33")

    assert (one.agent, one.deadline_s, one.hold.message) == ("a", 3.0, "Held.")
    assert (one.sorry.message, one.sorry.dial) == ("Own.", "+14155550142")
    assert one.sorry.timeout_s == 33
    assert line("+1999999999", text).agent == "my-agent"
    none = line("+14155550100", text + '["+14155550177"]\n[\'+14155550177\'.sorry]\ndial = ""\n')
    assert none.sorry.dial == "+14155550142"


def test_lines_inherit_key_by_key() -> None:
    """A line's `body` takes the place of [default]'s; `accept`, voice and places for holds stay."""
    text = (
        '[default]\naccept = "busy"\nbody = { a = 1 }\n[default.sorry]\nvoice = "woman"\n'
        '["+14155550100"]\nbody = { b = 2 }\nhold_message = "Wait."\n["+14155550101"]\n'
        'accept = "answer"\n'
    )
    one, other = line("+14155550100", text, HOLD_ATTEMPTS="7"), line("+14155550101", text)

    assert (one.body, one.accept, one.sorry.voice) == ({"b": 2}, "busy", "woman")
    assert one.hold.attempts == 7
    assert (other.body, other.accept) == ({"a": 1}, "answer")


def test_lines_that_turn_callers_away_need_no_agent() -> None:
    """Neither in a line nor in [default]; nor a key."""
    busy = settings('[default]\naccept = "busy"', PIPECAT_AGENT="", PIPECAT_PUBLIC_KEY="")

    assert busy.lines.default.accept == "busy"
    one = '["+14155550100"]\naccept = "busy"\n[default]\nwebsocket_auth = "none"\n'
    env = {"PIPECAT_ORGANIZATION": "o", "PIPECAT_PUBLIC_KEY": ""}
    assert settings(one + '["+14155550102"]\nwebsocket_auth = "token"\naccept = "busy"\n', **env)


def test_text_of_a_variable_may_have_its_line_ends_written_out() -> None:
    """Where a variable holds no line, some platforms write a backslash and an n."""
    call = Call("1", "", "+14155550100")

    assert settings(LINES.replace("\n", "\\n")).lines.of(call).agent == "support"
    assert settings("\ufeff" + LINES).lines.of(call).agent == "support"
    one_line = 'default.sorry.message = "One.\\nTwo."'
    assert settings(one_line).lines.default.sorry.message == "One.\nTwo."


def test_inherited_human_can_be_taken_away() -> None:
    """An empty dial target dials nobody."""
    text = '[default.sorry]\ndial = "+14155550142"\n["+14155550177".sorry]\ndial = ""\n'

    assert line("+14155550177", text).sorry.dial is None


def test_lines_come_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NUMBERS_FILE names it; without that, numbers.toml where the bridge is started."""
    (tmp_path / "numbers.toml").write_bytes(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    path = str(tmp_path / "numbers.toml")
    call = Call("1", "", "+14155550100")

    named = Settings.from_env(environment(NUMBERS_FILE=path), PROVIDERS)
    assert named.lines.of(call).agent == "support"
    monkeypatch.chdir(tmp_path)
    found = Settings.from_env(environment(NUMBERS=""), PROVIDERS)
    assert found.lines.of(call).agent == "support"
    told = Settings.from_env(environment(NUMBERS='[default]\nagent = "x"'), PROVIDERS)
    assert told.lines.of(call).agent == "x"


def test_without_a_file_one_agent_answers_every_number() -> None:
    """PIPECAT_AGENT is enough."""
    lines = Settings.from_env(environment(NUMBERS=""), PROVIDERS).lines

    assert lines.of(Call("1", "", "+14155550100")).agent == "my-agent"


def test_outbound_calls_belong_to_the_number_that_calls() -> None:
    """The side of the call that is ours decides."""
    call = Call("1", "+14155550100", "+4930123456", "outbound")

    assert settings().lines.of(call).agent == "support"


def test_voice_is_no_fault_where_no_carrier_is_set() -> None:
    """What is missing is a carrier's secret, and that is said alone."""
    secrets = {p.secret_variable: "" for p in PROVIDERS}
    [fault] = faults('[default.sorry]\nvoice = "Polly.Joanna"', **secrets)

    assert "no carrier is configured" in fault


def test_example_file_is_good() -> None:
    """numbers.example.toml can be copied as it is."""
    text = (ROOT / "numbers.example.toml").read_text("utf-8")
    lines = settings(text, SALES_PUBLIC_KEY="pk_test_sales").lines

    assert len(lines.listed) >= 3


FAULTS = [
    # what is added to the file, at which line, and what the message says besides
    ('["+14155550100"]\nagnet = "a"', 2, "agnet is unknown: there are accept, agent"),
    ('["+14155550100"]\nagent = 7', 2, "agent is 7: give text in quotes"),
    ('["+14155550100"]\nagent = ""', 2, "agent is ''"),
    ('["+14155550100"]\ndeadline_s = "4"', 2, "deadline_s is '4': give seconds"),
    ('["+14155550100"]\ndeadline_s = 15', 2, "deadline_s is 15: give seconds"),
    ('["+14155550100"]\ndeadline_s = true', 2, "deadline_s is True"),
    ('["+14155550100"]\ndeadline_s = nan', 2, "deadline_s is nan"),
    ('["+14155550100"]\naccept = "no"', 2, 'give "answer" or "reject" or "busy"'),
    ('["+14155550100"]\nwebsocket_auth = "None"', 2, 'give "token" or "none"'),
    ('["+14155550100"]\nbody = "x"', 2, "give a table"),
    ('["+14155550100"]\nbody = { from = "x" }', 2, "'from', which the bridge fills in itself"),
    ('["+14155550100"]\nbody = { "a\\nb" = 1 }', 2, "give one that can be printed"),
    ('["+14155550100"]\nbody = { a = "\\u001b" }', 2, "holds a control character"),
    ('["+14155550100"]\nhold_message = "\\u0000"', 2, "holds a control character"),
    ('["+14155550100".sorry]\ndial = "+14155550199x"', 2, "give a number as"),
    ('["+14155550100".sorry]\ntimeout_s = 4', 2, "give a whole number from 5 to 120"),
    ('# a\u2028b\u0085c\n["+14155550100"]\nagent = 7', 3, "agent is 7"),
    ('["+14155550100"]\nbody = { at = 2026-01-01 }', 2, "JSON does not know: put it in quotes"),
    ('["+14155550100"]\nbody = { a = [{ b = inf }] }', 2, "JSON does not know"),
    (f'["+14155550100"]\nhold_message = "{"x" * 1001}"', 2, "has 1001 characters: 1000 are"),
    (f'["+14155550100".sorry]\nmessage = "{"x" * 1001}"', 2, "has 1001 characters"),
    ('["+14155550100".sorry]\n\ndial = "4155550199"', 3, 'give a number as "+14155550199"'),
    ('["+14155550100".sorry]\ndial = 14155550199', 2, "sorry.dial is 14155550199"),
    ('["+14155550100".sorry]\ncaller_id = "anonymous"', 2, "give a number as"),
    ('["+14155550100".sorry]\ntimeout_s = 121', 2, "give a whole number from 5 to 120"),
    ('["+14155550100".sorry]\ntimeout_s = 20.0', 2, "give a whole number from 5 to 120"),
    ('["+14155550100".sorry]\nvoice = "Joanna"', 2, '"Polly.Joanna" is one'),
    ('["+14155550100".sorry]\nvoise = "woman"', 2, "voise is unknown: there are caller_id"),
    ('["+14155550100"]\nsorry = "no"', 2, "sorry is 'no': it is a table"),
    ('["555-0100"]\nagent = "a"', 1, 'write "+14155550100"'),
    ('[Default]\nagent = "a"', 1, '"client:name" or default'),
    ('["+1 415 555 0100"]\nagent = "a"', 1, "is no number"),
    ('agent = "a"', 1, "agent is no number"),
    ('["+14155550100"]\nagent = "a"\n[14155550100]\nagent = "b"', 3, "the same number"),
    ("[default]\n\n\nagnet = 1", 4, "default.agnet is unknown"),
    ('["+14155550100"]\npublic_key = "pk_test"', 2, "names no variable"),
    ('["+14155550100"]\npublic_key = "NO_SUCH_KEY"', 2, "NO_SUCH_KEY, which is not set"),
]


@pytest.mark.parametrize(("text", "where", "problem"), FAULTS)
def test_fault_names_file_line_and_cure(text: str, where: int, problem: str) -> None:
    """Whoever reads it knows where to look and what to write, and the process does not start."""
    [fault] = faults(text)

    assert fault.startswith(f"NUMBERS line {where}: ")
    assert problem in fault


def test_every_fault_is_named_at_once() -> None:
    """Those of the file together with those of the variables."""
    text = '[default]\nagnet = 1\n["+14155550100"]\ndeadline_s = 0\n["x"]\n'
    found = faults(text, START_DEADLINE_S="soon", SORRY_DIAL="x")

    assert len(found) == 5


def test_text_that_is_no_toml_says_where() -> None:
    """The usual one is a number without quotes."""
    [fault] = faults("[default]\n[+14155550100]\n")

    assert fault.startswith("NUMBERS is no TOML")
    assert "line 2" in fault
    assert '["+14155550100"]' in fault
    assert "quotes" not in faults("[default]\n[default]\n")[0]


@pytest.mark.parametrize(
    "text", ["[default]\nbody = {x = " + "9" * 5000 + "}", "a = " + "[" * 3000]
)
def test_text_that_breaks_the_parser_is_a_fault(text: str) -> None:
    """No traceback, whatever is in the file."""
    assert faults(text)[0].startswith("NUMBERS ")


def test_many_faults_are_named_in_time() -> None:
    """Looking up a line takes a moment; the first ones are enough to begin with."""
    text = "\n".join(f'["+1415555{n:04}"]\nagent = {n}' for n in range(300))
    found = faults(text)

    assert found[0].startswith("NUMBERS line 2: ")
    assert found[-1].startswith("NUMBERS line ?: ")
    assert len(found) >= 300


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or no UTF-8."""
    (tmp_path / "latin.toml").write_bytes(b'[default]\nagent = "\xe9"')
    for name, reason in (("gone", "No such file"), ("", "directory"), ("latin.toml", "UTF-8")):
        with pytest.raises(ConfigError) as caught:
            Settings.from_env(environment(NUMBERS_FILE=str(tmp_path / name)), PROVIDERS)
        [fault] = caught.value.faults
        assert str(tmp_path) in fault
        assert reason in fault


def test_file_and_text_are_one_too_many(tmp_path: Path) -> None:
    """It could be either: neither is taken."""
    assert "NUMBERS and NUMBERS_FILE are both set" in faults(LINES, NUMBERS_FILE="x")[0]


def test_line_without_an_agent_is_named() -> None:
    """Unless it turns callers away."""
    text = '["+14155550100"]\ndeadline_s = 3\n["+14155550101"]\naccept = "busy"\n'
    [fault] = faults(text, PIPECAT_AGENT="")

    assert fault.startswith("NUMBERS line 1: ")
    assert "has no agent" in fault


def test_number_without_a_line_gets_the_apology_when_nobody_is_named_for_it() -> None:
    """A caller hears words, and the log says why."""
    env = environment(NUMBERS='["+14155550100"]\nagent = "a"', PIPECAT_AGENT="")
    bridge = Bridge(env=env)
    response = bridge.ring(signed("twilio", fields("+14155550177")))

    assert "Sorry" in response.text
    assert bridge.start.asked == []
    assert "no line has this number" in bridge.ledger.row["reason"]


@pytest.mark.parametrize("size", [1300, 3000])
def test_body_over_the_limit_of_any_enabled_carrier_stops_the_start(
    size: int, carrier: type[Provider]
) -> None:
    """The message names the carrier and what does not fit; only carriers with a secret count."""
    others = {p.secret_variable: "" for p in PROVIDERS if p is not carrier}
    document = ", ".join(f'k{n} = "{"&" * 480}"' for n in range(30))
    if carrier.name == "twilio":
        [fault] = faults(f"[default]\nbody = {{ {document} }}", **others)
        assert "64000 bytes of all" in fault
    many = ", ".join(f'k{n} = "{"x" * 90}"' for n in range(size // 100))
    parameter = f'big = "{"x" * 500}"' if carrier.name == "twilio" else many
    [fault] = faults(f"[default]\nbody = {{ {parameter} }}", **others)

    assert carrier.name in fault
    assert fault.startswith("NUMBERS line 2: default.body ")
    assert "is too long" in fault


def test_body_that_fits_a_carrier_that_is_enabled_alone_is_good() -> None:
    """Twilio's limit is each value's, Plivo's the whole URL's."""
    values = ", ".join(f'k{n} = "{"x" * 400}"' for n in range(10))
    text = f"[default]\nbody = {{ {values} }}"

    assert settings(text, PLIVO_AUTH_TOKEN="", TELNYX_PUBLIC_KEY="")
    assert "plivo" in faults(text)[0]


def test_line_may_be_another_organisations() -> None:
    """`public_key` names the variable that holds its key."""
    text = '["+14155550100"]\npublic_key = "SALES_PUBLIC_KEY"\n'
    key = {"SALES_PUBLIC_KEY": "pk_test_sales"}

    assert line("+14155550100", text, **key).public_key == "pk_test_sales"
    assert line("+1999999999", text, **key).public_key == "pk_test_canary"
    assert "pk_test_sales" not in repr(settings(text, **key))
    for number, asked_with in (
        ("+14155550100", "pk_test_sales"),
        ("+1999999999", "pk_test_canary"),
    ):
        bridge = Bridge(env=environment(NUMBERS=text, **key))
        bridge.ring(signed("twilio", fields(number)))
        assert [asked.public_key for asked in bridge.start.lines] == [asked_with]


def test_key_in_the_file_is_not_repeated() -> None:
    """It belongs into a variable; the message does not carry it on."""
    for name, value in (("pk_canary", ""), ("SALES_PUBLIC_KEY", "sk_canary")):
        found = faults(f'[default]\npublic_key = "{name}"', SALES_PUBLIC_KEY=value)
        assert "canary" not in "".join(found)


def test_public_key_is_needed_by_lines_that_ask_for_tokens_only() -> None:
    """A bridge whose lines all have their own needs none besides."""
    text = '[default]\npublic_key = "SALES_PUBLIC_KEY"\n["+14155550100"]\naccept = "busy"\n'
    own = settings(text, PIPECAT_PUBLIC_KEY="", SALES_PUBLIC_KEY="pk_test_sales")

    assert own.lines.default.public_key == "pk_test_sales"
    assert "PIPECAT_PUBLIC_KEY is not set" in faults(LINES, PIPECAT_PUBLIC_KEY="")[0]


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6)
values = st.one_of(st.integers(-9, 9), st.booleans(), keys)


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=3), max_size=4), st.data())
def test_line_numbers_are_those_of_the_file(content: dict[str, Any], data: Any) -> None:
    """Any tables, keys and values, some over several lines: the line found holds the key."""
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for table, entries in content.items():
        lines.append(f"[{quoted(table)}]")
        expected[(table,)] = len(lines)
        for name, value in entries.items():
            text = str(value).lower() if isinstance(value, bool | int) else quoted(value)
            if data.draw(st.booleans()):
                lines += [f"{quoted(name)} = [", "  # ]", f"  {text},", "]"]
            else:
                lines.append(f"{quoted(name)} = {text}")
            expected[(table, name)] = len(lines)
    text = "\n".join(lines)
    tomllib.loads(text)

    for path, number in expected.items():
        assert line_number(text, path) == number


def quoted(text: str) -> str:
    """Return a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.text(max_size=20))
def test_any_address_has_one_spelling(address: str) -> None:
    """No carrier's text is too strange, and a spelling is its own spelling."""
    key = key_of(address)

    assert key_of(key) == key


def test_deadline_of_the_line_holds(carrier: type[Provider], recorded: Recording) -> None:
    """/start gets the line's own seconds, counted from the webhook."""
    waits = []
    for seconds in (2, 14):
        bridge = Bridge(env=environment(NUMBERS=f"[default]\ndeadline_s = {seconds}"))
        bridge.ring(recorded)
        waits.append(bridge.start.asked[0][2])

    assert 11 < waits[1] - waits[0] < 13.5
