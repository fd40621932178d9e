"""Promises that no ordinary call would notice if they were broken."""

import ast
import base64
import dataclasses
import hmac
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from click.testing import CliRunner
from gunicorn.workers.gthread import ThreadWorker
from nacl.signing import SigningKey
from plivo.utils import signature_v3

from bridge.errors import StartFailed
from bridge.start import StartClient
from bridge.worker import Worker
from gateway.tokens import Tokens
from providers.base import Provider, Webhook, WebhookRejected
from providers.plivo import Plivo
from providers.telnyx import Telnyx
from providers.twilio import Twilio
from simulator.__main__ import CARRIERS
from simulator.__main__ import main as simulator
from simulator.call import Script, make_call
from simulator.report import Report, summary
from simulator.ringing import Ring
from tests.bots import listening
from tests.conftest import FIRST_OF, LINE, ROOT, Bridge, Recording, environment
from tests.misbehaving import GOOD, Server, answer, drip
from tests.running_gateway import running
from tests.test_gateway_command import gateway_process
from tests.test_simulator import SECRETS, TONE, XML, audio, on_start, stream

PINNED = re.compile(r"[a-z0-9\[\],-]+==[0-9]")

# The bridge


def test_deadline_is_the_configured_one(recorded: Recording) -> None:
    """START_DEADLINE_S from the webhook on, not some other figure."""
    bridge = Bridge(env=environment(START_DEADLINE_S="2.5"))
    before = time.monotonic()
    bridge.ring(recorded)
    after = time.monotonic()

    [(_, _, deadline)] = bridge.start.asked
    assert before + 2.5 <= deadline <= after + 2.5


