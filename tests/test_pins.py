"""The same installation tomorrow, under licences that somebody has read."""

import re

from packaging.utils import canonicalize_name

from tests import pins
from tests.conftest import ROOT

ASKED = pins.asked_for()
CURE = "run `make pins` and commit what it wrote"
COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|Mozilla", re.IGNORECASE)


def pinned() -> dict[str, str]:
    """Return the pins of constraints.txt."""
    lines = pins.CONSTRAINTS.read_text("utf-8").splitlines()[1:]
    return dict(line.split("==") for line in lines)


def test_everything_that_comes_along_is_pinned() -> None:
    """What requirements.txt brings along has its exact version in one of the two files."""
    ours = {name: str(requirement.specifier)[2:] for name, (requirement, _) in ASKED.items()}
    exact = pinned() | ours
    wanted = {name: found.version for name, found in pins.pulled_in().items()}
    differing = {name for name, version in wanted.items() if exact.get(name) != version}

    assert not differing, f"{sorted(differing)}: {CURE}"


def test_pins_are_in_use() -> None:
    """requirements.txt sends pip to constraints.txt; each package is pinned in one of the two."""
    assert "\n-c constraints.txt\n" in pins.REQUIREMENTS.read_text("utf-8")
    assert not pinned().keys() & ASKED.keys()


def test_constraints_are_written_by_the_command() -> None:
    """Sorted, in canonical spelling, with nothing added or left over by hand."""
    assert pins.CONSTRAINTS.read_text("utf-8") == pins.constraints(), CURE
    assert all(name == canonicalize_name(name) for name in pinned())


def test_licences_are_those_of_the_metadata() -> None:
    """docs/dependencies.md: each package, its version, its licence and what it is for."""
    assert pins.TABLE.read_text("utf-8").endswith(pins.table()), CURE


def test_every_requirement_says_what_it_is_for() -> None:
    """The comment in requirements.txt is the table's last column."""
    for name, (_, purpose) in ASKED.items():
        assert purpose, f"{name} has no comment in requirements.txt"


def test_licences_that_ask_for_more_are_named_in_words() -> None:
    """Whatever is not simply permissive stands above the table, where a reader looks first."""
    prose = pins.TABLE.read_text("utf-8").partition(pins.TABLE_HEAD)[0]
    for found in pins.pulled_in().values():
        assert found.licence != "not stated", found.name
        if COPYLEFT.search(found.licence):
            assert re.search(rf"\b{re.escape(found.name)}\b", prose), f"{found.name} is not named"


def test_heroku_finds_one_package_manager() -> None:
    """Its build fails when requirements.txt has a lock file of another tool beside it."""
    for name in ("uv.lock", "poetry.lock", "Pipfile", "Pipfile.lock"):
        assert not (ROOT / name).exists(), name
    assert re.fullmatch(r"3\.\d+\n", (ROOT / ".python-version").read_text("utf-8"))
