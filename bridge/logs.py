"""Log lines: one JSON object per event on standard output, plain words on a terminal.

Every line that is written while a call is being answered carries what is known of the call, so
that its story is one grep.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

import click

from bridge.redaction import Redaction

PLAIN = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"
MOMENT = "%Y-%m-%d %H:%M:%S %z"
COLORS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31;1m"}
FAINT, RESET = "\033[2m", "\033[0m"

# What a line may say besides its message; units are in the names.
FIELDS = (
    *("provider", "call_id", "line", "agent", "session_id"),
    *("stage", "ms", "event", "secret", "kind", "attempts"),
)

_story: ContextVar[Mapping[str, object]] = ContextVar("story", default={})  # noqa: B039


@contextmanager
def story(**fields: object) -> Iterator[None]:
    """Put these fields on every line that is written inside the block; and what `tell` adds."""
    before = _story.set({**_story.get(), **fields})
    try:
        yield
    finally:
        _story.reset(before)


def tell(**fields: object) -> None:
    """Put these fields, too, on the lines that follow in this story."""
    _story.set({**_story.get(), **fields})


class JsonLines(logging.Formatter):
    """One object per line."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the finished line: every text on it has been through the redaction."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{moment}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_story.get(),
            **{name: vars(record)[name] for name in FIELDS if name in vars(record)},
            "logger": record.name,
            "process": record.process,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        clean = {
            name: value if isinstance(value, int | float | None) else self._redact(str(value))
            for name, value in line.items()
        }
        return json.dumps(clean, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """Words, coloured where somebody is looking."""

    def __init__(self, redact: Redaction, on_terminal: bool) -> None:
        super().__init__(PLAIN, MOMENT)
        self._redact = redact
        self._on_terminal = on_terminal

    def format(self, record: logging.LogRecord) -> str:
        """Return the finished line, with nothing in it that must not be."""
        line = self._redact(super().format(record))
        if not self._on_terminal:
            return line
        color = COLORS.get(record.levelname, FAINT)
        return f"{color}{line}{RESET}"


def formatter(stream: TextIO, kind: str, redact: Redaction) -> logging.Formatter:
    """Return what writes lines to a stream; kind: "auto", "json" or "plain"."""
    if kind == "json" or (kind == "auto" and not stream.isatty()):
        return JsonLines(redact)
    return PlainLines(redact, stream.isatty())


def to_stdout(kind: str, redact: Redaction) -> None:
    """Send the log to standard output, unless somebody has already decided where it goes."""
    if logging.getLogger().handlers:
        return
    stream, level = sys.stdout, logging.INFO
    command = click.get_current_context(silent=True)
    if command and command.info_name != "run":
        # A flask command's output is for the person, or the program, that called it.
        stream, level, kind = sys.stderr, logging.WARNING, "plain"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(stream, kind, redact))
    logging.basicConfig(handlers=[handler], level=level)
    logging.captureWarnings(True)
    threading.excepthook = log_thread


def log_thread(died: threading.ExceptHookArgs) -> None:
    """Log what ended a thread; Python itself would print it, past every formatter."""
    trace = (died.exc_type, died.exc_value, died.exc_traceback)
    name = died.thread.name if died.thread else "(gone)"
    log = logging.getLogger(__name__)
    log.critical("thread %s ended", name, exc_info=trace)  # type: ignore[arg-type]
