"""Write constraints.txt and the table of docs/dependencies.md, from what is installed: `make pins`.

requirements.txt says what we ask for; its packages bring others along, and those are pinned
here, so that tomorrow's installation is today's.
"""

from collections import deque
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
CONSTRAINTS = ROOT / "constraints.txt"
TABLE = ROOT / "docs" / "dependencies.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
HEAD = "# Everything that requirements.txt brings along. Written by `make pins`, not by hand.\n"
TABLE_HEAD = "| package | version | licence | what for |\n|---|---|---|---|\n"


@dataclass
class Dependency:
    """One installed distribution that a deployed bridge needs."""

    name: str  # canonical: lower case, hyphens
    version: str
    licence: str
    purpose: str = ""  # our comment in requirements.txt; empty for what others bring along
    asked_by: set[str] = field(default_factory=set)

    @property
    def what_for(self) -> str:
        """Our words, or the packages that need it."""
        return self.purpose or f"for {', '.join(sorted(self.asked_by))}"


def asked_for() -> dict[str, tuple[Requirement, str]]:
    """Return what requirements.txt names: the requirement, and our comment on it."""
    found: dict[str, tuple[Requirement, str]] = {}
    for line in REQUIREMENTS.read_text("utf-8").splitlines():
        wanted, _, comment = line.partition("#")
        if wanted.strip() and not wanted.startswith("-"):
            requirement = Requirement(wanted.strip())
            found[canonicalize_name(requirement.name)] = (requirement, comment.strip())
    return found


def pulled_in() -> dict[str, Dependency]:
    """Return those and everything they bring along, extras and markers heeded."""
    ours = asked_for()
    found: dict[str, Dependency] = {}
    seen: set[tuple[str, str]] = set()  # a package, and one of its extras or ""
    waiting = deque((requirement, "") for requirement, _ in ours.values())
    while waiting:
        requirement, asker = waiting.popleft()
        name = canonicalize_name(requirement.name)
        installed = distribution(name)
        if name not in found:
            purpose = ours[name][1] if name in ours else ""
            found[name] = Dependency(name, installed.version, licence_of(installed), purpose)
        found[name].asked_by |= {asker} - {"", name}
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            needed = [Requirement(text) for text in installed.requires or []]
            waiting.extend((one, name) for one in needed if applies(one, extra))
    return dict(sorted(found.items()))


def applies(needed: Requirement, extra: str) -> bool:
    """Say whether a package needs this on some Python of ours, and has it on this one."""
    if needed.marker is None:
        return extra == ""
    asked = [
        {"extra": extra, "python_version": v, "python_full_version": f"{v}.0"} for v in PYTHONS
    ]
    if needed.marker.evaluate({"extra": extra}):
        return True
    return any(map(needed.marker.evaluate, asked)) and is_installed(needed.name)


def is_installed(name: str) -> bool:
    """Say whether a distribution is here."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def licence_of(installed: Distribution) -> str:
    """Return what the package says about itself: SPDX, else its own words, else a classifier."""
    metadata = installed.metadata
    for name in ("License-Expression", "License"):
        said = " ".join(metadata.get_all(name) or [])
        if said and "\n" not in said and len(said) < 60:
            return said
    classifiers = metadata.get_all("Classifier") or []
    found = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return ", ".join(found) or "not stated"


def constraints() -> str:
    """Return constraints.txt as it should be: what requirements.txt does not pin itself."""
    pins = (found for name, found in pulled_in().items() if name not in asked_for())
    return HEAD + "".join(f"{found.name}=={found.version}\n" for found in pins)


def table() -> str:
    """Return the rows of docs/dependencies.md as they should be."""
    rows = (
        f"| {found.name} | {found.version} | {found.licence} | {found.what_for} |\n"
        for found in pulled_in().values()
    )
    return TABLE_HEAD + "".join(rows)


if __name__ == "__main__":
    CONSTRAINTS.write_text(constraints(), "utf-8")
    before = TABLE.read_text("utf-8").partition(TABLE_HEAD)[0]
    TABLE.write_text(before + table(), "utf-8")
