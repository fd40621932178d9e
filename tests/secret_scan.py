"""Look for secrets in every file that git tracks: `make audit`; `--accept` after a look at each.

Works without a network. tests/known_secrets.json has what was looked at: test secrets, and text
that only looks like one. Only hashes are in it.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parent.parent
KNOWN = ROOT / "tests" / "known_secrets.json"
OURS = {"name": "SecretOfTheBridge", "path": f"file://{ROOT / 'tests' / 'secret_patterns.py'}"}
# Of the library's own, all that name a kind of secret and those for random text; not its
# KeywordDetector, which takes every `secret = "word"` for one.
THEIRS = (
    "AWSKeyDetector",
    "ArtifactoryDetector",
    "AzureStorageKeyDetector",
    "Base64HighEntropyString",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "HexHighEntropyString",
    "JwtTokenDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
HARMLESS = (
    "detect_secrets.filters.allowlist.is_line_allowlisted",
    "detect_secrets.filters.heuristic.is_sequential_string",
    "detect_secrets.filters.heuristic.is_templated_secret",
)


def main(arguments: Sequence[str], folder: Path = ROOT) -> int:
    """Return 1 if there is a secret that nobody has looked at, after naming its place."""
    found = list(secrets_in(folder, tracked(folder)))
    if "--accept" in arguments:
        KNOWN.write_text(json.dumps(by_file(found), indent=2) + "\n", "utf-8")
        say(f"{len(found)} places are known from now on: git diff {KNOWN.relative_to(ROOT)}")
        return 0
    known = json.loads(KNOWN.read_text("utf-8"))
    new = [one for one in found if fingerprint(one) not in known.get(one.filename, [])]
    for one in new:
        say(f"{one.filename}:{one.line_number}: {one.type}")
    if new:
        say("a secret: take it out, and change it where it is in use (docs/secrets.md)")
        say("none: python -m tests.secret_scan --accept")
    else:
        say(f"{len(found)} places that look like a secret, all of them known")
    return 1 if new else 0


def tracked(folder: Path) -> list[str]:
    """Return the files that git tracks, or would if they were added now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (folder / name).is_file()]


def secrets_in(folder: Path, files: Iterable[str]) -> Iterable[PotentialSecret]:
    """Yield everything in these files that looks like a secret."""
    settings = {
        "plugins_used": [*({"name": name} for name in THEIRS), OURS],
        "filters_used": [{"path": path} for path in HARMLESS],
    }
    with transient_settings(settings):
        found = SecretsCollection(str(folder))
        for name in files:
            if folder / name != KNOWN:
                found.scan_file(name)
        for _, one in found:
            one.filename = str(Path(one.filename).relative_to(folder))
            yield one


def by_file(found: Iterable[PotentialSecret]) -> dict[str, list[str]]:
    """Return what is kept of them; not their lines, which move."""
    files: dict[str, set[str]] = {}
    for one in found:
        files.setdefault(one.filename, set()).add(fingerprint(one))
    return {name: sorted(files[name]) for name in sorted(files)}


def fingerprint(one: PotentialSecret) -> str:
    """Return what tells one secret from another and does not give it away."""
    return f"{one.type} {one.secret_hash}"


def say(line: str) -> None:
    """Print one line."""
    print(f"secrets: {line}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
