"""flask --app app doctor says what is wrong before the first call finds out."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import jinja2
import pytest
import requests
from click.testing import Result
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from app import create_app
from bridge.deadline_http import DeadlineHttp, HttpAnswer
from bridge.doctor import config, documents, reach, sessions, storage
from bridge.doctor.checkup import Outside, Wanted, check_up
from bridge.doctor.findings import Finding, Report
from bridge.doctor.reach import Reply
from bridge.errors import ConfigError
from bridge.ledger import database
from bridge.settings import Settings
from gateway.agents import Agent
from gateway.faults import Faults
from providers import PROVIDERS
from providers.base import Provider
from tests.conftest import PUBLIC_URL, ROOT, FakeLedger, FakeStart, environment
from tests.misbehaving import Server, answer
from tests.running_gateway import AGENT, PUBLIC_KEY, Gateway, running

README = (ROOT / "README.md").read_text("utf-8")
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
NONE_OF_IT = Wanted(start=False, public_url=False)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """Return the URL of an empty ledger."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    database.prepare(database.read_url(url))
    return url


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with one agent that asks for tokens and one that does not."""
    with running(AGENT, Agent("open", "local-org")) as gateway:
        yield gateway


def settings(**changes: str) -> Settings:
    return Settings.from_env(environment(**changes), PROVIDERS)


def at(gateway: Gateway, ledger: str, **changes: str) -> dict[str, str]:
    """Return settings that lead to a gateway."""
    local = {
        "PIPECAT_START_URL": f"http://{gateway.origin}/v1/public/{{agent}}/start",
        "PIPECAT_PUBLIC_KEY": PUBLIC_KEY,
        "DATABASE_URL": ledger,
    }
    return environment(**(local | changes))


def doctor(env: dict[str, str], *options: str) -> Result:
    """Run the command."""
    app = create_app(env, FakeStart(), FakeLedger())  # type: ignore[arg-type]
    return app.test_cli_runner().invoke(args=["doctor", *options])


def levels(findings: Any) -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in findings]


class Quiet(WSGIRequestHandler):
    """Writes no access log."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(app: Callable[..., Any]) -> Iterator[str]:
    """Serve a WSGI app on loopback; yield its origin."""
    server = make_server("127.0.0.1", 0, app, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_a_good_bridge_is_said_to_be_good(gateway: Gateway, ledger: str) -> None:
    """No error, exit code 0, and a line for every check."""
    apps: list[Any] = []
    with serving(lambda *request: apps[0](*request)) as origin:
        env = environment(PUBLIC_URL=origin)
        apps.append(create_app(env, FakeStart(), FakeLedger()))  # type: ignore[arg-type]
        result = doctor(at(gateway, ledger, PUBLIC_URL=origin))

    assert result.exit_code == 0, result.output
    assert "0 errors, 2 warnings" in result.output  # loopback, and not Pipecat Cloud's
    for words in (
        "every number: agent my-agent, websocket_auth token",
        "asking starts no bot",
        f"wsUrl at {gateway.origin}, (a token of ",
        "this machine's clock is",
        f"{origin}/health answers ok",
        "sorry.xml",
        "the ledger is SQLite",
    ):
        assert words in result.stdout
    for provider in PROVIDERS:
        url = f"{origin}/{provider.name}/voice"
        assert f"{url} refuses what is not signed" in result.stdout
        assert f"{provider.name}: {url}, method POST -> {provider.console}" in result.stdout


def test_machines_get_json(gateway: Gateway, ledger: str) -> None:
    """The same findings, counted, each with its check, level, words and cure."""
    result = doctor(at(gateway, ledger), "--no-public-url", "--json")
    report = json.loads(result.stdout)

    assert report["errors"] == 0
    assert result.exit_code == 0
    assert {finding["check"] for finding in report["findings"]} == {
        "settings", "lines", "/start", "clock", "XML", "ledger", "tell the carrier"
    }  # fmt: skip
    assert all(
        finding.keys() == {"check", "level", "what", "cure"} for finding in report["findings"]
    )


def test_no_secret_is_shown(gateway: Gateway, ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a key, nor a carrier's secret, nor the token that /start handed out."""
    tokens = []
    ask = sessions.WatchedHttp.post

    def watched(*arguments: Any, **named: Any) -> HttpAnswer:
        answer = ask(*arguments, **named)
        tokens.append(json.loads(answer.body)["token"])
        return answer

    monkeypatch.setattr(sessions.WatchedHttp, "post", watched)
    env = at(gateway, ledger, PLIVO_AUTH_TOKEN="canary-short")
    for options in ((), ("--json",)):
        result = doctor(env, "--no-public-url", *options)
        for secret in (PUBLIC_KEY, *tokens, *(env[p.secret_variable] for p in PROVIDERS)):
            assert secret not in result.output
    assert len(tokens) == 2


@pytest.mark.parametrize(
    ("changes", "faults", "words"),
    [
        ({"PIPECAT_PUBLIC_KEY": "pk_canary"}, {}, ("status 401", "PIPECAT_PUBLIC_KEY")),
        ({"PIPECAT_AGENT": "nobody"}, {}, ("status 404", "PIPECAT_AGENT")),
        ({"PIPECAT_AGENT": "open"}, {}, ("garbage", 'websocket_auth = "token"')),
        ({}, {"start_status": 503}, ("unavailable", "status page")),
        ({}, {"start_garbage": True}, ("not JSON", "PIPECAT_START_URL")),
        ({}, {"start_delay_s": 5.0}, ("deadline", "START_DEADLINE_S")),
        ({"PIPECAT_START_URL": "http://127.0.0.1:9/{agent}"}, {}, ("unreachable", "firewall")),
    ],
    ids=["key", "agent", "no token", "down", "page", "slow", "unreachable"],
)
def test_what_is_wrong_with_start_is_named(
    changes: dict[str, str], faults: dict[str, Any], words: tuple[str, str], ledger: str
) -> None:
    """The reason and its cure, and exit code 1."""
    agents = (AGENT, Agent("open", "local-org"))
    with running(*agents, faults=Faults(**faults)) as gateway:
        env = at(gateway, ledger, START_DEADLINE_S="0.5", **changes)
        result = doctor(env, "--no-public-url")

    assert result.exit_code == 1
    [line] = [line for line in result.stdout.splitlines() if line.startswith("  error")]
    assert all(word in line for word in words), line
    assert "canary" not in result.output


def test_agent_at_capacity_is_a_warning(ledger: str) -> None:
    """Callers are held then: the settings are good."""
    with running(AGENT, faults=Faults(start_status=429)) as gateway:
        result = doctor(at(gateway, ledger, START_DEADLINE_S="0.5"), "--no-public-url")

    assert result.exit_code == 0
    assert "warning  agent my-agent (every number): at_capacity" in result.stdout
    assert "max_agents" in result.stdout


def test_words_of_the_server_are_redacted(ledger: str) -> None:
    """It may repeat what it was sent, or show what it would have handed out."""
    said = "tok eyJjYW5hcnki.Y2FuYXJ5 at wss://canary/ws and canary-twilio"
    with Server(answer(403, {"error": said, "code": "x"})) as server:
        env = environment(
            PIPECAT_START_URL=server.url, DATABASE_URL=ledger, TWILIO_AUTH_TOKEN="canary-twilio"
        )
        result = doctor(env, "--no-public-url")

    assert "status 403" in result.output
    assert "canary" not in result.output
    assert "eyJ" not in result.output


def test_every_agent_and_key_is_asked_once(gateway: Gateway, ledger: str) -> None:
    """Lines that share both are asked for together; those that answer without /start are not."""
    numbers = """
        [default]
        agent = "my-agent"
        ["+14155550101"]
        body = { a = 1 }
        ["+14155550102"]
        agent = "missing"
        ["+14155550103"]
        accept = "busy"
        ["+14155550104"]
        agent = "open"
        websocket_auth = "none"
        organization = "o"
    """
    env = at(gateway, ledger, NUMBERS=numbers)
    result = doctor(env, "--no-public-url", "--json")
    asked = [f["what"] for f in json.loads(result.stdout)["findings"] if f["check"] == "/start"]

    assert len(asked) == 3
    assert "agent my-agent (numbers not listed, +14155550101): 200 in" in asked[1]
    assert "agent missing (+14155550102): refused: status 404" in asked[2]
    for words in (
        "+14155550103: callers are turned away (busy)",
        "+14155550104: agent open, websocket_auth none",
        "websocket_auth is none for +14155550104: whoever knows",
    ):
        assert words in result.stdout


def test_transport_by_carrier_is_asked_for_every_carrier(gateway: Gateway, ledger: str) -> None:
    """Where the request differs by carrier, one carrier does not speak for all."""
    env = at(gateway, ledger, PIPECAT_TRANSPORT="{provider}")
    result = doctor(env, "--no-public-url", "--json")
    asked = [f for f in json.loads(result.stdout)["findings"] if f["check"] == "/start"]

    assert len(asked) == 1 + len(PROVIDERS)


def test_start_is_not_asked_when_nobody_wants_it(ledger: str) -> None:
    """--no-start and --no-public-url leave this machine alone with itself."""
    env = environment(PIPECAT_START_URL="http://127.0.0.1:9/{agent}", DATABASE_URL=ledger)
    result = doctor(env, "--no-start", "--no-public-url")

    assert result.exit_code == 0
    assert "asking" not in result.stdout
    assert "/health" not in result.stdout


@pytest.mark.parametrize(
    ("ahead_s", "level", "words"),
    [
        (2, "ok", "ahead of"),
        (-60, "warning", "60 s behind"),
        (-400, "error", "400 s behind"),
        (400, "error", "400 s ahead of"),
    ],
)
def test_the_clock_is_compared(ahead_s: int, level: str, words: str) -> None:
    """With the Date of /start's answer; the carriers that would refuse webhooks are named."""
    http = sessions.WatchedHttp("http://127.0.0.1:9", time.time)
    http.clock_ahead_s = float(ahead_s)
    [finding] = sessions.check_clock(settings(), http)
    strict = [provider.name for provider in PROVIDERS if provider.tolerance_s]

    assert finding.level == level
    assert words in finding.what
    assert strict
    assert all((name in finding.what) == (level == "error") for name in strict)


def test_the_clock_is_read_from_a_real_answer(gateway: Gateway, ledger: str) -> None:
    """Even one that refuses us says what time it is."""
    env = at(gateway, ledger, PIPECAT_AGENT="nobody")
    outside = Outside(clock=lambda: time.time() + 3600)
    report = check_up(PROVIDERS, env, wanted=Wanted(public_url=False), outside=outside)
    found = dict(report.groups)

    assert found["clock"][0].level == "error"
    assert re.search(r"(3599|360[0-9]) s ahead", found["clock"][0].what)


@pytest.mark.parametrize("date", ["", "soon", "Tue, 99 Nov 2026 00:00:00 GMT"])
def test_a_server_without_a_date_is_no_judge(date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compared then, and that is said."""
    answer = HttpAnswer(404, {"Date": date} if date else {}, b"")
    monkeypatch.setattr(DeadlineHttp, "post", lambda *_, **__: answer)
    http = sessions.WatchedHttp("http://127.0.0.1:9", time.time)
    http.post("", {}, {}, 0.0)
    [finding] = sessions.check_clock(settings(), http)

    assert finding.level == "note"


FORGERY_REFUSED = Reply(403)


def answers(reply: Reply, voice: Reply = FORGERY_REFUSED) -> reach.Ask:
    """Return an outside world: what /health answers, and what every voice route answers."""
    return lambda method, url, headers: reply if url.endswith("/health") else voice


def fails(error: requests.RequestException) -> reach.Ask:
    """Return an outside world that cannot be reached."""

    def ask(method: str, url: str, headers: Mapping[str, str]) -> Reply:
        raise error

    return ask


OK = Reply(200, b"ok")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (answers(Reply(200, b"<html>")), "another program"),
        (answers(Reply(404)), "the path prefix"),
        (answers(Reply(401)), "asks for a login"),
        (answers(Reply(502)), "the bridge behind it is not"),
        (answers(Reply(418)), "answers 418"),
        (
            answers(Reply(301, location="https://bridge.example.com/health/")),
            "adds a trailing slash",
        ),
        (answers(Reply(301, location="http://bridge.example.com/health")), "with http://"),
        (answers(Reply(302, location="https://www.example.com/health")), "www.example.com is the"),
        (answers(Reply(302, location="/login?next=canary")), "wrong path prefix"),
        (answers(OK, Reply(404)), "AUTH_TOKEN, or is an older start"),
        (answers(OK, Reply(405)), "not a bare 403"),
        (answers(OK, Reply(200, b"<Response/>")), "not a bare 403"),
        (answers(OK, Reply(403, b"blocked by a firewall")), "not a bare 403"),
        (answers(OK, Reply(308, location="/x/y")), "wrong path prefix"),
        (fails(requests.exceptions.SSLError("bad certificate")), "carriers refuse it too"),
        (fails(requests.ConnectTimeout("slow")), "a firewall drops"),
        (fails(requests.ConnectionError("Connection refused")), "nothing listens there"),
        (fails(requests.ConnectionError("Failed to resolve")), "the host's name is wrong"),
        (fails(requests.ConnectionError("reset")), "the way from here to there"),
    ],
)
def test_a_public_url_that_does_not_lead_here_is_an_error(ask: reach.Ask, words: str) -> None:
    """Each way of missing the bridge has its own cure."""
    found = list(reach.check_public_url(settings(TELNYX_PUBLIC_KEY=""), ask))
    errors = [finding for finding in found if finding.level == "error"]

    assert errors
    assert all(words in f"{finding.what} -> {finding.cure}" for finding in errors)
    assert "canary" not in str(errors)


def test_every_route_is_asked_although_one_breaks() -> None:
    """A connection that breaks at one carrier's route is that route's error alone."""
    outcomes: Iterator[Reply | requests.RequestException] = iter(
        [OK, requests.ConnectionError("reset"), FORGERY_REFUSED, Reply(200), FORGERY_REFUSED]
    )

    def ask(method: str, url: str, headers: Mapping[str, str]) -> Reply:
        outcome = next(outcomes)
        if isinstance(outcome, requests.RequestException):
            raise outcome
        return outcome

    found = list(reach.check_public_url(settings(), ask))

    assert [finding.level for finding in found] == ["ok", "error", "ok", "ok", "ok"]


def through(**changes: str) -> reach.Ask:
    """Return an outside world in which a bridge with these settings answers."""
    bridge = create_app(environment(**changes), FakeStart(), FakeLedger())  # type: ignore[arg-type]
    client = bridge.test_client()

    def ask(method: str, url: str, headers: Mapping[str, str]) -> Reply:
        response = client.open(urlsplit(url).path, method=method, headers=dict(headers))
        return Reply(response.status_code, response.data)

    return ask


def test_bridge_with_our_secrets_is_known_by_them() -> None:
    """It takes what they sign, and nobody else's; Telnyx alone can sign for Telnyx."""
    found = list(reach.check_public_url(settings(), through()))
    assert {finding.level for finding in found} == {"ok"}
    known = [finding.what for finding in found if "knows this" in finding.what]
    assert len(known) == 2

    for variable in ("TWILIO_AUTH_TOKEN", "PLIVO_AUTH_TOKEN"):
        other = through(**{variable: "the-token-of-another-bridge"})
        errors = [f for f in reach.check_public_url(settings(), other) if f.level == "error"]
        assert [variable in error.what for error in errors] == [True]
        assert "another bridge answers there" in errors[0].cure
    moved = through(PUBLIC_URL="https://elsewhere.example.com")
    assert any(f.level == "error" for f in reach.check_public_url(settings(), moved))


def test_real_servers_are_told_apart() -> None:
    """A redirect is not followed, a closed port is refused, a page is not read to its end."""

    @Request.application
    def moved(request: Request) -> Response:
        return Response(status=301, headers={"Location": f"{request.url}/"})

    @Request.application
    def page(_: Request) -> Response:
        return Response(b"x" * 10_000_000)

    with serving(moved) as origin:
        [redirect] = reach.check_public_url(settings(PUBLIC_URL=origin), reach.ask)
    with serving(page) as origin:
        [other] = reach.check_public_url(settings(PUBLIC_URL=origin), reach.ask)
    [closed] = reach.check_public_url(settings(PUBLIC_URL=origin), reach.ask)

    assert "adds a trailing slash" in redirect.cure
    assert "another program" in other.what
    assert "nothing listens there" in closed.cure


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "ok", PUBLIC_URL),
        ({"PUBLIC_URL": "http://b.example"}, "error", "has no TLS"),
        ({"PUBLIC_URL": "http://127.0.0.1:8000"}, "warning", "this machine only"),
        ({"PIPECAT_START_URL": "http://x.example/{agent}"}, "error", "without TLS"),
        ({"PIPECAT_START_URL": "https://x.example/{agent}"}, "warning", "not Pipecat Cloud's"),
        ({"PIPECAT_START_URL": "http://127.0.0.1:7860/start"}, "warning", "not Pipecat Cloud's"),
    ],
)
def test_urls_are_judged(changes: dict[str, str], level: str, words: str) -> None:
    """What travels in the clear is an error, unless it stays on this machine."""
    found = levels(config.check_urls(settings(**changes)))

    assert any(one == level and words in what for one, what in found), found
    assert level == "error" or not any(one == "error" for one, _ in found)


