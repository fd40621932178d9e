"""flask --app app explain-signature names the difference that makes a signature hold."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from click.testing import Result

from app import create_app
from bridge.explain import rest, urls
from bridge.explain.search import MOST_FOUND, MOST_TRIES
from providers.base import Provider
from tests import record_webhooks
from tests.conftest import (
    BY_NAME,
    FIRST_OF,
    PUBLIC_URL,
    ROOT,
    FakeLedger,
    FakeStart,
    Recording,
    environment,
    signed,
)

SIGN_THE_URL = sorted(name for name in BY_NAME if "GET" in BY_NAME[name].methods)
SIGN_THE_MOMENT = sorted(name for name in BY_NAME if BY_NAME[name].timestamp_header)
CANARY = "canary"
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")


@dataclass
class Told:
    """What the command printed."""

    exit_code: int
    output: str

    @property
    def kinds(self) -> list[list[str]]:
        """The kinds of the differences of every explanation."""
        explanations = json.loads(self.output)["explanations"]
        return [[each["kind"] for each in one["differences"]] for one in explanations]


def explain(
    folder: Path, recording: Recording, *options: str, env: dict[str, str] | None = None
) -> Told:
    """Run the command on a recording, at the moment of the recording unless told otherwise."""
    (folder / "body").write_bytes(recording.body.encode())
    arguments = ["--provider", recording.provider, "--body-file", str(folder / "body")]
    for name, value in recording.headers.items():
        arguments += ["--header", f"{name}: {value}"]
    if "--at" not in options:
        arguments += ["--at", str(recording.received_at)]
    if "--url" not in options:
        arguments += ["--url", PUBLIC_URL + recording.target]
    if "--method" not in options:
        arguments += ["--method", recording.method]
    result = run(*arguments, *options, env=env)
    return Told(result.exit_code, result.output)


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run the command."""
    app = create_app(env or environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]
    return app.test_cli_runner().invoke(args=["explain-signature", *arguments])


def filled_in(text: str, name: str = "") -> str:
    """Return a text of the table of differences with its placeholders filled in."""
    return re.sub(r"\bB\b", "https://b.example", text).replace("/P/", f"/{name}/")


