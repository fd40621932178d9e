"""Calls of every outcome through real processes, and what was written anywhere meanwhile."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator.__main__ import CARRIERS
from simulator.ringing import Ring
from tests.stage import Stage, stage

pytestmark = pytest.mark.faults

CALLER, CALLED = "+491701234567", "+14155559876"
OPERATOR = "canary-operator-token"
BEARER = {"Authorization": f"Bearer {OPERATOR}"}
SETTINGS = {
    "PIPECAT_PUBLIC_KEY": "pk_canary_0123456789",
    "TWILIO_AUTH_TOKEN": "canary-twilio-token",
    "TWILIO_AUTH_TOKENS": f"AC{'f' * 32}=canary-subaccount-token",
    "TWILIO_SHARED_KEYS": "webhooks_key=canary-shared-key",
    "PLIVO_AUTH_TOKEN": "canary-plivo-token",
    "OPERATOR_TOKEN": OPERATOR,
    "SORRY_DIAL": "+14155550142",
    "LOG_FORMAT": "json",
    "START_DEADLINE_S": "1",
    "HOLD_ATTEMPTS": "1",
}
TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+")


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A bridge and a gateway after calls of every outcome, the access log on, as on Heroku."""
    folder = tmp_path_factory.mktemp("canaries")
    numbers = f'[default]\nagent = "my-agent"\n["{CALLED}"]\n["+14155559800"]\naccept = "busy"\n'
    options = ("--public-key", SETTINGS["PIPECAT_PUBLIC_KEY"])
    for fault in ("--start-status=429", "--start-status=401", "--start-garbage"):
        (folder / fault).mkdir()
        with stage(folder / fault, *options, fault, NUMBERS=numbers, **SETTINGS) as failing:
            for carrier in sorted(CARRIERS):
                failing.simulate(carrier, f"--from={CALLER}", f"--to={CALLED}", "--hurry")
            (folder / fault / "metrics.log").write_bytes(get(failing, "/metrics"))
    with stage(folder, *options, access_log="-", NUMBERS=numbers, **SETTINGS) as both:
        for carrier in sorted(CARRIERS):
            every_outcome(both, carrier)
        (folder / "metrics.log").write_bytes(get(both, "/metrics"))
        (folder / "ready.log").write_bytes(get(both, "/ready"))
        yield both


def every_outcome(both: Stage, carrier: str) -> None:
    """Ring for each thing that may become of a call; the simulator's words are kept, too."""
    who = (f"--from={CALLER}", f"--to={CALLED}")
    said = []
    for switches in (
        ("--replay",),
        ("--duplicate",),
        ("--bad-signature",),
        ("--refuse-socket", "--hurry"),
        ("--hangup-early",),
        ("--to=+14155559800",),
        ("--method=GET",),
    ):
        result = both.simulate(carrier, *who, *switches)
        said.append(result.output)
    url = f"{both.bridge_url}/{carrier}/"
    simulated = CARRIERS[carrier](both.env[CARRIERS[carrier].secret_variable])
    replayed = simulated.new_call(CALLER, CALLED)
    ring = Ring(f"{url}voice", f"{both.env['PUBLIC_URL']}/{carrier}/voice")
    assert {ring.send(simulated, replayed).status for _ in range(5)} == {200}
    secret = both.env["PLIVO_AUTH_TOKEN"]
    for path in ("voice", "voice/x", f"voice/{secret}", "nowhere?From=%2B491701234567"):
        answer = requests.post(url + path, data={"From": CALLER, "x": secret}, timeout=10)
        assert answer.status_code in (403, 404), path
    (both.folder / f"simulator-{carrier}.log").write_text("\n".join(said))


def get(both: Stage, path: str) -> bytes:
    """Return what the operator sees."""
    return requests.get(both.bridge_url + path, headers=BEARER, timeout=10).content


def everything_written(both: Stage) -> dict[str, bytes]:
    """Return every file of the run by its name, logs and ledger."""
    return {
        str(path.relative_to(both.folder)): path.read_bytes()
        for path in both.folder.rglob("*")
        if path.is_file()
    }