def test_an_agent_that_is_open_to_all_is_a_warning() -> None:
    """Which lines it answers is named."""
    changes = {"PIPECAT_WEBSOCKET_AUTH": "none", "PIPECAT_ORGANIZATION": "o"}
    found = levels(config.check_lines(settings(**changes)))

    assert ("ok", "every number: agent my-agent, websocket_auth none") in found
    assert any(level == "warning" and "none for every number" in what for level, what in found)
    assert not any(level == "warning" for level, _ in levels(config.check_lines(settings())))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"PIPECAT_REGION": "us-east"}, "has no effect"),
        (
            {
                "PIPECAT_REGION": "us-west",
                "PIPECAT_WEBSOCKET_AUTH": "none",
                "PIPECAT_ORGANIZATION": "o",
            },
            "pinned by hand for every number",
        ),
        ({"PIPECAT_WEBSOCKET_AUTH": "none", "PIPECAT_ORGANIZATION": "o"}, None),
        ({"NUMBERS": '["+14155550101"]\nregion = "us-east"'}, "has no effect"),
    ],
)
def test_a_region_by_hand_is_a_warning(changes: dict[str, str], words: str | None) -> None:
    """With tokens it does nothing; without, it must follow the agent by hand."""
    env = environment(**changes)
    found = levels(config.check_region(Settings.from_env(env, PROVIDERS), env))

    assert [level for level, _ in found] == ["warning"] * bool(words)
    assert not words or words in found[0][1]