def test_slow_start_of_one_call_does_not_hold_up_another() -> None:
    """Eight callers at once are eight requests at once: each waits for all of the others."""
    together = threading.Barrier(8)

    def when_all_are_here(connection: socket.socket, server: Server) -> bool:
        together.wait(20)
        return answer()(connection, server)

    with Server(when_all_are_here) as server:
        start = StartClient(server.url, "websocket")
        tokens: list[str] = []

        def ask() -> None:
            tokens.append(start.start(LINE, "twilio", time.monotonic() + 20).token)

        callers = [threading.Thread(target=ask) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    assert tokens == [GOOD["token"]] * 8


def test_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that some other program keeps for this host is not sent instead of the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Server(answer()) as server:
        StartClient(server.url, "websocket").start(LINE, "x", time.monotonic() + 5)

    assert b"Authorization: Bearer pk_test_canary\r\n" in server.requests[0]


def test_key_that_the_server_repeats_is_not_shown() -> None:
    """An error body may quote the key it refuses; the log does not."""
    body = {"error": "no such key pk_test_canary", "code": "pk_test_canary"}
    with (
        Server(answer(401, body)) as server,
        pytest.raises(Exception, match="status 401") as caught,
    ):
        StartClient(server.url, "websocket").start(LINE, "x", time.monotonic() + 5)

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("given", ["x\nFORGED LINE", "\ud800", "", 7, None, "x" * 101, "a b"])
def test_session_id_cannot_forge_a_log_line(given: object) -> None:
    """Only a short printable word is taken for one; the call goes through all the same."""
    with Server(answer(body=GOOD | {"sessionId": given})) as server:
        start = StartClient(server.url, "websocket")
        assert start.start(LINE, "x", time.monotonic() + 5).id is None


def test_one_calls_deadline_does_not_cut_anothers_connection() -> None:
    """Ten impatient callers share a pool with ten patient ones: the patient are all answered."""

    def slow(connection: socket.socket, server: Server) -> bool:
        server.wait(0.05)
        return answer()(connection, server)

    with Server(slow) as server:
        start = StartClient(server.url, "websocket")
        answered: list[str] = []
        cut: list[StartFailed] = []

        def patient() -> None:
            for _ in range(5):
                answered.append(start.start(LINE, "x", time.monotonic() + 10).token)

        def impatient() -> None:
            for _ in range(5):
                try:  # a busy machine may wake this thread when the answer is there already
                    start.start(LINE, "x", time.monotonic() + 0.02)
                except StartFailed as failure:
                    cut.append(failure)

        callers = [threading.Thread(target=run) for run in (patient, impatient) for _ in range(10)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    assert len(answered) == 50
    assert cut


# Identity


def test_signatures_are_compared_in_constant_time(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every comparison goes through hmac.compare_digest, or through libsodium."""
    compared: list[object] = []
    compare = hmac.compare_digest

    def spy(a: Any, b: Any) -> bool:
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    assert Bridge().ring(recorded).status_code == 200
    assert compared or recorded.provider == "telnyx"
    compared.clear()
    Tokens(b"key").check(Tokens(b"key").mint("a.b"), "a.b")
    assert compared
    for name in ("base", "twilio", "plivo", "telnyx"):
        tree = ast.parse((ROOT / "providers" / f"{name}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                assert "signature" not in ast.unparse(node).replace("len(signature)", ""), name


def test_charset_beside_the_content_type_is_tolerated(recorded: Recording) -> None:
    """application/x-www-form-urlencoded; charset=UTF-8 is the same form."""
    headers = recorded.headers | {
        "Content-Type": "Application/X-WWW-Form-URLEncoded; charset=UTF-8"
    }

    assert Bridge().ring(recorded, headers=headers).status_code == 200


def test_telnyx_timestamp_is_used_as_it_came() -> None:
    """A leading zero was signed, so it is checked."""
    key = SigningKey(bytes(32))
    signature = base64.b64encode(key.sign(b"01700000000|body").signature).decode()
    headers = {"telnyx-timestamp": "01700000000", "telnyx-signature-ed25519": signature}
    telnyx = Telnyx({"TELNYX_PUBLIC_KEY": base64.b64encode(bytes(key.verify_key)).decode()})

    telnyx.verify(Webhook("POST", "https://x/", headers, b"body", 1_700_000_000))


def test_plivo_repeated_fields_are_signed_in_order() -> None:
    """Both values of a name, sorted, in the query and in the form, as Plivo's SDK does it."""
    url = "https://bridge.example.com/plivo/voice?a=2&a=1"
    fields = {"b": ["9", "10"]}
    signed = signature_v3.construct_post_url(url, fields).decode()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-plivo-signature-v3-nonce": "1",
        "x-plivo-signature-v3": signature_v3.get_signature_v3(b"t", signed, "1").decode(),
    }
    body = urlencode(fields, doseq=True).encode()

    Plivo({"PLIVO_AUTH_TOKEN": "t"}).verify(Webhook("POST", url, headers, body, 0))


def test_twilio_form_of_a_get_is_not_signed() -> None:
    """A signed POST that is sent again as a GET proves nothing."""
    recorded = FIRST_OF["twilio"].webhook()
    twilio = Twilio({"TWILIO_AUTH_TOKEN": FIRST_OF["twilio"].secret})

    assert twilio.verify(recorded)
    with pytest.raises(WebhookRejected):
        twilio.verify(dataclasses.replace(recorded, method="GET"))


def test_plivo_form_of_a_get_is_not_signed() -> None:
    """A GET's fields are in its query; what else comes along says nothing."""
    url = "https://bridge.example.com/plivo/voice?a=1"
    signed = signature_v3.construct_get_url(url, {}).decode()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-plivo-signature-v3-nonce": "1",
        "x-plivo-signature-v3": signature_v3.get_signature_v3(b"t", signed, "1").decode(),
    }

    Plivo({"PLIVO_AUTH_TOKEN": "t"}).verify(Webhook("GET", url, headers, b"b=2", 0))


def test_missing_and_empty_headers_have_their_own_reasons(
    carrier: type[Provider], recorded: Recording
) -> None:
    """The log tells a header that is not there from one that is empty, and names it."""
    provider = carrier({carrier.secret_variable: recorded.secret})
    for name in recorded.headers.keys() - {"Content-Type"}:
        for change, word in (({}, "missing"), ({name.lower(): ""}, "empty")):
            webhook = recorded.webhook()
            headers = {n: v for n, v in webhook.headers.items() if n != name.lower()} | change
            request = Webhook("POST", webhook.url, headers, webhook.body, webhook.received_at)
            with pytest.raises(WebhookRejected, match=word) as caught:
                provider.verify(request)
            assert name.lower() in str(caught.value).lower()


def test_web_worker_loads_no_slow_sdk_at_all() -> None:
    """Neither directly nor through another module: 0.8 s and 56 MB are telnyx's alone."""
    code = (
        "import app, sys; "
        "print([m for m in ('telnyx', 'plivo', 'twilio.rest', 'aiohttp') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


# The gateway


def test_empty_authorization_header_decides() -> None:
    """It is present, so neither query nor path is looked at."""
    with running() as gateway:
        path = f"/ws/generic/my-agent.local-org/{gateway.tokens.mint('my-agent.local-org')}"
        assert gateway.status(path, {"Authorization": ""}) == 403
        assert gateway.status(path) == 101


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Authorization": "Basic pk_local"}, b"{}", 401),
        ({"Authorization": b"Bearer \xff"}, b"{}", 401),
        ({"Content-Type": "application/json; charset=foo"}, b"{}", 400),
        ({}, b" " * 2_000_000, 413),
    ],
)
def test_odd_requests_to_start_get_its_own_error_body(
    headers: dict[str, Any], content: bytes, status: int
) -> None:
    """error and code, whatever came; never a page or a traceback."""
    with running() as gateway:
        result = requests.post(
            f"http://{gateway.origin}/v1/public/my-agent/start",
            headers={"Authorization": "Bearer pk_local"} | headers,
            data=content,
            timeout=10,
        )

    assert result.status_code == status
    assert result.json().keys() == {"error", "code"}


