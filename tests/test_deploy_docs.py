"""What docs/deploy.md tells people to paste: documents for carriers, a unit, a proxy."""

import base64
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import trustme

import demo
from bridge.errors import StartFailed
from simulator.__main__ import CARRIERS
from simulator.audio import tone
from simulator.call import Script, make_call
from simulator.document import Dial, Say, read_document
from simulator.ringing import Ring
from tests.conftest import FIRST_OF, ROOT, Bridge, FakeStart, environment
from tests.running_gateway import running as gateway_running

GUIDE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
UNIT = (ROOT / "deploy" / "bridge.service").read_text("utf-8")
NGINX = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
PUBLIC_URL = "https://bridge.example.com"


def chapter(carrier: str) -> str:
    """Return what the guide says about one carrier."""
    return GUIDE.partition(f"\n### {carrier.title()}\n")[2].partition("\n##")[0]


def fallback(carrier: str) -> bytes:
    """Return the document that is to be pasted."""
    return chapter(carrier).partition("```xml\n")[2].partition("```")[0].encode()


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_fallback_documents_can_be_pasted(name: str) -> None:
    """Words and a human's number, in the XML that the carrier understands."""
    secret = FIRST_OF[name].secret if name != "telnyx" else base64.b64encode(bytes(32)).decode()
    document = read_document(CARRIERS[name](secret), "text/xml", fallback(name))

    assert [type(step) for step in document.steps[:2]] == [Say, Dial]
    assert b"{{" not in fallback(name)  # Telnyx fills such places in


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_fallback_documents_are_the_bridges_own_apology(name: str) -> None:
    """The same document that a caller gets from a bridge without a bot, byte for byte."""
    env = environment(SORRY_DIAL="+14155550142", SORRY_CALLER_ID="+14155550123")
    bridge = Bridge(FakeStart(error=StartFailed("unreachable", "nobody")), env)

    assert bridge.ring(FIRST_OF[name]).data == fallback(name)


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_guide_has_every_url_of_a_carrier(name: str) -> None:
    """The voice URL, a fallback, the status callback."""
    assert f"`https://.../{name}/voice`" in chapter(name)
    assert f"`https://.../{name}/status`" in chapter(name)
    assert re.search("fallback|fails|failover", chapter(name), re.IGNORECASE)


def test_guide_names_what_there_is() -> None:
    """Files, make commands and the variable that compose.yaml wants."""
    for name in set(re.findall(r"deploy/[a-z.]+|compose\.yaml|app\.json|constraints\.txt", GUIDE)):
        assert (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", GUIDE)) <= targets
    wanted = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    assert all(f"{name}=" in GUIDE for name in wanted)


def test_unit_runs_the_procfile_and_stops_in_time() -> None:
    """Both commands, a stop that leaves gunicorn its time, and no more rights than it needs."""
    said = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))

    assert said["ExecStart"] == f"/opt/bridge/.venv/bin/{PROCFILE['web']}"
    assert said["ExecStartPre"] == f"/opt/bridge/.venv/bin/{PROCFILE['release']}"
    assert (said["KillMode"], said["TimeoutStopSec"]) == ("mixed", "30")
    assert (said["ProtectSystem"], said["NoNewPrivileges"]) == ("strict", "yes")
    assert said["CapabilityBoundingSet"] == ""


def test_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze: apt-get install systemd")
    unit = tmp_path / "bridge.service"
    here = UNIT.replace("/opt/bridge/.venv/bin", str(Path(sys.executable).parent))
    unit.write_text(here.replace("/opt/bridge", str(ROOT)))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    about_ours = [line for line in result.stderr.splitlines() if "bridge.service" in line]

    assert about_ours == []


def test_proxy_hands_on_what_was_signed() -> None:
    """No path behind the name, no query in the log, a request is read whole, 64 KB at most."""
    lines = {line.partition(";")[0].strip() for line in NGINX.splitlines() if ";" in line}

    assert "proxy_pass http://bridge" in lines
    assert {"proxy_request_buffering on", "client_max_body_size 64k"} <= lines
    [log_format] = [line for line in lines if line.startswith("log_format")]
    assert not re.search(r"\$(request|request_uri|args|query_string)\b", log_format)
    assert "X-Forwarded" not in NGINX


@contextlib.contextmanager
def nginx(folder: Path, port: int, bridge_port: str) -> Iterator[Path]:
    """Run nginx with our file, its names, ports and folders those of this test; give its CA."""
    program = shutil.which("nginx")
    if not program:
        pytest.skip("no nginx: apt-get install nginx-light")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "nginx.pem")
    )
    server = NGINX.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{bridge_port}")
    server = re.sub(r"/etc/letsencrypt/\S+\.pem", str(folder / "nginx.pem"), server)
    server = server.replace("/var/log/nginx", str(folder))
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    spare = "".join(f"{name}_temp_path {folder}/{name};\n" for name in names)
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "bridge.conf").write_text(server)
    (folder / "nginx.conf").write_text(
        f"{user} pid {folder}/nginx.pid; daemon off; events {{}}\n"
        f"http {{ {spare} include {folder}/bridge.conf; }}\n"
    )
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with contextlib.ExitStack() as stage:
        url = f"http://127.0.0.1:{port}"  # answers plain HTTP with 400: it is up
        demo.start(stage, command, os.environ, folder / "nginx.out", url)
        yield folder / "ca.pem"


def test_proxy_carries_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS, through the file as it is pasted: odd targets stay as signed, queries unlogged."""
    port = demo.free_port()
    proxy = f"https://localhost:{port}"
    with gateway_running() as gateway, contextlib.ExitStack() as stage:
        local = f"http://127.0.0.1:{demo.free_port()}"
        env = demo.environment(f"http://{gateway.origin}", local, tmp_path)
        env |= {"PUBLIC_URL": PUBLIC_URL}
        command = demo.procfile_command()
        bridge = demo.start(stage, command, env, tmp_path / "bridge.out", local)
        ca = stage.enter_context(nginx(tmp_path, port, demo.port_of(local)))
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        for name, carrier_class in CARRIERS.items():
            carrier = carrier_class(env[carrier_class.secret_variable])
            caller = carrier.new_call("+14155550100", "+14155550123")
            way = Ring(f"{proxy}/{name}/voice", f"{PUBLIC_URL}/{name}/voice")
            report = make_call(carrier, caller, Script(way, tone(0.1), listen_s=0.1))
            assert report.outcome == "answered", report.as_text()
            query = "?next=https%3A%2F%2Fx.y%2Fz&a=%27b%27&b=c%20d"
            odd = replace(way, url=way.url + query, signed_url=way.signed_url + query)
            caller = carrier.new_call("+491701234567", "+14155550123")
            assert odd.send(carrier, caller).status == 200, name
        large = requests.post(f"{proxy}/twilio/voice", b"x" * 70_000, verify=str(ca), timeout=10)
        bridge.terminate()
        bridge.wait(30)
        asked = f"{proxy}/plivo/voice?From=491701234567"
        away = requests.get(asked, verify=str(ca), timeout=10)

    log = (tmp_path / "bridge.log").read_text()
    assert large.status_code == 413
    assert re.search(r"POST /twilio/voice 200 \d", log)
    assert away.status_code == 502
    for path in (*tmp_path.glob("*.log"), tmp_path / "nginx.out"):
        assert not re.search("next=|491701234567", path.read_text()), path.name
