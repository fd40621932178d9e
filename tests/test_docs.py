"""What is written about the project is true of it."""

import re
from collections.abc import Iterator, Mapping

import click
import pytest

from app import create_app
from gateway.__main__ import main as gateway
from providers import PROVIDERS
from simulator.__main__ import EXIT_CODES
from simulator.__main__ import main as simulator
from tests.conftest import ROOT, FakeLedger, FakeStart, environment

README = (ROOT / "README.md").read_text("utf-8")
LOCAL = (ROOT / "docs" / "local.md").read_text("utf-8")
INTEROP = (ROOT / "docs" / "interop.md").read_text("utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
SIMULATOR_ONLY = {"TELNYX_PRIVATE_KEY"}  # in .env.example for the simulator, not for the bridge


class Watched(Mapping[str, str]):
    """An environment that notes which variables are looked at."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return self.env[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.env)

    def __len__(self) -> int:
        return len(self.env)


def section(text: str, heading: str) -> str:
    """Return what stands below a heading."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row but the heads'."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for n, row in enumerate(cells) if not row[0].startswith("---") and n > 0]


def variables_read() -> set[str]:
    """Return the variables that the bridge and gunicorn's configuration look at."""
    env = Watched(environment())
    create_app(env, FakeStart(), FakeLedger())  # type: ignore[arg-type]
    configuration = (ROOT / "gunicorn.conf.py").read_text("utf-8")
    return env.read | set(re.findall(r"environ\.get\([\"']([A-Z_]+)[\"']", configuration))


def test_variables_are_those_the_code_reads() -> None:
    """README's table: no more and no fewer."""
    documented = {row[0].strip("`") for row in rows(section(README, "Variables"))}

    assert documented == variables_read()


def test_env_example_names_every_variable() -> None:
    """No more and no fewer, and each one with its default where it has one."""
    named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    defaults = {row[0].strip("`"): row[2] for row in rows(section(README, "Variables"))}

    assert named.keys() - SIMULATOR_ONLY == variables_read()
    for name, default in defaults.items():
        assert named[name] == (default.strip("`") if default.startswith("`") else ""), name


def test_env_for_your_own_machine_works_as_it_is() -> None:
    """The block in docs/local.md starts a bridge, once --new-key has added its two lines."""
    block = LOCAL.partition("cat > .env <<'EOF'\n")[2].partition("\nEOF")[0]
    env = dict(line.split("=", 1) for line in block.splitlines())
    app = create_app(env, FakeStart(), FakeLedger())  # type: ignore[arg-type]

    assert {"/twilio/voice", "/plivo/voice"} <= {rule.rule for rule in app.url_map.iter_rules()}
    assert env["PIPECAT_START_URL"].startswith("http://127.0.0.1:7860/")
    assert env["PIPECAT_PUBLIC_KEY"] == "pk_local"


def test_routes_are_those_of_the_app() -> None:
    """README's table: no more and no fewer."""
    app = create_app(environment(), FakeStart(), FakeLedger())  # type: ignore[arg-type]
    served = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    documented = {
        route
        for row in rows(section(README, "Routes"))
        for route in re.findall(r"`([^`]+)`", row[0])
    }

    assert documented == served


def test_every_carrier_has_its_console_steps() -> None:
    """Where to paste which URL."""
    steps = section(README, "Point a number at it")

    for provider in PROVIDERS:
        assert f"/{provider.name}/voice" in steps
        assert provider.secret_variable in steps


@pytest.mark.parametrize(
    ("command", "heading"),
    [
        (gateway, "The gateway: Pipecat Cloud on your own machine"),
        (simulator, "The simulator: a carrier on your laptop"),
    ],
)
def test_options_are_those_of_the_command(command: click.Command, heading: str) -> None:
    """docs/local.md's tables: no more and no fewer."""
    documented = {
        option
        for row in rows(section(LOCAL, heading))
        for option in re.findall(r"`(--[a-z-]+)`", row[0])
    }
    taken = {name for p in command.params for name in p.opts if name.startswith("--")}

    assert documented == taken


def test_exit_codes_are_those_of_the_help() -> None:
    """The same four."""
    documented = {row[0] for row in rows(LOCAL) if row[0].isdecimal()}

    assert documented == set(re.findall(r"^  (\d)  ", EXIT_CODES, re.MULTILINE))


def test_make_commands_exist() -> None:
    """Every `make ...` in the documentation is a target."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    texts = [README, LOCAL, INTEROP, (ROOT / "CHANGELOG.md").read_text("utf-8")]
    for text in texts:
        named = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)`", text, re.MULTILINE))
        assert {a or b for a, b in named} <= targets


def test_log_lines_that_the_readme_explains_are_written() -> None:
    """The words in the troubleshooting table are the code's words."""
    files = [*(ROOT / "bridge").glob("*.py"), *(ROOT / "providers").glob("*.py")]
    code = "".join(path.read_text("utf-8") for path in files)
    shown: list[str] = [row[0] for row in rows(section(README, "When calls do not get through"))]
    for phrase in (
        "webhook refused",
        "signature does not match",
        "timestamp is",
        "gets %s.xml: %s",
        "the answer has no 'token'",
    ):
        words = phrase.replace("%s.xml: %s", "sorry.xml: ")
        assert any(words in cell for cell in shown), phrase
        assert phrase in code, phrase


def test_links_lead_somewhere() -> None:
    """Every relative link in the documentation is a file."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_prose_has_one_sentence_per_line() -> None:
    """So that a diff shows sentences."""
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))):
        prose = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
        for line in prose.splitlines():
            if not line.lstrip().startswith("|"):
                assert not re.search(r"[a-z`)]\. [A-Z]", line), f"{path.name}: {line}"


def test_proofs_exist() -> None:
    """Every file that docs/reliability.md names as proof is there, and every fault has its row."""
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    for proof in re.findall(r"`(tests/\w+\.py)`", text):
        assert (ROOT / proof).exists(), proof
    faults = (ROOT / "tests" / "test_faults.py").read_text("utf-8")
    tried = re.findall(r"^def test_\w+|ids=\[(.*)\]", faults, re.MULTILINE)
    variants = sum(len(ids.split(",")) - 1 for ids in tried if ids)
    count = len(re.findall(r"^def test_", faults, re.MULTILINE)) + variants
    assert len(rows(section(text, "Figures"))) == count


def test_interop_versions_are_those_that_are_installed() -> None:
    """docs/interop.md says what passed with which versions: those that `make interop` installs."""
    pins = (ROOT / "requirements-interop.txt").read_text("utf-8")
    installed = dict(re.findall(r"^([a-z-]+)(?:\[.*\])?==([0-9.]+)", pins, re.MULTILINE))
    table = rows(INTEROP.partition("\n## ")[0])

    assert {row[0].strip("`"): row[1] for row in table} == installed
    assert len(installed) == 2
    assert "(docs/interop.md)" in section(README, "Without a phone")


def test_interop_files_exist() -> None:
    """Every file of ours that docs/interop.md names."""
    for path in re.findall(r"`(tests/[\w/]+\.py)`", INTEROP):
        assert (ROOT / path).exists(), path