def lines(both: Stage) -> list[dict[str, Any]]:
    """Return the bridge's log."""
    return [json.loads(line) for line in (both.folder / "bridge.log").read_text().splitlines()]


def test_no_secret_is_written_anywhere(talkative: Stage) -> None:
    """Log, access log, ledger, metrics, the gateway's and the simulator's words: no canary."""
    files = everything_written(talkative)
    assert {"bridge.log", "gateway.log", "ledger.sqlite3", "metrics.log"} <= files.keys()
    private = talkative.env["TELNYX_PRIVATE_KEY"].encode()

    for name, content in files.items():
        assert b"canary" not in content, name
        assert private not in content, name
        assert not TOKEN.search(content), name
        assert b"authorization" not in content.lower(), name


def test_no_stream_url_is_written_by_the_bridge(talkative: Stage) -> None:
    """Neither in its log nor in its ledger."""
    files = everything_written(talkative)

    ours = [name for name in files if Path(name).stem in ("bridge", "ledger", "metrics")]
    assert len(ours) >= 4 * 3
    for name in ours:
        assert b"/ws/generic" not in files[name], name
        assert b"ws://" not in files[name], name


def test_callers_numbers_are_masked_in_the_log(talkative: Stage) -> None:
    """Also those in the URL of a GET, and in paths that nobody serves."""
    log = "".join(path.read_text() for path in talkative.folder.rglob("bridge.log"))

    for number in (CALLER, CALLED, "+14155550142"):
        assert number.removeprefix("+") not in log
    assert "***9876" in log


def test_every_line_is_json_with_its_call(talkative: Stage) -> None:
    """gunicorn's and the access log's too; the story of one call is one grep."""
    found = lines(talkative)
    loggers = {line["logger"] for line in found}
    assert {"gunicorn.error", "gunicorn.access", "bridge.voice", "bridge.sessions"} <= loggers

    stories: dict[str, set[str]] = {}
    for line in found:
        if "call_id" in line:
            stories.setdefault(line["call_id"], set()).add(line["stage"])
    assert any({"webhook", "start", "answer", "stream"} <= stages for stages in stories.values())
    for line in found:
        if line.get("stage") in ("start", "answer"):
            assert line["ms"] >= 0
            assert line["call_id"]
            assert line["provider"] in CARRIERS
        if line.get("stage") == "start":
            assert (line["line"], line["agent"]) == ("***9876", "my-agent")


def test_metrics_are_the_sum_of_all_processes(talkative: Stage) -> None:
    """Whichever of two workers is asked; each has answered some of the calls."""
    workers = {line["process"] for line in lines(talkative) if line["logger"] == "bridge.voice"}
    assert len(workers) == 2
    answered = sum(line.get("stage") == "answer" for line in lines(talkative))

    for _ in range(8):
        text = get(talkative, "/metrics").decode()
        counts = re.findall(r"^bridge_answer_seconds_count\{.*\} ([0-9.]+)$", text, re.MULTILINE)
        assert sum(map(float, counts)) == answered


def test_every_outcome_was_there(talkative: Stage) -> None:
    """What the tests above look at is complete."""
    text = "".join(path.read_text() for path in talkative.folder.rglob("metrics.log"))
    outcomes = set(re.findall(r'bridge_webhooks_total\{.*outcome="(\w+)"', text))

    assert outcomes == {"stream", "hold", "sorry", "goodbye", "reject", "refused", "noted"}


def test_numbers_can_be_shown_whole(tmp_path: Path) -> None:
    """LOG_NUMBERS=full, for who needs them."""
    with stage(tmp_path, LOG_NUMBERS="full") as both:
        both.simulate("twilio", f"--from={CALLER}", f"--to={CALLED}")

    assert CALLED in (tmp_path / "bridge.log").read_text()


def test_counts_go_with_the_process(tmp_path: Path) -> None:
    """The folder in which processes count is not left behind in memory."""
    with stage(tmp_path) as both:
        both.simulate("twilio")
        pids = {line["process"] for line in lines(both)}
        shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
        [folder] = {
            file.parent
            for pid in pids
            for file in shared.glob(f"bridge-metrics-*/counter_{pid}.db")
        }

    assert not folder.exists()
