"""What docs/security.md promises, and that each of its proofs is there."""

import ast
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

import demo
from simulator.__main__ import CARRIERS
from tests.conftest import FIRST_OF, ROOT, Bridge, Recording
from tests.test_docs import README, rows, section
from tests.test_faults import House, house

SECURITY = (ROOT / "docs" / "security.md").read_text("utf-8")
HTTP_CLIENTS = {"requests", "urllib3", "urllib.request", "http.client", "aiohttp", "httpx"}


def test_every_proof_is_there() -> None:
    """Each test that docs/security.md names exists, and no row of an attack or a leak lacks one."""
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", SECURITY)
    for path, test in named:
        assert f"\ndef {test}(" in (ROOT / path).read_text("utf-8"), f"{path}::{test}"
    assert len(named) > 40
    for heading in ("What leaks cost", "What attacks cost"):
        for row in rows(section(SECURITY, heading)):
            assert "::test_" in row[-1], row[0]


def test_every_route_has_its_row() -> None:
    """Who can call what: all of README's routes."""
    served = re.findall(r"`(?:GET|POST) ([^`]+)`", section(README, "Routes"))
    written = section(SECURITY, "Who can call what")

    for route in served:
        general = re.sub(r"^/(twilio|plivo|telnyx)/", "/<carrier>/", route)
        assert f"{general}`" in written, route


def test_limits_are_those_that_are_written() -> None:
    """Request line, fields, head, body and patience."""
    from bridge.whole import LONGEST_BODY, LONGEST_HEAD
    from bridge.worker import PATIENCE_S

    configuration = (ROOT / "gunicorn.conf.py").read_text("utf-8")
    line = re.search(r"1\. Size: .*", SECURITY)
    assert line
    assert "limit_request_fields = 50" in configuration
    assert "limit_request_field_size = 4094" in configuration
    assert f"a head of {LONGEST_HEAD // 1024} KiB" in line[0]
    assert f"a body of {LONGEST_BODY // 1024} KiB, {PATIENCE_S:g} s for all of it" in line[0]


def test_one_file_speaks_http() -> None:
    """Nothing that a webhook says can make the bridge fetch a URL; the doctor is a command."""
    places = [ROOT / "app.py", *(ROOT / "bridge").rglob("*.py"), *(ROOT / "providers").glob("*.py")]
    speaking = {path.name for path in places if imports(path) & HTTP_CLIENTS}
    assert speaking == {"deadline_http.py", "reach.py"}
    assert not imports(ROOT / "bridge" / "voice.py") & {"bridge.doctor"}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, with all that they are in."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            parts = name.split(".")
            found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return found


def test_strangers_write_no_lines_of_their_own(
    bridge: Bridge, recorded: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """Line ends in fields, in names of fields, in the path: each request is one line each time."""
    forged = "x\r\n2026-01-01 INFO FORGED"
    fields = urlencode(dict.fromkeys(("CallSid", "CallUUID", "AccountSid", forged), forged))
    client = bridge.client(recorded.received_at)
    for target in (f"{recorded.target}?{fields}", f"/{quote(forged)}"):
        client.open(
            target,
            method="POST",
            data=fields,
            headers={"Content-Type": recorded.headers["Content-Type"]},
        )

    assert len(caplog.records) >= 2
    for record in caplog.records:
        assert not re.search(r"[\r\n]", record.getMessage()), record.getMessage()


def test_query_that_nobody_signed_is_worth_twelve_sessions_at_most(bridge: Bridge) -> None:
    """Telnyx signs no URL: a captured webhook with ?held= has a round for every hold, no more."""
    captured = FIRST_OF["telnyx"]
    client = bridge.client(captured.received_at)
    for held in (0, 1, 2, 3, 4, 5, 99, 0, 3):
        for _ in range(5):
            target = f"{captured.target}?held={held}"
            client.post(target, data=captured.body, headers=captured.headers)

    assert len(bridge.start.asked) == 3 * (1 + 3)  # three a round; HOLD_ATTEMPTS is 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A bridge as the Procfile runs it; nobody answers /start, so callers get words."""
    with house(tmp_path_factory.mktemp("security")) as running:
        yield running


@pytest.mark.parametrize("name", sorted(CARRIERS))
@pytest.mark.parametrize(
    "header",
    ["SCRIPT_NAME: /x", "Script-Name: /x", "X-Forwarded-Prefix: /x", "X-Forwarded-Proto: https"],
)
def test_forged_prefix_changes_nothing(home: House, name: str, header: str) -> None:
    """Over a real socket, through gunicorn: a signed webhook holds, whatever header is added."""
    carrier = CARRIERS[name](home.env[CARRIERS[name].secret_variable])
    fields = carrier.webhook(carrier.new_call("+14155550100", "+14155550123"))
    body = urlencode(fields).encode()
    signed = carrier.sign("POST", f"{home.bridge_url}/{name}/voice", fields, body)
    headers = [*(f"{key}: {value}" for key, value in signed.items()), header]
    headers += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    head = "\r\n".join([f"POST /{name}/voice HTTP/1.1", "Host: a", *headers, "", ""])
    address = ("127.0.0.1", int(demo.port_of(home.bridge_url)))
    with socket.create_connection(address, timeout=20) as sock:
        sock.sendall(head.encode() + body)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
