"""The whole path through real sockets: simulator, gunicorn, bridge, gateway, each a process."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

import demo
from app import create_app
from gateway.agents import Agent
from gateway.faults import Faults
from simulator.__main__ import CARRIERS
from simulator.__main__ import main as simulator
from tests.conftest import ROOT
from tests.running_gateway import running as gateway_running
from tests.stage import Stage, stage
from tests.waiting import eventually

TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One bridge and one gateway for all tests that break nothing."""
    with stage(tmp_path_factory.mktemp("logs")) as both:
        yield both


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_call_gets_through(running: Stage, carrier: str) -> None:
    """Ring, XML, socket, audio back; the spent token is refused; exit code 0."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "simulator", carrier, "--replay", "--json"),
            *(f"--url={running.bridge_url}/{carrier}/voice", "--tone=0.1", "--listen=0.1"),
        ],
        cwd=ROOT,
        env=running.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)

    [call] = report["calls"]
    assert (call["outcome"], call["provider"]) == ("answered", carrier)
    assert call["heard_s"] >= 0.18
    assert None not in (call["webhook_ms"], call["socket_ms"], call["first_audio_ms"])
    assert any("refused with 403" in step["what"] for step in call["timeline"])
    assert report["summary"]["outcomes"] == {"answered": 1}
    assert call["call_id"] in running.logs()
    assert f"echo: {carrier} is talking" in running.logs()


@pytest.mark.parametrize("carrier", ["twilio", "plivo"])
def test_call_by_get_gets_through(running: Stage, carrier: str) -> None:
    """The carriers whose signature covers a query may ring by GET."""
    result = running.simulate(carrier, "--method=GET", "--from=+491701234567")

    assert result.exit_code == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("variable", "value"), [("PORT", "x"), ("WEB_CONCURRENCY", "0")])
def test_bad_port_or_concurrency_is_one_message(variable: str, value: str) -> None:
    """The same list of faults, no traceback of gunicorn's."""
    result = subprocess.run(
        demo.procfile_command(),
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode != 0
    assert f"{variable} is {value!r}" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_body_reaches_the_bot(running: Stage) -> None:
    """Plivo and Telnyx hand the caller's data over in ?body=, and the bot finds it decoded."""
    running.simulate("twilio")
    parameters = "call_id, direction, from_number, provider, to_number"
    assert f"twilio is talking, body fields: {parameters}" in running.logs()
    for carrier in ("plivo", "telnyx"):
        running.simulate(carrier)

        assert (
            f"{carrier} is talking, body fields: call_id, direction, from, provider, to"
            in running.logs()
        )


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_timeline_is_for_people(running: Stage, carrier: str) -> None:
    """One line per step with its milliseconds, a verdict, and no token anywhere."""
    result = running.simulate(carrier, "--duplicate")

    assert result.stdout.count("ms  POST http://127.0.0.1") == 2
    assert re.search(
        r"ms  XML is good: stream to ws://\S+/my-agent\.local-org/\.\.\.", result.stdout
    )
    for step in ("socket open", "first audio back", "the caller hangs up", "s heard"):
        assert step in result.stdout
    assert re.search(
        r"^answered: XML after \d+ ms, socket after \d+ ms, audio after \d+ ms$",
        result.stdout,
        re.MULTILINE,
    )
    assert not TOKEN.search(result.stdout + result.stderr)


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_forged_webhook_is_refused(running: Stage, carrier: str) -> None:
    """403, and the exit code that says: cut short on purpose."""
    result = running.simulate(carrier, "--bad-signature", "--json")

    assert result.exit_code == 3, result.stdout + result.stderr
    assert "refused with 403" in json.loads(result.stdout)["calls"][0]["reason"]


def test_telnyx_get_is_refused(running: Stage) -> None:
    """Its signature covers no query: 405, a failed call."""
    result = running.simulate("telnyx", "--method=GET")

    assert result.exit_code == 1
    assert "the bridge answered 405" in result.stdout
    assert "GET '/telnyx/voice' answered with 405; the carrier must use POST" in running.logs()


def test_hanging_up_early_leaves_the_token_unused(running: Stage) -> None:
    """XML came, the socket never opened."""
    result = running.simulate("twilio", "--hangup-early")

    assert result.exit_code == 3
    assert "ms  socket open" not in result.stdout


def test_many_calls_are_summed_up(running: Stage, tmp_path: Path) -> None:
    """--calls and --concurrency: counts, p50 and p99 of each step; one recording per call."""
    result = running.simulate(
        "twilio", "--calls=6", "--concurrency=3", f"--out={tmp_path / 'bot.wav'}"
    )

    assert result.exit_code == 0, result.stdout + result.stderr
    assert result.stdout.startswith("6 calls: 6 answered\n")
    for step in ("webhook to XML", "XML to socket", "socket to audio"):
        assert re.search(rf"{step} +p50 \d+ ms, p99 \d+ ms, max \d+ ms", result.stdout)
    assert len(list(tmp_path.glob("bot-*.wav"))) == 6
    assert result.stderr == ""


def test_ctrl_c_hangs_up_and_reports(running: Stage) -> None:
    """No new call is made, the calls on the line hang up, what happened so far is reported."""
    before = running.logs().count("twilio is talking")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "simulator", "twilio", "--tone=600", "--calls=50"),
            *("--concurrency=2", f"--url={running.bridge_url}/twilio/voice", "--json"),
        ],
        cwd=ROOT,
        env=running.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert eventually(lambda: running.logs().count("twilio is talking") == before + 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 130
    report = json.loads(output)
    assert report["summary"]["outcomes"] == {"cut short": 2}
    assert [call["reason"] for call in report["calls"]] == ["stopped", "stopped"]
    assert running.logs().count("twilio is talking") == before + 2


def test_failed_calls_are_named() -> None:
    """A summary of failures has call ids to look for in the logs."""
    url = f"http://127.0.0.1:{demo.free_port()}/plivo/voice"
    result = CliRunner().invoke(simulator, ["plivo", f"--url={url}", "--secret=test", "--calls=2"])

    assert result.exit_code == 1
    assert re.search(
        r"2 failed: nobody listens at \S+: is the bridge running\? \(\S+, \S+\)", result.stdout
    )


def test_progress_is_shown_on_a_terminal(running: Stage) -> None:
    """A bar on the terminal's standard error; nothing of it in the output."""
    ours, theirs = pty.openpty()
    result = subprocess.run(
        [
            *(sys.executable, "-m", "simulator", "plivo", "--calls=2", "--concurrency=2"),
            *(f"--url={running.bridge_url}/plivo/voice", "--tone=0.1", "--listen=0.1", "--json"),
        ],
        cwd=ROOT,
        env=running.env | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)

    assert "2 calls" in shown
    assert "100%" in shown
    assert json.loads(result.stdout)["summary"]["calls"] == 2


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A bridge behind a tunnel, with half a second for /start and nobody there to answer it."""
    folder = tmp_path_factory.mktemp("impatient")
    gateway_url, bridge_url = (f"http://127.0.0.1:{demo.free_port()}" for _ in range(2))
    env = demo.environment(gateway_url, bridge_url, folder)
    env |= {"START_DEADLINE_S": "0.5", "SORRY_DIAL": "+14155550142"}
    env["PUBLIC_URL"] = "https://bridge.example.com/calls"
    env["GUNICORN_CMD_ARGS"] += " --access-logfile -"
    with contextlib.ExitStack() as processes:
        demo.start(processes, demo.procfile_command(), env, folder / "bridge.log", bridge_url)
        yield Stage(env, bridge_url, folder)


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (None, "unreachable: ConnectionRefusedError"),
        (Faults(start_status=503), "unavailable: status 503"),
        (Faults(start_status=401), "refused: status 401"),
        (Faults(start_garbage=True), "garbage: the answer is not JSON"),
        (Faults(start_delay_s=30), "deadline: no answer before the deadline"),
    ],
    ids=["down", "503", "401", "garbage", "slow"],
)
def test_broken_start_is_an_apology(
    impatient: Stage, carrier: str, faults: Faults | None, reason: str
) -> None:
    """Down, failing or slow: every caller hears sorry.xml, and the log says why."""
    with contextlib.ExitStack() as broken:
        if faults:
            broken.enter_context(gateway_running(faults=faults, port=impatient.gateway_port))
        result = impatient.ring(carrier)

    assert result.outcome == "failed"
    assert "Sorry, we cannot take your call right now" in result.reason
    assert f"{carrier} call {result.call.call_id} gets sorry.xml: {reason}" in impatient.logs()


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_refused_socket_reaches_a_human(impatient: Stage, carrier: str) -> None:
    """The XML was good, the socket was not: the caller hears an apology and a human is dialled."""
    with gateway_running(faults=Faults(socket_status=503), port=impatient.gateway_port):
        result = impatient.simulate(carrier)

    number = "14155550142" if carrier == "plivo" else "+14155550142"
    shown = "14155550123" if carrier == "plivo" else "+14155550123"
    assert result.exit_code == 1
    assert result.stdout.count("tries the same URL again") == (2 if carrier == "plivo" else 0)
    assert "told the bridge: stream failed (20" in result.stdout
    assert re.search(rf"POST http://\S+/{carrier}/after\?sent_at=\d+", result.stdout)
    assert f"{number} is dialled for 20 s, showing {shown}" in result.stdout
    assert "failed: the socket was refused with 503; the caller hears: 'Sorry" in result.stdout


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
def test_full_house_is_held_and_then_sorry(impatient: Stage, carrier: str) -> None:
    """429 three times: held, held, held, and then the apology; all on one timeline."""
    with gateway_running(faults=Faults(start_status=429), port=impatient.gateway_port):
        result = impatient.simulate(carrier, "--hurry", "--json")
    [call] = json.loads(result.stdout)["calls"]
    told = [step["what"] for step in call["timeline"]]

    assert result.exit_code == 1
    assert call["documents"] == 4
    assert told.count("the caller waits 5 s") == 3
    assert call["reason"].count("All our lines are busy") == 3
    assert call["reason"].endswith("Please try again later. (rings +14155550142)'") or (
        carrier == "plivo" and call["reason"].endswith("(rings 14155550142)'")
    )


@pytest.mark.faults
def test_held_caller_gets_the_next_free_bot(impatient: Stage) -> None:
    """The pool is full when the phone rings, and free when the caller comes back."""
    agent = Agent("my-agent", "local-org", needs_token=True, max_agents=1)
    with gateway_running(agent, port=impatient.gateway_port) as full:
        agent.running = 1
        held = impatient.later("telnyx", lambda: setattr(agent, "running", 0))

    assert full.agents == (agent,)
    assert held.exit_code == 0, held.stdout
    assert held.stdout.count("the caller waits 5 s") >= 1
    assert "answered: XML" in held.stdout


def test_bot_that_hangs_up_is_a_goodbye(impatient: Stage) -> None:
    """After a good call the caller hears nothing but the end of it."""

    async def bot(ws: web.WebSocketResponse, _: object) -> None:
        await ws.receive()
        audio = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": "AAAA"}
        await ws.send_str(json.dumps({"event": "playAudio", "media": audio}))

    with gateway_running(bot=bot, port=impatient.gateway_port):
        result = impatient.simulate("plivo", "--tone=5")

    assert result.exit_code == 0, result.stdout
    assert "the bot hung up with 1000" in result.stdout
    assert "the carrier hangs up, as the document says" in result.stdout
    assert "the caller hears" not in result.stdout


def test_calls_can_be_looked_up(running: Stage) -> None:
    """`flask calls` has a line for a call, `flask call ID` its story, both of them as JSON too."""
    result = running.simulate("telnyx", "--json", "--from=+491701234567")
    call_id = json.loads(result.stdout)["calls"][0]["call_id"]
    running.simulate("twilio", "--refuse-socket")

    app = create_app(running.env)

    def flask(*arguments: str) -> str:
        result = app.test_cli_runner().invoke(args=arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    story = ("rang", "session ", "stream started", "stream stopped", "status")
    assert eventually(lambda: all(word in flask("call", call_id) for word in story))
    lines = flask("calls").splitlines()
    assert lines[0].split()[:3] == ["when", "provider", "call_id"]
    [line] = [line for line in lines if call_id in line]
    assert "+491701234567" in line
    assert "completed" in line
    assert eventually(lambda: "the stream failed" in flask("calls", "--failed", "--since=1h"))
    assert call_id not in flask("calls", "--failed")
    [row] = [row for row in json.loads(flask("calls", "--json")) if row["call_id"] == call_id]
    assert row["final_status"] == "completed"
    told = json.loads(flask("call", call_id, "--json"))
    assert told["events"][0]["what"] == "rang"
    assert not TOKEN.search(json.dumps(told))


def test_flask_command_says_nothing_but_its_answer(running: Stage) -> None:
    """What the bridge logs while it starts is not in the output that a program reads."""
    command = [sys.executable, "-m", "flask", "--app", "app", "calls", "--json", "--since=1m"]
    result = subprocess.run(
        command, cwd=ROOT, env=running.env, capture_output=True, text=True, check=True
    )

    assert isinstance(json.loads(result.stdout), list)


def test_nothing_secret_is_written(running: Stage) -> None:
    """After all of that, the logs of both processes hold no token, no stream URL and no secret."""
    running.simulate("telnyx")
    logs = running.logs()

    assert "bridge.answering" in logs
    assert not TOKEN.search(logs)
    assert "ws://" not in logs
    assert "<Response>" not in logs
    for name in ("PIPECAT_PUBLIC_KEY", "TWILIO_AUTH_TOKEN", "PLIVO_AUTH_TOKEN"):
        assert running.env[name] not in logs
    for name in ("TELNYX_PRIVATE_KEY", "TELNYX_PUBLIC_KEY"):
        assert running.env[name] not in logs


def test_access_log_shows_no_query(impatient: Stage) -> None:
    """Heroku turns the access log on: a GET's numbers are not in it."""
    impatient.simulate("plivo", "--method=GET", "--from=+491701234567")
    log = impatient.logs()

    assert re.search(r'"message": "GET /plivo/voice 200 \d+ms"', log)
    assert "491701234567" not in log


def test_bad_setting_stops_the_process(tmp_path: Path) -> None:
    """A bridge that is not configured does not start, and says what is missing."""
    result = subprocess.run(
        demo.procfile_command(),
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode != 0
    assert result.stderr.count("PUBLIC_URL is not set") == 1
    assert "TWILIO_AUTH_TOKEN, PLIVO_AUTH_TOKEN, TELNYX_PUBLIC_KEY" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Listening" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "problem"),
    [
        (["nobody"], {}, "'nobody' is not one of"),
        (["twilio"], {"TWILIO_AUTH_TOKEN": ""}, "set TWILIO_AUTH_TOKEN or give --secret"),
        (["telnyx"], {"TELNYX_PRIVATE_KEY": ""}, "--new-key"),
        (["telnyx", "--secret=x"], {}, "no private key"),
        (["twilio", "--url=bridge"], {}, "'bridge' is no http(s) URL"),
        (["twilio", "--wav=none.wav"], {}, "none.wav"),
        (["twilio", "--new-key"], {}, "--new-key is for telnyx"),
        (["twilio", "--calls=0"], {}, "--calls"),
        (["twilio", "--tone=-1"], {}, "--tone"),
        (["twilio", "--out=nowhere/x.wav"], {}, "nowhere is no folder"),
        (["twilio", "--bad-signature", "--replay"], {}, "use it alone"),
    ],
)
def test_wrong_option_of_the_simulator_is_named(
    arguments: list[str], env: dict[str, str], problem: str
) -> None:
    """Exit code 2 and one sentence with the cure."""
    result = CliRunner().invoke(simulator, arguments, env={"TWILIO_AUTH_TOKEN": "test"} | env)

    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())


