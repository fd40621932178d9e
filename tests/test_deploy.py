"""The bridge as Heroku runs it: the Procfile through honcho, behind a router that adds headers."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import demo
from app import create_app
from providers import PROVIDERS
from simulator.__main__ import CARRIERS
from simulator.audio import tone
from simulator.call import Script, make_call
from simulator.carrier import Carrier
from simulator.ringing import BridgeAnswer, Ring
from tests.conftest import ROOT, FakeLedger, FakeStart, environment
from tests.misbehaving import Server, answer
from tests.running_gateway import running as gateway_running
from tests.test_docs import variables_read
from tests.waiting import eventually

PUBLIC_URL = "https://my-bridge-0123456789ab.herokuapp.com"
APP = json.loads((ROOT / "app.json").read_text("utf-8"))
SET_BY_HEROKU = {"PORT", "WEB_CONCURRENCY", "DATABASE_URL"}  # dyno, buildpack, add-on
HEROKU_KILLS_AFTER_S = 30
HONCHO_WAS_TOLD_TO_STOP = 143  # 128 + SIGTERM: its own, not gunicorn's

# https://devcenter.heroku.com/articles/http-routing#heroku-headers
HEROKU_HEADERS = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    "X-Request-Id": "f9ed4675f1c53513c61a3b3b4e25b4c0",
    "X-Request-Start": "1700000000000",
    "Via": "1.1 vegur",
    "Connect-Time": "0",
    "Total-Route-Time": "0",
}


class Router(BaseHTTPRequestHandler):
    """Passes a request on with Heroku's headers on it, its target and body as they came."""

    protocol_version = "HTTP/1.1"
    port: ClassVar[int]

    def do_POST(self) -> None:
        """Pass it on."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        dyno = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(dyno):
            headers = dict(self.headers.items()) | HEROKU_HEADERS
            headers["Host"] = PUBLIC_URL.removeprefix("https://")
            dyno.request(self.command, self.path, body, headers)
            answer = dyno.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def router(port: int) -> Iterator[str]:
    """Run a router in front of a dyno's port; give its URL."""
    handler = type("RouterOfOneDyno", (Router,), {"port": port})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Dyno:
    """A running `web` of the Procfile, and the router in front of it."""

    process: subprocess.Popen[bytes]
    env: dict[str, str]
    url: str  # the router's
    log: Path

    def way(self, carrier: str) -> Ring:
        """Return how a carrier reaches it: it signs the public URL, and the router is dialled."""
        return Ring(f"{self.url}/{carrier}/voice", f"{PUBLIC_URL}/{carrier}/voice")

    def carrier(self, name: str) -> Carrier:
        """Return a carrier that has the secret."""
        return CARRIERS[name](self.env[CARRIERS[name].secret_variable])


def honcho(process: str, folder: Path) -> list[str]:
    """Return the command that starts one process of the Procfile, without a developer's .env."""
    nothing = folder / "no.env"
    nothing.touch()
    return [f"{Path(sys.executable).parent}/honcho", "-e", str(nothing), "start", process]


@contextlib.contextmanager
def dyno(start_url: str, folder: Path) -> Iterator[Dyno]:
    """Run the release, then the web process, with what Heroku and its buildpack set."""
    ours = demo.environment("http://127.0.0.1:9", "http://127.0.0.1:0", folder)
    env = ours | {
        "PUBLIC_URL": PUBLIC_URL,
        "PIPECAT_START_URL": start_url,
        "PORT": str(demo.free_port()),
        "FORWARDED_ALLOW_IPS": "*",
        "GUNICORN_CMD_ARGS": "--access-logfile -",
        "DYNO": "web.1",
    }
    subprocess.run(
        honcho("release", folder), cwd=ROOT, env=env, check=True, capture_output=True, timeout=60
    )
    log = folder / "dyno.log"
    with contextlib.ExitStack() as stage:
        local = f"http://127.0.0.1:{env['PORT']}"
        process = demo.start(stage, honcho("web", folder), env, log, local)
        yield Dyno(process, env, stage.enter_context(router(int(env["PORT"]))), log)


