"""`make audit` finds what it looks for, and says so when it could not look."""

import json
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import demo
from tests import audit, secret_scan
from tests.conftest import ROOT

VULNERABILITY = {
    "id": "PYSEC-0000-1",
    "summary": "made up for a test",
    "affected": [{"package": {"name": "flask", "ecosystem": "PyPI"}}],
}


@contextmanager
def vulnerability_service(vulnerable: str, status: int = 200) -> Iterator[str]:
    """Play osv.dev on loopback: one package is vulnerable, or none."""

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bad = asked["package"]["name"] == vulnerable
            content = json.dumps({"vulns": [VULNERABILITY]} if bad else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Osv)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def audited(url: str) -> subprocess.CompletedProcess[str]:
    """Audit with a service of our own."""
    switches = ["--vulnerability-service=osv", f"--osv-url={url}"]
    command = [sys.executable, "-m", "tests.audit", *switches]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_known_vulnerability_is_a_failure() -> None:
    """Its package, version and name are printed, and make check ends there."""
    with vulnerability_service("flask") as url:
        result = audited(url)

    assert result.returncode != 0
    assert re.search(r"flask \d[\d.]+ is vulnerable: PYSEC-0000-1", result.stdout)


def test_no_known_vulnerability_is_a_success() -> None:
    """Every pinned package was asked about."""
    with vulnerability_service("") as url:
        result = audited(url)

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(audit.pinned())} packages, no known vulnerability" in result.stdout
    assert len(audit.pinned()) > 50


def test_machine_without_internet_says_so() -> None:
    """Nobody answers: one clear sentence, and make check goes on."""
    result = audited(f"http://127.0.0.1:{demo.free_port()}/v1/query")

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("audit: NOT AUDITED: no vulnerability service can be reached")
    assert len(result.stdout.splitlines()) == 1


def test_service_that_fails_is_not_taken_for_no_internet() -> None:
    """A 500 is an audit that went wrong, not one that could not be made."""
    with vulnerability_service("", status=500) as url:
        assert audited(url).returncode != 0


def test_package_that_nobody_knows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A mirror of PyPI answers 404 where pypi.org tells of vulnerabilities: that is no audit."""
    good: dict[str, object] = {"name": "a", "version": "1", "vulns": []}
    unknown: dict[str, object] = {"name": "b", "skip_reason": "not found"}

    assert audit.report([unknown]) == 0
    assert "NOT AUDITED: this machine's way to pypi.org" in capsys.readouterr().out
    assert audit.report([good, unknown]) == 0
    assert "NOT AUDITED, because pypi.org does not know them: b" in capsys.readouterr().out


def test_no_file_holds_a_secret_that_nobody_has_looked_at() -> None:
    """Test secrets are known; anything else that looks like one fails here and in make check."""
    assert secret_scan.main([]) == 0


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def planted(pattern: str) -> str:
    """Fill in secrets that nobody has; none stands in this file."""
    line = re.sub(r"<hex(\d+)>", lambda m: secrets.token_hex(int(m[1]) // 2), pattern)
    line = re.sub(r"<HEX(\d+)>", lambda m: secrets.token_hex(int(m[1]) // 2).upper(), line)
    return re.sub(
        r"<any(\d+)>", lambda m: "".join(secrets.choice(LETTERS) for _ in range(int(m[1]))), line
    )


@pytest.mark.parametrize(
    "pattern",
    [
        "TWILIO_AUTH_TOKEN=<hex32>",
        "TWILIO_AUTH_TOKENS=AC<hex32>=<hex32>",
        'Client("AC<hex32>", "<hex32>")',
        "PLIVO_AUTH_TOKEN: <any40>",
        'Plivo({"PLIVO_AUTH_TOKEN": "<any40>"})',
        "Authorization: Bearer KEY<HEX32>_<any22>",
        "TELNYX_PRIVATE_KEY=<any43>=",
        "OPERATOR_TOKEN=<any32>",
        "PIPECAT_PUBLIC_KEY=pk_<hex8>-<hex24>",
        "sk_<hex8>-<hex24>",
        "DATABASE_URL=postgres://user:<any30>@db.example.com/calls",
        "wss://us-west.example.com/ws/generic/a.b/eyJ<any30>.<any43>",
        "-----BEGIN" + " PRIVATE KEY-----",
        "token = 'ghp_<any36>'",
    ],
)
def test_planted_secret_is_found(pattern: str, tmp_path: Path) -> None:
    """Carriers' tokens and keys, Pipecat Cloud's keys, stream URLs, passwords, private keys."""
    (tmp_path / "notes.txt").write_text(f"first\n{planted(pattern)}\n")

    found = list(secret_scan.secrets_in(tmp_path, ["notes.txt"]))
    assert {one.line_number for one in found} == {2}


def test_planted_secret_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named with its file and line, and is not repeated; what git ignores is not read."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    token = secrets.token_hex(16)
    (tmp_path / ".gitignore").write_text(".env\n")
    for name in (".env", "app.json"):
        (tmp_path / name).write_text(f"TWILIO_AUTH_TOKEN={token}\n")

    assert secret_scan.main([], tmp_path) == 1
    said = capsys.readouterr().out
    assert "app.json:1: Secret of the bridge" in said
    assert ".env" not in said
    assert token not in said