def test_make_run_reads_the_env_file(tmp_path: Path) -> None:
    """The bridge as the Procfile runs it, its settings from a file and nowhere else."""
    port = demo.free_port()
    env = demo.environment("http://127.0.0.1:9", f"http://127.0.0.1:{port}", tmp_path)
    names = (
        "DATABASE_URL",
        "PUBLIC_URL",
        "PIPECAT_AGENT",
        "PIPECAT_PUBLIC_KEY",
        "PLIVO_AUTH_TOKEN",
        "PORT",
    )
    file = tmp_path / "settings"
    file.write_text("".join(f"{name}={env[name]}\n" for name in names))
    command = ["make", "run", f"ENV_FILE={file}", f"VENV={sys.prefix}"]
    command += [f"--old-file={sys.prefix}/runtime"]
    bare = {
        "PATH": os.environ["PATH"],
        "TEST_RUN": os.environ["TEST_RUN"],
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}",
    }

    with contextlib.ExitStack() as processes:
        make = demo.start(processes, command, bare, tmp_path / "run.log", env["PUBLIC_URL"])
        refused = Stage(env, env["PUBLIC_URL"], tmp_path).ring("twilio")
        forged = Stage(env, env["PUBLIC_URL"], tmp_path).simulate("plivo", "--bad-signature")

        make.terminate()  # and nothing else: what make started ends with it
        make.wait(30)
        assert eventually(lambda: not demo.answers(f"{env['PUBLIC_URL']}/health"))

    assert refused.reason.startswith("the bridge answered 404")
    assert forged.exit_code == 3
    assert "agent my-agent answers at http://127.0.0.1" in (tmp_path / "run.log").read_text()