def signed_for(provider: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Return a webhook that the carrier's SDK signed for this URL."""
    monkeypatch.setattr(record_webhooks, "PUBLIC_URL", "")
    form = {BY_NAME[provider].call_id_field: "CA1", "From": "+14155550100", "CallerName": CANARY}
    return signed(provider, form, target=url)


def test_a_good_webhook_verifies(any_recorded: Recording, tmp_path: Path) -> None:
    """Every recording is signed, the label of its secret is named, and the exit code is 0."""
    told = explain(tmp_path, any_recorded)

    assert told.exit_code == 0
    label = BY_NAME[any_recorded.provider].secret_variable
    assert told.output.startswith(f"verifies: signed with {label}; checked ")
    assert "would refuse" not in told.output


# B is https://b.example, P the provider.
DIFFERENCES = [
    # kind, what the carrier signed, what is looked at, PUBLIC_URL, words of the answer
    ("scheme", "http://b.example/P/voice", "B/P/voice", "B", "signed http://"),
    ("scheme", "B/P/voice", "http://b.example/P/voice", "http://b.example", "set PUBLIC_URL to B"),
    ("scheme", "B/P/voice", "http://b.example/P/voice", "B", "PUBLIC_URL has https:// already"),
    ("port", "B:8443/P/voice", "B/P/voice", "B", "with the port :8443"),
    ("port", "B:7777/P/voice", "B/P/voice", "B:7777", "with the port :7777"),
    ("host", "B/P/voice", "https://10.0.0.7/P/voice", "B", "the host b.example (PUBLIC_URL)"),
    ("host", "B/P/voice", "https://b.EXAMPLE/P/voice", "https://c.example", "lower case"),
    ("slash", "B/P/voice/", "B/P/voice", "B", "with a trailing slash"),
    ("slash", "B/P/voice", "B/P/voice/", "B", "without the trailing slash"),
    ("prefix", "B/one/P/voice", "B/P/voice", "B/one", "PUBLIC_URL's prefix /one"),
    ("prefix", "B/P/voice", "B/one/P/voice", "B/one", "without the prefix /one"),
    ("query", "B/P/voice?held=2", "B/P/voice", "B", "your proxy drops the query"),
    ("query", "B/P/voice", "B/P/voice?x=canary", "B", "without its query"),
    ("path encoding", "B/P/a%20b/voice", "B/P/a b/voice", "B", "path percent-encoded"),
    ("path encoding", "B/P/%40a/voice", "B/P/@a/voice", "B", "path percent-encoded"),
    ("path encoding", "B/P/@a/voice", "B/P/%40a/voice", "B", "path decoded"),
    ("path encoding", "B/P/@a%20b/voice", "B/P/%40a%20b/voice", "B", "but for : @ '"),
]


@pytest.mark.parametrize("name", SIGN_THE_URL)
@pytest.mark.parametrize(
    ("kind", "dialled", "looked_at", "public_url", "words"),
    DIFFERENCES,
    ids=[f"{row[0]}-{n}" for n, row in enumerate(DIFFERENCES)],
)
def test_a_difference_in_the_url_is_named(
    name: str,
    kind: str,
    dialled: str,
    looked_at: str,
    public_url: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the SDK signed and what is looked at differ in one thing, and that thing is named."""
    recording = signed_for(name, filled_in(dialled, name), monkeypatch)
    env = environment(PUBLIC_URL=filled_in(public_url))
    options = ("--url", filled_in(looked_at, name))

    told = explain(tmp_path, recording, *options, env=env)
    as_json = explain(tmp_path, recording, *options, "--json", env=env)

    assert told.exit_code == as_json.exit_code == 1
    assert told.output.startswith("does not verify: signature does not match")
    assert filled_in(words) in told.output
    assert [kind] in as_json.kinds
    assert CANARY not in told.output + as_json.output


@pytest.mark.parametrize("added", [":8443", ":443"])
def test_a_port_that_somebody_added_is_named(
    added: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the carrier signs the port, a proxy that writes one breaks the signature."""
    refused = []
    for name in SIGN_THE_URL:
        recording = signed_for(name, f"https://b.example/{name}/voice", monkeypatch)
        url = f"https://b.example{added}/{name}/voice"
        told = explain(tmp_path, recording, "--url", url, "--json")
        refused += [told] if told.exit_code else []

    assert refused
    assert all(told.kinds == [["port"]] for told in refused)


@pytest.mark.parametrize(
    ("dialled", "looked_at"),
    [
        ("?a=%2Fb%3Ac%40d%27e%C3%A9", "?a=/b:c@d'eé"),
        ("?a=/b:c@d'e", "?a=%2Fb%3Ac%40d%27e"),
        ("?a=b+c", "?a=b%20c"),
        ("?a=b%20c", "?a=b+c"),
        ("?a=/b%20c", "?a=%2Fb+c"),
        ("?a=b%20c%2F", "?a=b c/"),
        ("?a=b+c%2F", "?a=b c/"),
        ("?a=(b)+c", "?a=(b)%20c"),
        ("?a=(b)%20c", "?a=(b)+c"),
    ],
)
def test_a_query_that_was_written_anew_is_named(
    dialled: str, looked_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frameworks decode %2F %3A %40 %27 %C3%A9, and blanks are written in two ways."""
    [name] = [n for n in SIGN_THE_URL if BY_NAME[n].longest_parameter]  # it signs the encoded one
    url = f"{PUBLIC_URL}/{name}/voice"
    recording = signed_for(name, url + dialled, monkeypatch)

    told = explain(tmp_path, recording, "--url", url + looked_at, "--json")

    assert ["query encoding"] in told.kinds


def test_an_ampersand_in_a_value_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoded query is shown with the names that were given, not with pieces of its values."""
    [name] = [n for n in SIGN_THE_URL if BY_NAME[n].longest_parameter]
    url = f"{PUBLIC_URL}/{name}/voice?a=%26{CANARY}"
    recording = signed_for(name, unquote(url), monkeypatch)

    told = explain(tmp_path, recording, "--url", url)

    assert "query decoded" in told.output
    assert "?a=..." in told.output
    assert CANARY not in told.output


def test_another_secret_is_named_by_its_variable(carrier: type[Provider], tmp_path: Path) -> None:
    """The variable whose secret signed it is named; no secret is shown."""
    recording = FIRST_OF[carrier.name]
    env = environment(**{carrier.secret_variable: other_secret(carrier.name)})
    env["OLD_SECRET"] = recording.secret

    told = explain(tmp_path, recording, "--secret-variable", "OLD_SECRET", env=env)
    without = explain(tmp_path, recording, env=env)

    assert told.exit_code == without.exit_code == 1
    assert f"signed with the secret in OLD_SECRET, not with one in {carrier.secret_variable}" in (
        told.output
    )
    assert "nothing that was tried makes it verify" in without.output
    assert "OLD_SECRET" not in without.output
    for value in (recording.secret, env[carrier.secret_variable]):
        assert value not in told.output + without.output


def other_secret(provider: str) -> str:
    """Return a usable secret that signed nothing: a public key where the carrier has those."""
    if provider in SIGN_THE_MOMENT:
        return "iGtB96aTJO4SmJPzRPqW20Zc10AWCiN8OQLE5Tg330U="
    return "secret-that-signed-nothing-at-all"


@pytest.mark.parametrize("name", SIGN_THE_MOMENT)
@pytest.mark.parametrize(("off_s", "words"), [(4000, "ahead"), (-4000, "4000 s behind")])
def test_a_wrong_clock_is_named(name: str, off_s: int, words: str, tmp_path: Path) -> None:
    """A carrier that signs the moment: how far the clock is off, and which way."""
    recording = FIRST_OF[name]
    at = str(recording.received_at + off_s)

    told = explain(tmp_path, recording, "--at", at)
    as_json = explain(tmp_path, recording, "--at", at, "--json")

    assert told.exit_code == 1
    assert "timestamp is 4000 s in the" in told.output
    assert "signed it 4000 s" in told.output
    assert words in told.output
    assert as_json.kinds == [["clock"]]


@pytest.mark.parametrize("name", SIGN_THE_URL)
@pytest.mark.parametrize(
    ("looked_at", "header"),
    [
        ("https://10.0.0.7", "Host: c.example"),
        ("https://10.0.0.7", "X-Forwarded-Host: c.example"),
        ("https://user:canary@c.example", "X-Any: thing"),
    ],
)
def test_another_host_is_named(
    name: str, looked_at: str, header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host that was dialled may be in a header; a user name is no part of it."""
    recording = signed_for(name, f"https://c.example/{name}/voice", monkeypatch)
    options = ("--url", f"{looked_at}/{name}/voice", "--header", header)

    told = explain(tmp_path, recording, *options, "--json")

    assert ["host"] in told.kinds
    assert CANARY not in told.output


@pytest.mark.parametrize(
    ("sent", "saved", "words"),
    [
        ("From=1&To=2\n", "From=1&To=2", "with a line break at its end"),
        ("From=1\n&To=2", "From=1\r\n&To=2", "with LF where it has CRLF"),
        ("From=1\r\n&To=2", "From=1\n&To=2", "with CRLF where it has LF"),
        ("", "From=1&To=2", "an empty body"),
    ],
)
@pytest.mark.parametrize("name", SIGN_THE_MOMENT)
def test_the_ends_of_lines_are_named(
    name: str, sent: str, saved: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A carrier that signs bytes signs every one of them."""
    monkeypatch.setattr(record_webhooks, "urlencode", lambda _: sent)
    recording = replace(signed(name, {"From": "1"}), body=saved)

    told = explain(tmp_path, recording)

    assert words in told.output


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda body: body + "\n", "without the line break at its end"),
        (lambda body: body + "\r\n", "without the line break at its end"),
        (lambda body: "", None),
    ],
    ids=["LF", "CRLF", "lost"],
)
def test_a_body_that_an_editor_changed_is_named(
    carrier: type[Provider], changed: Any, words: str | None, tmp_path: Path
) -> None:
    """A line break at the end is not what the carrier sent; a lost body cannot be guessed."""
    recording = FIRST_OF[carrier.name]

    told = explain(tmp_path, replace(recording, body=changed(recording.body)))

    assert told.exit_code == 1
    assert (words or "nothing that was tried makes it verify") in told.output
    assert "a body that is not byte for byte what came" in told.output or words


def test_another_method_is_named(tmp_path: Path) -> None:
    """A POST that is looked at as a GET loses its form, where the carrier signs it by method."""
    told = [explain(tmp_path, FIRST_OF[n], "--method", "GET", "--json") for n in sorted(BY_NAME)]
    refused = [one for one in told if one.exit_code]

    assert len(refused) >= 2
    assert all(["method"] in one.kinds for one in refused)


@pytest.mark.parametrize("name", SIGN_THE_MOMENT)
def test_a_method_that_the_bridge_refuses_does_not_verify(name: str, tmp_path: Path) -> None:
    """A signature over nothing proves nothing, although it holds: POST is named as the cure."""
    told = explain(tmp_path, FIRST_OF[name], "--method", "GET")

    assert told.exit_code == 1
    assert "a GET is answered with 405" in told.output
    assert "the carrier sent a POST, not a GET" in told.output


@pytest.mark.parametrize("name", SIGN_THE_URL)
def test_a_wrong_content_type_is_named(name: str, tmp_path: Path) -> None:
    """A form that is not called one is not read as one."""
    recording = FIRST_OF[name]
    headers = {**recording.headers, "Content-Type": "text/plain"}

    told = explain(tmp_path, replace(recording, headers=headers), "--json")

    assert told.kinds == [["content type"]]


@pytest.mark.parametrize("name", SIGN_THE_URL)
def test_two_differences_at_once_are_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved body and a wrong scheme: neither alone helps, both do."""
    recording = signed_for(name, f"http://bridge.example.com/{name}/voice", monkeypatch)
    recording = replace(recording, body=recording.body + "\n")
    url = f"{PUBLIC_URL}/{name}/voice"

    told = explain(tmp_path, recording, "--url", url, "--json")

    assert sorted(told.kinds[0]) == ["body", "scheme"]


@pytest.mark.parametrize("name", SIGN_THE_URL)
def test_public_url_that_is_not_what_is_dialled_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It verifies for the URL at the carrier, but the bridge would check another one."""
    url = f"https://b.example/one/{name}/voice"
    recording = signed_for(name, url, monkeypatch)

    told = explain(tmp_path, recording, "--url", url)

    assert told.exit_code == 0
    assert f"but the bridge checks {PUBLIC_URL}/{name}/voice, and would refuse it" in told.output


def test_a_missing_header_is_named(carrier: type[Provider], tmp_path: Path) -> None:
    """Without its signature a request is nobody's."""
    told = explain(tmp_path, replace(FIRST_OF[carrier.name], headers={}))

    assert told.exit_code == 1
    assert re.search(r"headers? \S+ .*(missing)", told.output)
    assert "nothing was tried: give that header as it came, --header" in told.output


def test_the_voice_route_and_now_are_the_defaults(carrier: type[Provider]) -> None:
    """--provider alone looks at PUBLIC_URL and the voice route."""
    result = run("--provider", carrier.name)

    assert result.exit_code == 1
    assert f"checked POST {PUBLIC_URL}/{carrier.name}/voice" in result.output


def test_the_body_may_come_from_standard_input(recorded: Recording) -> None:
    """--body-file - reads the bytes that are piped in."""
    app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]
    headers = [f"{name}: {value}" for name, value in recorded.headers.items()]
    options = [option for header in headers for option in ("--header", header)]
    moment = ["--at", "2023-11-14T22:13:20Z"]
    arguments = ["--provider", recorded.provider, "--body-file", "-", *options, *moment]

    result = app.test_cli_runner().invoke(
        args=["explain-signature", *arguments], input=recorded.body
    )

    assert recorded.received_at == 1_700_000_000
    assert result.exit_code == 0, result.output


