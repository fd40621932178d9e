"""The arrows of the house, checked. A failure names the file and the import."""

import ast
from pathlib import Path

import pytest

from providers import PROVIDERS
from tests.conftest import ROOT

OURS = {"app", "bridge", "providers", "gateway", "simulator", "demo", "tests"}

# Who may import which of our modules; "providers.base" is the contract, "providers" the registry.
ALLOWED = {
    "app.py": {"bridge", "providers"},
    "bridge": {"bridge", "providers.base"},
    "providers": {"providers"},
    "gateway": {"gateway"},
    "simulator": {"simulator"},
    "demo.py": set(),
    "migrations": {"bridge.ledger"},
    "gunicorn.conf.py": {"app", "bridge"},
}
# What a provider must not look at: everything is in its Webhook.
NO_IO = {"flask", "werkzeug", "requests", "urllib3", "socket", "http", "os", "time", "datetime"}
SLOW_SDKS = {"telnyx", "plivo", "twilio.rest"}


def imported(path: Path) -> set[str]:
    """Return the dotted names of everything a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}: imports are absolute"
            names.add(node.module or "")
    return names


def files(place: str) -> list[Path]:
    """Return the Python files of a package, or a single one."""
    path = ROOT / place
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert found
    return found


@pytest.mark.parametrize("place", sorted(ALLOWED))
def test_imports_point_one_way(place: str) -> None:
    """Data goes down, nothing calls back up."""
    allowed = ALLOWED[place]
    for path in files(place):
        for name in imported(path):
            if name.partition(".")[0] not in OURS:
                continue
            fine = any(name == a or name.startswith(f"{a}.") for a in allowed)
            assert fine, f"{path.relative_to(ROOT)} must not import {name}"


def test_every_python_file_has_its_place() -> None:
    """A new package or file says here what it may import."""
    tops = {
        path.relative_to(ROOT).parts[0]
        for path in ROOT.rglob("*.py")
        if not path.relative_to(ROOT).parts[0].startswith(".")
    }

    assert tops == {*ALLOWED, "tests"}


def test_providers_do_no_io() -> None:
    """No Flask, no network, no clock, no environment."""
    for path in files("providers"):
        tops = {name.partition(".")[0] for name in imported(path)}
        assert not tops & NO_IO, path.name


def test_bridge_knows_no_carrier_by_name() -> None:
    """A fourth carrier changes nothing between the ring and the answer."""
    names = [provider.name for provider in PROVIDERS]
    for path in [*files("bridge"), ROOT / "app.py"]:
        code = without_comments(path)
        for name in names:
            assert name not in code.lower(), f"{path.relative_to(ROOT)} names {name}"


def without_comments(path: Path) -> str:
    """Return a file's code with its comments and docstrings taken out."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.unparse(tree)


def test_web_worker_loads_no_slow_sdk() -> None:
    """The telnyx SDK costs 0.8 s and 56 MB, plivo 27 MB: no import of ours may pull them in."""
    for place in ("app.py", "bridge", "providers"):
        for path in files(place):
            for name in imported(path):
                slow = {sdk for sdk in SLOW_SDKS if name == sdk or name.startswith(f"{sdk}.")}
                assert not slow, f"{path.relative_to(ROOT)} imports {name}"


def test_files_are_short() -> None:
    """Past about 250 lines a file has taken on a second job."""
    for place in ALLOWED:
        for path in files(place):
            lines = len(path.read_text("utf-8").splitlines())
            assert lines <= 260, f"{path.relative_to(ROOT)} has {lines} lines"