def test_public_url_is_signed_although_loopback_is_dialled(impatient: Stage) -> None:
    """With PUBLIC_URL in .env or the environment, a local bridge is rung as if through a tunnel."""
    with gateway_running(port=impatient.gateway_port):
        assert impatient.simulate("plivo").exit_code == 0
        elsewhere = impatient.simulate("plivo", "--public-url=https://other.example.com")

    assert elsewhere.exit_code == 1
    assert "the bridge answered 403" in elsewhere.stdout


def test_demo_tells_its_story_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line per carrier, a replayed token and forged signatures; exit code 0."""
    started: list[int] = []
    popen = subprocess.Popen

    def noted(*args: Any, **kwargs: Any) -> Any:
        process = popen(*args, **kwargs)
        started.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", noted)
    assert demo.main() == 0
    told = capsys.readouterr().out

    for carrier in CARRIERS:
        assert f"{carrier:6} rings: XML after" in told
        assert f"a forged {carrier} webhook: refused with 403" in told
    assert "the spent token was tried again and refused with 403" in told
    assert "a telnyx stream that fails: the caller hears: 'Sorry" in told
    assert "Everything works." in told
    assert not TOKEN.search(told)
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.killpg(pid, 0)


def test_demo_says_what_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that does not start: exit code 1, and its log."""
    monkeypatch.setattr(demo, "procfile_command", lambda: [sys.executable, "-c", "1/0"])

    assert demo.main() == 1
    shown = capsys.readouterr().err
    assert "does not answer" in shown
    assert "ZeroDivisionError" in shown
