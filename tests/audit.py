"""Ask whether a vulnerability of what we install is known: `make audit`.

Exit code 1 if one is, or if nobody could be made sense of; 0 if none is known, and also if no
vulnerability service can be reached: a machine without internet says so and goes on.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = ("requirements.txt", "constraints.txt", "requirements-dev.txt")
# What requests and urllib3 say when there is no way to the service.
UNREACHABLE = (
    "NameResolutionError",
    "NewConnectionError",
    "ConnectTimeout",
    "Could not connect to",
    "ProxyError",
    "Network is unreachable",
    "Connection refused",
)


def main(arguments: Sequence[str]) -> int:
    """Audit every pinned package; `arguments` go to pip-audit."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text("\n".join(pinned()) + "\n", "utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins)]
        # The pins are complete: nothing is to be resolved, and pip is not asked.
        command += ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
        command += ["--timeout=5", f"--cache-dir={folder}", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except (ValueError, KeyError):
        return without_an_answer(result.stderr)
    return report(packages)


def pinned() -> list[str]:
    """Return every pin of the requirement files, each once."""
    lines = [line for name in FILES for line in (ROOT / name).read_text("utf-8").splitlines()]
    pins = (line.partition("#")[0].partition(";")[0].strip() for line in lines)
    return sorted({pin for pin in pins if pin and not pin.startswith("-")})


def without_an_answer(errors: str) -> int:
    """Tell a machine without internet from an audit that went wrong."""
    if any(sign in errors for sign in UNREACHABLE):
        say("NOT AUDITED: no vulnerability service can be reached from this machine.")
        return 0
    say(f"the audit failed:{os.linesep}{errors.strip()[-2000:]}")
    return 1


def report(packages: Sequence[dict[str, object]]) -> int:
    """Name what is vulnerable and what nobody knows; a mirror of PyPI may know nothing at all."""
    vulnerable = [package for package in packages if package.get("vulns")]
    unknown = [str(package["name"]) for package in packages if "skip_reason" in package]
    for package in vulnerable:
        found = package["vulns"]
        assert isinstance(found, list)
        known = ", ".join(str(one["id"]) for one in found)
        say(f"{package['name']} {package['version']} is vulnerable: {known}")
    if len(unknown) == len(packages):
        say("NOT AUDITED: this machine's way to pypi.org knows no vulnerabilities of any package.")
    elif unknown:
        say(f"NOT AUDITED, because pypi.org does not know them: {', '.join(unknown)}")
    if not vulnerable and len(unknown) < len(packages):
        say(f"{len(packages) - len(unknown)} packages, no known vulnerability")
    return 1 if vulnerable else 0


def say(line: str) -> None:
    """Print one line."""
    print(f"audit: {line}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
