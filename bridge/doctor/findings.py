"""What a check says: how bad it is, what was seen, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import click

Level = Literal["note", "ok", "warning", "error"]  # a note is no verdict: something to know, to do
COLOURS: dict[Level, str] = {"note": "blue", "ok": "green", "warning": "yellow", "error": "red"}
WIDEST = max(map(len, COLOURS))


@dataclass(frozen=True)
class Finding:
    """One thing that a check saw. Neither text ever holds a secret or a token."""

    level: Level
    what: str
    cure: str = ""


@dataclass(frozen=True)
class Report:
    """Every finding, under the heading of the check that made it."""

    groups: Sequence[tuple[str, Sequence[Finding]]]

    def count(self, level: Level) -> int:
        """Return how many findings are of this level."""
        return sum(finding.level == level for _, findings in self.groups for finding in findings)

    @property
    def exit_code(self) -> int:
        """0: calls can come, whatever the warnings say; 1: there is an error."""
        return 1 if self.count("error") else 0

    def as_json(self) -> dict[str, object]:
        """Return {"errors": n, "warnings": n, "findings": [{check, level, what, cure}]}."""
        return {
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "findings": [
                {"check": heading, **asdict(finding)}
                for heading, findings in self.groups
                for finding in findings
            ],
        }

    def as_lines(self) -> Iterator[str]:
        """Yield one line per finding, grouped; colours go where the output is no terminal."""
        for heading, findings in self.groups:
            if not findings:
                continue
            yield click.style(heading, bold=True)
            for finding in findings:
                mark = click.style(finding.level.ljust(WIDEST), fg=COLOURS[finding.level])
                cure = f" -> {finding.cure}" if finding.cure else ""
                yield f"  {mark}  {finding.what}{cure}"
        yield f"{self._counted('error')}, {self._counted('warning')}"

    def _counted(self, level: Level) -> str:
        count = self.count(level)
        return f"{count} {level}" + ("" if count == 1 else "s")