def test_faults_can_be_ordered_on_the_command_line() -> None:
    """Each switch does what its help says."""

    def start(origin: str) -> requests.Response:
        return requests.post(
            f"http://{origin}/v1/public/my-agent/start",
            headers={"Authorization": "Bearer pk_local"},
            json={"transport": "websocket"},
            timeout=10,
        )

    with gateway_process("--start-garbage", "--start-delay=0.3") as (_, origin):
        before = time.monotonic()
        assert start(origin).headers["Content-Type"].startswith("text/html")
        assert time.monotonic() - before >= 0.3
    with gateway_process("--start-status=502") as (_, origin):
        assert start(origin).status_code == 502


def test_bot_can_be_ordered_on_the_command_line() -> None:
    """--bot: the user's own bot hears the caller."""
    from websockets.sync.client import connect

    with listening() as bot, gateway_process(f"--bot={bot.url}") as (_, origin):
        body = requests.post(
            f"http://{origin}/v1/public/my-agent/start",
            headers={"Authorization": "Bearer pk_local"},
            json={"transport": "websocket"},
            timeout=10,
        ).json()
        with connect(f"{body['wsUrl']}/{body['token']}", proxy=None) as ws:
            ws.send('{"event": "hello"}')
            end = time.monotonic() + 10
            while not bot.messages and time.monotonic() < end:
                time.sleep(0.01)

    assert bot.messages == [{"event": "hello"}]


# The simulator's verdicts


def call(name: str, xml: str, *answers: Any, **script: Any) -> Report:
    """Ring a bridge that gives these answers, then `xml`."""
    simulated = CARRIERS[name](SECRETS[name])
    with Server(*answers, answer(200, xml.encode(), XML, close=True)) as bridge:
        values = {"ring": Ring(bridge.url, bridge.url), "mulaw": TONE, "listen_s": 0.1, **script}
        return make_call(simulated, simulated.new_call("+1", "+2"), Script(**values))


def talkative(name: str) -> Any:
    simulated = CARRIERS[name](SECRETS[name])
    return on_start(lambda ws, start: ws.send(audio(simulated, start, "AAAA")))


def test_spent_token_that_opens_again_is_a_failed_call() -> None:
    """--replay: a second socket must be refused."""
    with listening(talkative("telnyx")) as bot:
        report = call("telnyx", stream(CARRIERS["telnyx"](SECRETS["telnyx"]), bot.url), replay=True)

    assert (report.outcome, report.reason) == ("failed", "the spent token opened a second socket")


@pytest.mark.parametrize(("status", "content"), [(200, b""), (401, b""), (403, b"why")])
def test_forged_signature_must_get_a_bare_403(status: int, content: bytes) -> None:
    """--bad-signature: any other status, or any body, is a failed call."""
    with Server(answer(status, content, close=True)) as bridge:
        ring = Ring(bridge.url, bridge.url, bad_signature=True)
        simulated = CARRIERS["twilio"](SECRETS["twilio"])
        report = make_call(simulated, simulated.new_call("+1", "+2"), Script(ring, TONE))

    assert report.outcome == "failed"


def test_first_of_two_webhooks_must_be_answered_too() -> None:
    """--duplicate: an error to the first one is a failed call, whatever the second gets."""
    report = call("twilio", "<Response/>", answer(500, b"", XML, close=True), duplicate=True)

    assert report.outcome == "failed"
    assert "the first webhook" in report.reason


def test_carriers_patience_is_not_stretched_by_dripping() -> None:
    """A byte now and then does not keep a carrier waiting."""
    simulated = CARRIERS["twilio"](SECRETS["twilio"])
    simulated.patience_s = 0.3  # type: ignore[misc]
    with Server(drip(b"HTTP/1.1 200 OK\r\nX-Slow: ")) as bridge:
        before = time.monotonic()
        who = simulated.new_call("+1", "+2")
        report = make_call(simulated, who, Script(Ring(bridge.url, bridge.url), TONE))

    assert "within 0.3 s" in report.reason
    assert time.monotonic() - before < 10