def test_procfile_carries_calls_behind_herokus_router(tmp_path: Path) -> None:
    """After its release, `web` answers every carrier, by POST and GET, whatever the router adds."""
    with (
        gateway_running() as gateway,
        dyno(f"http://{gateway.origin}/v1/public/{{agent}}/start", tmp_path) as web,
    ):
        for name in CARRIERS:
            carrier = web.carrier(name)
            caller = carrier.new_call("+14155550100", "+14155550123")
            report = make_call(carrier, caller, Script(web.way(name), tone(0.1), listen_s=0.1))
            assert report.outcome == "answered", report.as_text()
        plivo = web.carrier("plivo")
        by_get = replace(web.way("plivo"), method="GET")
        answer = by_get.send(plivo, plivo.new_call("+491701234567", "+14155550123"))
        forged = replace(web.way("plivo"), bad_signature=True)
        refused = forged.send(plivo, plivo.new_call("+14155550100", "+14155550123"))

    log = web.log.read_text()
    assert (answer.status, refused.status) == (200, 403)
    assert re.search(r"POST /twilio/voice 200 \d+ms", log)
    assert re.search(r"GET /plivo/voice 200 \d+ms", log)
    assert "491701234567" not in log.replace("+491701234567", "")
    assert PUBLIC_URL in log


def test_procfile_stops_within_herokus_time(tmp_path: Path) -> None:
    """SIGTERM to every process at once, as a dyno gets it: the calls in flight are answered."""
    waiting = threading.Event()

    def when_told(connection: socket.socket, server: Server) -> bool:
        waiting.wait(20)
        return answer()(connection, server)

    with Server(when_told) as start, dyno(start.url, tmp_path) as web:

        def ring(name: str) -> BridgeAnswer:
            carrier = web.carrier(name)
            return web.way(name).send(carrier, carrier.new_call("+14155550100", "+14155550123"))

        with ThreadPoolExecutor() as callers:
            calls = [callers.submit(ring, name) for name in CARRIERS]
            assert eventually(lambda: len(start.requests) == len(CARRIERS))
            told_at = time.monotonic()
            web.process.terminate()
            assert eventually(lambda: "Handling signal: term" in web.log.read_text())
            waiting.set()
            answers = [call.result(30) for call in calls]
        code = web.process.wait(HEROKU_KILLS_AFTER_S)
        took_s = time.monotonic() - told_at

    assert [reply.status for reply in answers] == [200] * len(CARRIERS)
    assert all(b"<Stream" in reply.body for reply in answers)
    assert took_s < HEROKU_KILLS_AFTER_S
    log = web.log.read_text()
    assert "Shutting down: Master" in log
    assert "SIGKILL" not in log
    # The shell that honcho puts around it dies of the signal; gunicorn's own code is test_faults'.
    assert re.search(r"web\.1 stopped \(rc=(0|-15)\)", log)
    assert code == HONCHO_WAS_TOLD_TO_STOP


def test_heartbeats_are_kept_in_memory(gunicorn_settings: dict[str, Any]) -> None:
    """Workers touch a file to show that they live: no disk slows that where there is /dev/shm."""
    configured = gunicorn_settings["worker_tmp_dir"]

    assert configured == ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def test_app_json_describes_every_variable() -> None:
    """Heroku's form asks for what the code reads, but for what Heroku sets itself."""
    described = set(APP["env"])
    read = variables_read() - SET_BY_HEROKU

    assert not read - described, f"add {sorted(read - described)} to the env of app.json"
    assert not described - read, f"nothing reads {sorted(described - read)} of app.json's env"
    for name, variable in APP["env"].items():
        assert variable["description"].endswith("."), name
        assert set(variable) <= {"description", "required"}, f"{name}: the code has the default"


def test_deploy_button_works_with_only_the_required_variables() -> None:
    """What app.json requires, and the secret of any one carrier, is a bridge that starts."""
    required = {n for n, variable in APP["env"].items() if variable.get("required", True)}
    everything = environment()
    for provider in PROVIDERS:
        env = {name: everything[name] for name in (*required, provider.secret_variable)}
        routes = create_app(env, FakeStart(), FakeLedger()).url_map  # type: ignore[arg-type]
        assert f"/{provider.name}/voice" in {rule.rule for rule in routes.iter_rules()}
        assert "At least one of" in APP["env"][provider.secret_variable]["description"]


def test_app_json_starts_what_the_procfile_has() -> None:
    """One web process on Python's buildpack, and a Postgres: a dyno's disk is emptied every day."""
    processes = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())

    assert APP["formation"].keys() == {"web"} <= processes.keys() == {"web", "release"}
    assert APP["buildpacks"] == [{"url": "heroku/python"}]
    assert [addon.partition(":")[0] for addon in APP["addons"]] == ["heroku-postgresql"]