def test_no_value_of_a_request_is_shown(carrier: type[Provider], tmp_path: Path) -> None:
    """Query, body, headers, user name and secrets may be pasted into a ticket's output unseen."""
    name = carrier.name
    env = environment(OTHER=other_secret(name))
    recording = replace(
        FIRST_OF[name],
        headers={**FIRST_OF[name].headers, "X-Canary": CANARY, "Authorization": CANARY},
        body=f"From={CANARY}",
    )
    url = f"https://user:{CANARY}@bridge.example.com/{name}/voice?token={CANARY}&b={CANARY}"
    for option in ((), ("--json",)):
        told = explain(
            tmp_path, recording, "--url", url, "--secret-variable", "OTHER", *option, env=env
        )
        assert CANARY not in told.output
        assert "?token=...&b=..." in told.output
        for secret in (env["OTHER"], env[carrier.secret_variable], "pk_test_canary"):
            assert secret not in told.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--secret-variable", "my canary secret"),
        ("--secret-variable", "CANARY"),
        ("--header", "canary"),
        ("--url", "canary"),
        ("--url", "https://[canary"),
    ],
)
def test_a_bad_option_is_not_repeated(option: str, value: str) -> None:
    """Who pastes a secret in the wrong place does not find it in the output."""
    result = run("--provider", SIGN_THE_URL[0], option, value)

    assert result.exit_code == 2
    assert CANARY not in result.output.lower()