def test_a_short_secret_is_a_warning(carrier: type[Provider]) -> None:
    """Each secret is named by its label; a public key cannot be too short."""
    good = environment()[carrier.secret_variable]
    if not carrier({carrier.secret_variable: good}).secret_lengths():
        assert not list(config.check_secrets(settings()))
        return
    found = list(config.check_secrets(settings(**{carrier.secret_variable: f"{good},canary"})))

    assert [finding.level for finding in found] == ["warning"]
    assert f"{carrier.secret_variable} 2 of 2 has fewer than 16" in found[0].what
    assert "canary" not in str(found)


def test_many_lines_are_not_all_listed() -> None:
    """The first twenty, and how many there are more."""
    numbers = "\n".join(f'["+1415555{n:04}"]' for n in range(50))
    found = list(config.check_lines(settings(NUMBERS=numbers)))

    assert len(found) == 21
    assert found[-1].what == "and 31 lines more"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<Response><Say></Response>", "is no XML"),
        ("<Answer/>", "begins with <Answer>"),
        ("<Response>{{ nobody_fills_this }}</Response>", "does not render"),
        ("<Response>{% if %}</Response>", "does not render"),
    ],
)
def test_a_broken_document_is_an_error(carrier: type[Provider], text: str, words: str) -> None:
    """The file and what is wrong with it are named."""
    name = f"{carrier.name}/sorry.xml"
    templates = jinja2.Environment(
        loader=jinja2.DictLoader({name: text}), undefined=jinja2.StrictUndefined, autoescape=True
    )
    found = [f for f in documents.check_documents(settings(), templates) if name in f.what]

    assert [finding.level for finding in found] == ["error"]
    assert words in found[0].what