def test_loop_of_documents_ends() -> None:
    """A bridge that redirects for ever is a failed call."""
    redirect = "<Response><Redirect>{}/again</Redirect></Response>"

    def again(connection: socket.socket, server: Server) -> bool:
        return answer(200, redirect.format(server.url).encode(), XML, close=True)(
            connection, server
        )

    with Server(again) as bridge:
        simulated = CARRIERS["twilio"](SECRETS["twilio"])
        ring = Ring(bridge.url, bridge.url)
        report = make_call(simulated, simulated.new_call("+1", "+2"), Script(ring, TONE))

    assert "a loop" in report.reason


def test_percentiles_are_those_of_the_figures() -> None:
    """p50 and p99 of 1 to 100 ms."""
    simulated = CARRIERS["twilio"](SECRETS["twilio"])
    reports = []
    for n in range(1, 101):
        report = Report("twilio", simulated.new_call("+1", "+2"), webhook_ms=float(n))
        reports.append(report)

    assert summary(reports)["webhook_ms"] == {"p50": 50.5, "p99": 99.0, "max": 100.0}
    assert summary(reports)["socket_ms"] is None


def test_concurrency_is_what_was_asked_for() -> None:
    """Three calls at once: each is answered only when all three have rung."""
    together = threading.Barrier(3)

    def when_all_are_here(connection: socket.socket, server: Server) -> bool:
        together.wait(20)
        return answer(200, b"<Response><Hangup/></Response>", XML, close=True)(connection, server)

    with Server(when_all_are_here) as bridge:
        url = bridge.url.replace("/v1/public/{agent}/start", "/twilio/voice")
        arguments = [
            "twilio",
            f"--url={url}",
            "--secret=x",
            "--calls=3",
            "--concurrency=3",
            "--json",
        ]
        result = CliRunner().invoke(simulator, arguments, env={"PUBLIC_URL": ""})

    assert (
        json.loads(result.stdout)["summary"]["failures"].keys()
        == {"no stream, see the bridge's log; silence"}
        or "broken" not in result.stdout
    )


def test_webhooks_have_the_documented_fields() -> None:
    """What carriers really send: empty places for Twilio, no plus for Plivo."""
    fields = {}
    for name, carrier in CARRIERS.items():
        simulated = carrier(SECRETS[name])
        fields[name] = simulated.webhook(simulated.new_call("+1415", "+1416"))

    twilio = {"AccountSid", "CallSid", "From", "To", "Direction", "FromZip", "ToZip", "ApiVersion"}
    assert twilio <= set(fields["twilio"])
    assert fields["twilio"]["FromZip"] == ""
    assert (fields["plivo"]["From"], fields["plivo"]["To"]) == ("1415", "1416")
    assert {"CallUUID", "Event", "ParentAuthID", "BillRate"} <= set(fields["plivo"])
    assert {"CallSid", "CallSidLegacy", "ConnectionId", "AccountSid"} <= set(fields["telnyx"])
    assert fields["telnyx"]["From"] == "+1415"


def test_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator signs with the secret that the bridge has in the same .env."""
    (tmp_path / ".env").write_text("PLIVO_AUTH_TOKEN=new,old\nPORT=9\n")
    monkeypatch.chdir(tmp_path)
    for name in ("PLIVO_AUTH_TOKEN", "PORT", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(simulator, ["plivo"])

    assert "nobody listens at 127.0.0.1:9" in result.stdout


# How it is run


def test_gunicorn_runs_as_decided(gunicorn_settings: dict[str, Any]) -> None:
    """64 threads, keep-alive longer than Heroku's router, a stop within its 30 s."""
    settings = gunicorn_settings

    assert settings["worker_class"] == "bridge.worker.Worker"
    assert issubclass(Worker, ThreadWorker)
    assert (settings["threads"], settings["workers"], settings["keepalive"]) == (64, 2, 100)
    assert settings["graceful_timeout"] == 25
    assert settings["forwarder_headers"] == ""
    assert "%(U)s" in settings["access_log_format"]
    assert "max_requests" not in settings
    assert settings["SLOWEST_CLIENT_S"] == 3


def test_ci_runs_what_the_readme_names() -> None:
    """make check and make demo; and make check is format, lint, types, audit and tests."""
    assert {"make check", "make demo"} <= set((ROOT / ".ci" / "run").read_text().splitlines())
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    for part in (
        "ruff format --check",
        "ruff check",
        "mypy",
        "tests.secret_scan",
        "tests.audit",
        "pytest",
    ):
        assert part in check


def test_every_requirement_is_pinned() -> None:
    """The same installation tomorrow."""
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-interop.txt"):
        for line in (ROOT / name).read_text().splitlines():
            wanted = line.partition("#")[0].strip()
            assert not wanted or wanted.startswith(("-r ", "-c ")) or PINNED.match(wanted), line


def test_warnings_are_errors(pytestconfig: pytest.Config) -> None:
    """The suite fails if a warning appears."""
    assert pytestconfig.getini("filterwarnings") == ["error"]