def test_a_moment_is_checked() -> None:
    """--at says what it wants."""
    result = run("--provider", SIGN_THE_URL[0], "--at", "noon")

    assert result.exit_code == 2
    assert "give Unix seconds" in result.output


@pytest.mark.parametrize("name", SIGN_THE_MOMENT)
def test_a_variable_without_a_usable_secret_is_named(name: str) -> None:
    """What it holds is not shown."""
    env = environment(OTHER="canary")

    result = run("--provider", name, "--secret-variable", "OTHER", env=env)

    assert result.exit_code == 2
    assert f"what OTHER holds is no secret of {name}" in result.output
    assert CANARY not in result.output


def test_a_carrier_without_a_secret_says_so(carrier: type[Provider]) -> None:
    """Which variable enables it."""
    env = environment(**{carrier.secret_variable: ""})

    result = run("--provider", carrier.name, env=env)

    assert result.exit_code == 2
    assert f"set {carrier.secret_variable}" in result.output


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much could be different, it ends, and names a handful of explanations at most."""
    name = SIGN_THE_URL[0]
    recording = replace(FIRST_OF[name], body=urlencode({"From": "x" * 100}))
    options = [option for n in range(60) for option in ("--secret-variable", f"S{n}")]
    env = environment(**{f"S{n}": f"secret-number-{n}-of-many" for n in range(60)})

    told = explain(tmp_path, recording, *options, "--json", env=env)

    answer = json.loads(told.output)
    assert answer["tries"] <= MOST_TRIES
    assert len(answer["explanations"]) <= MOST_FOUND


def test_options_are_documented() -> None:
    """docs/troubleshooting.md has every option of the command, and no other."""
    text = TROUBLESHOOTING.partition("## Why a webhook is refused")[2].partition("\n## ")[0]
    app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]
    command = app.cli.commands["explain-signature"]

    documented = set(re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE))

    assert documented == {opt for p in command.params for opt in p.opts}


def test_every_kind_has_a_test() -> None:
    """Each kind of change is named in this file: none is without its promise."""
    code = "".join(Path(str(module.__file__)).read_text("utf-8") for module in (urls, rest))
    kinds = set(re.findall(r'Change\(\s+"([a-z ]+)"', code)) | {"query encoding", "path encoding"}
    tests = Path(__file__).read_text("utf-8")

    assert len(kinds) >= 12
    for kind in kinds - {"secret"}:
        assert f'"{kind}"' in tests
