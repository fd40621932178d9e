"""The container, without an engine: what the Dockerfile says, and what its files do when they run.

Not shown here: that the image builds. What is copied and started is run as it stands, as a user who
may not write it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import demo
from simulator.__main__ import CARRIERS
from simulator.audio import tone
from simulator.call import Script, make_call
from simulator.ringing import Ring
from tests.conftest import ROOT
from tests.misbehaving import Server, answer
from tests.running_gateway import running as gateway_running

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
BUILD_TOOLS = {"apt", "apt-get", "gcc", "build-essential", "pip", "curl", "make"}
# Who may read and start everything, and write nothing: root's Python may lie where only root goes.
NOBODY = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments, continued lines joined."""
    text = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    """Return what follows the last FROM, that line included."""
    found = instructions()
    last = max(n for n, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def said(instruction: str) -> str:
    """Return the arguments of an instruction that the final stage has once."""
    [arguments] = [arguments for word, arguments in final_stage() if word == instruction]
    return arguments


def command(arguments: str) -> list[str]:
    """Return a command in its JSON form, with this Python's programs instead of the image's."""
    words: list[str] = json.loads(arguments[arguments.index("[") :])
    return [sys.executable if words[0] == "python" else words[0], *words[1:]]


def copied() -> list[str]:
    """Return what the final stage copies from the project."""
    found = []
    for word, arguments in final_stage():
        if word == "COPY" and not arguments.startswith("--from"):
            *sources, _ = arguments.split()
            found += sources
    return found


def test_dockerfile_passes_its_linter() -> None:
    """hadolint finds nothing."""
    result = subprocess.run(
        [f"{Path(sys.executable).parent}/hadolint", "--no-color", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_final_image_builds_nothing() -> None:
    """A slim base with its version in its tag, nothing that builds or runs, the packages ready."""
    bases = [arguments.split()[0] for word, arguments in instructions() if word == "FROM"]
    version = (ROOT / ".python-version").read_text().strip()

    assert bases == [f"python:{version}-slim-bookworm"] * 2
    assert "RUN" not in {word for word, _ in final_stage()}
    words = {part for _, arguments in final_stage() for part in arguments.split()}
    assert not words & BUILD_TOOLS


def test_image_runs_what_the_procfile_runs_and_not_as_root() -> None:
    """The same web command, by the number of a user who owns nothing but /data."""
    assert json.loads(said("CMD")) == demo.procfile_command()
    assert said("USER") == "65534:65534"
    owned = [a for word, a in final_stage() if word == "COPY" and "--chown" in a]
    assert owned == ["--from=build --chown=65534:65534 /data /data"]


def test_engine_is_sent_what_is_copied_and_nothing_else() -> None:
    """.dockerignore lets through what the Dockerfile copies: no .env, no ledger, no history."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}

    assert "*" in lines
    assert let_through == {*copied(), "requirements.txt", "constraints.txt"}
    for name in let_through:
        assert (ROOT / name).exists(), name


@contextlib.contextmanager
def image_folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder with exactly the files that the image has, which nobody may write."""
    folder = tmp_path / "bridge"
    folder.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield folder
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_image_answers_calls_on_a_read_only_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is copied is enough, its user writes none of it, its health check tells the truth."""
    port = str(demo.free_port())
    spare = tmp_path / "tmp"
    spare.mkdir()
    spare.chmod(0o777)
    as_nobody = NOBODY if os.getuid() == 0 else []
    if as_nobody and not shutil.which("setpriv"):
        pytest.skip("no setpriv (util-linux): as root every folder can be written")
    with image_folder(tmp_path) as folder, gateway_running() as gateway:
        env = demo.environment(f"http://{gateway.origin}", f"http://127.0.0.1:{port}", tmp_path)
        env |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(spare), "HOME": "/"}
        env["DATABASE_URL"] = f"sqlite:///{spare / 'ledger.sqlite3'}"
        files = sorted(folder.rglob("*"))
        check = [*as_nobody, *command(said("HEALTHCHECK"))]
        before = subprocess.run(check, env=env, capture_output=True, check=False)
        with contextlib.ExitStack() as stage:
            monkeypatch.setattr(demo, "ROOT", folder)
            run = [*as_nobody, *command(said("CMD"))]
            url = env["PUBLIC_URL"]
            process = demo.start(stage, run, env, tmp_path / "image.log", url)
            uids = Path(f"/proc/{process.pid}/status").read_text().partition("Uid:\t")[2].split()
            healthy = subprocess.run(check, env=env, capture_output=True, check=False)
            carrier = CARRIERS["telnyx"](env["TELNYX_PRIVATE_KEY"])
            caller = carrier.new_call("+14155550100", "+14155550123")
            way = Ring(f"{url}/telnyx/voice", f"{url}/telnyx/voice")
            report = make_call(carrier, caller, Script(way, tone(0.1), listen_s=0.1))

        assert (before.returncode, healthy.returncode) == (1, 0), healthy.stderr
        assert report.outcome == "answered", report.as_text()
        assert uids[0] != "0"
        assert sorted(folder.rglob("*")) == files
        assert (spare / "ledger.sqlite3").exists()


def test_health_check_wants_a_200() -> None:
    """Whoever answers on that port with something else is no healthy bridge."""
    with Server(answer(503, {})) as server:
        port = str(urlsplit(server.url).port)
        check = command(said("HEALTHCHECK"))
        result = subprocess.run(
            [sys.executable, *check[1:]],
            env=os.environ | {"PORT": port},
            capture_output=True,
            check=False,
        )

    assert result.returncode == 1


def test_image_keeps_its_ledger_where_it_may_write(tmp_path: Path) -> None:
    """Without DATABASE_URL of your own it is in /data, which is a volume."""
    assert "DATABASE_URL=sqlite:////data/ledger.sqlite3" in said("ENV").split()
    assert said("VOLUME") == "/data"


def services() -> dict[str, Any]:
    """Return compose.yaml's services."""
    found: dict[str, Any] = COMPOSE["services"]
    return found


@pytest.mark.parametrize("name", ["web", "release"])
def test_composed_bridge_may_do_little(name: str) -> None:
    """A read-only root, no capabilities, none to be gained."""
    service = services()[name]

    assert service["build"] == "."
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "volumes" not in service


def test_composed_bridge_waits_for_its_schema() -> None:
    """Postgres is ready, then the Procfile's release runs, then web starts."""
    web, release, postgres = (services()[name] for name in ("web", "release", "postgres"))
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())

    assert web["depends_on"] == {"release": {"condition": "service_completed_successfully"}}
    assert release["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert " ".join(release["command"]) == procfile["release"]
    assert "pg_isready" in postgres["healthcheck"]["test"]
    assert postgres["volumes"] == ["ledger:/var/lib/postgresql/data"]
    assert "ledger" in COMPOSE["volumes"]
    assert web["ports"] == ["127.0.0.1:8000:8000"]
    assert web["environment"]["DATABASE_URL"].endswith("@postgres/bridge")