def test_missing_documents_are_an_error(carrier: type[Provider]) -> None:
    """A carrier whose folder did not come along cannot be answered."""
    templates = jinja2.Environment(loader=jinja2.DictLoader({}), autoescape=True)
    found = [f for f in documents.check_documents(settings(), templates) if carrier.name in f.what]

    assert [finding.level for finding in found] == ["error"]


def test_a_dyno_with_a_file_is_a_warning(ledger: str) -> None:
    """What it keeps is gone with the next restart."""
    on_heroku = storage.check_ledger(settings(DATABASE_URL=ledger), {"DYNO": "web.1"})
    elsewhere = storage.check_ledger(settings(DATABASE_URL=ledger), {})

    assert [finding.level for finding in on_heroku] == ["warning", "ok"]
    assert [finding.level for finding in elsewhere] == ["ok"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////nowhere/at/all.sqlite3", "OperationalError"),
        ("postgres://user:canary@127.0.0.1:9/db", "Postgres at 127.0.0.1"),
        ("sqlite://", "newest schema"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_a_warning(url: str, words: str) -> None:
    """Calls are answered without it; its password is not shown."""
    [finding] = storage.check_ledger(settings(DATABASE_URL=url), {})

    assert finding.level == "warning"
    assert words in finding.what
    assert "canary" not in str(finding)


def test_warnings_do_not_fail_a_script(ledger: str) -> None:
    """A short secret and a region by hand are shown, and the exit code stays 0."""
    changes = {"PLIVO_AUTH_TOKEN": "short", "PIPECAT_REGION": "us-east", "DATABASE_URL": ledger}
    report = check_up(PROVIDERS, environment(**changes), wanted=NONE_OF_IT)
    warnings = str([f.what for _, found in report.groups for f in found if f.level == "warning"])

    assert "PLIVO_AUTH_TOKEN has fewer than 16 characters" in warnings
    assert "has no effect" in warnings
    assert report.exit_code == 0


def test_bad_settings_are_findings() -> None:
    """Each fault is one error; nothing that needs good settings is tried."""
    report = check_up(PROVIDERS, {"START_DEADLINE_S": "soon"})
    [(_, findings)] = report.groups

    assert report.exit_code == 1
    assert report.count("error") >= 4
    assert any("PUBLIC_URL is not set" in finding.what for finding in findings)


def flask(
    *arguments: str, env: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run flask as a person does, with these settings alone."""
    kept = {name: os.environ[name] for name in ("PATH", "TEST_RUN") if name in os.environ}
    python_path = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", *arguments],
        env={**kept, **python_path, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_doctor_runs_although_the_bridge_does_not(tmp_path: Path) -> None:
    """Flask builds the app before it looks for a command: bad settings do not stop this one."""
    shown = flask("doctor", env={}, folder=tmp_path)
    as_json = flask("doctor", "--json", env={}, folder=tmp_path)

    assert shown.returncode == as_json.returncode == 1
    assert "error    PUBLIC_URL is not set" in shown.stdout
    assert json.loads(as_json.stdout)["errors"] == 4
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    "command", [("calls",), ("run",), ("explain-signature", "--provider", PROVIDERS[0].name)]
)
def test_other_commands_name_every_fault_without_a_traceback(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """The same list that a server prints which does not start, and exit code 1."""
    done = flask(*command, env={}, folder=tmp_path)

    assert done.returncode == 1
    assert "the bridge cannot start:" in done.stderr
    assert "PIPECAT_AGENT is not set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["doctor", "explain-signature"])
def test_help_needs_no_settings(command: str, tmp_path: Path) -> None:
    """Who has no settings yet can read what the commands do."""
    done = flask(command, "--help", env={}, folder=tmp_path)

    assert done.returncode == 0
    assert "Exit code 0" in done.stdout


def test_a_server_never_gets_an_app_without_routes() -> None:
    """Only `flask`, while it looks for a command, is given an app that answers no call."""
    group = click.Group("another")
    with click.Context(group), pytest.raises(click.ClickException, match="cannot start"):
        create_app({})
    with pytest.raises(ConfigError):
        create_app({})


def test_colours_are_for_terminals(ledger: str) -> None:
    """What is piped into a file is plain text."""
    result = doctor(environment(DATABASE_URL=ledger), "--no-start", "--no-public-url")

    assert "\x1b" not in result.output
    assert "\x1b" in next(iter(Report([("a", [Finding("ok", "b")])]).as_lines()))


def test_empty_groups_are_not_shown() -> None:
    """A heading without findings says nothing."""
    report = Report([("nothing", []), ("one", [Finding("warning", "b")])])
    lines = list(report.as_lines())

    assert "nothing" not in "".join(lines)
    assert lines[-1] == "0 errors, 1 warning"
    assert report.exit_code == 0


def test_consoles_are_those_of_the_readme(carrier: type[Provider]) -> None:
    """Doctor and README send people to the same place."""
    steps = README.partition("3. Tell the carrier:")[2].partition("\n4. ")[0]
    [row] = [line for line in steps.splitlines() if f"/{carrier.name}/voice" in line]
    _, where, _ = (cell.strip() for cell in row.strip().strip("|").split("|"))

    for part in re.split("[,;] ", where):
        assert part.removeprefix("then ") in carrier.console, part
    assert "POST" in carrier.methods


def test_options_are_documented() -> None:
    """docs/troubleshooting.md has every option of the command, and no other."""
    text = TROUBLESHOOTING.partition("## Before the first call")[2].partition("\n## ")[0]
    app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]

    documented = set(re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE))

    assert documented == {opt for p in app.cli.commands["doctor"].params for opt in p.opts}


def test_a_web_worker_does_not_load_the_checks() -> None:
    """A process that answers has the two commands, and nothing of what they do."""
    code = (
        "import sys, app; print([name for name in sys.modules "
        "if name.startswith(('bridge.doctor.', 'bridge.explain.'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert set(re.findall(r"'([^']+)'", done.stdout)) == {
        "bridge.doctor.command",
        "bridge.explain.command",
        "bridge.explain.told",
    }
