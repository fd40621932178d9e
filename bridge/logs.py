"""Log lines: one JSON object per event on standard output, plain words on a terminal.

Every line that is written while a call is being answered carries what is known of the call, so
that its story is one grep.
"""

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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

NUMBERS = ("ms", "attempts", "process")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

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
        if record.stack_info:
            line["stack"] = record.stack_info
        clean = {
            name: value if value is None or name in NUMBERS else self._redact(str(value))
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
        """Return the finished line, with nothing in it that must not be, and no second line."""
        # Only a traceback goes over several lines: a stranger's path must not look like ours.
        shown = logging.makeLogRecord(vars(record))
        message = record.getMessage()
        call_id = str(_story.get().get("call_id", ""))
        if call_id not in message:
            message = f"{message} (call {call_id})"
        shown.msg, shown.args = CONTROL.sub(escaped, self._redact(message)), ()
        line = self._redact(super().format(shown))
        if not self._on_terminal:
            return line
        color = COLORS.get(record.levelname, FAINT)
        return f"{color}{line}{RESET}"


def escaped(character: re.Match[str]) -> str:
    """Return a control character as Python writes it."""
    return repr(character[0])[1:-1]


class Lines(logging.StreamHandler[TextIO]):
    """Writes finished lines."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say where a line could not be written; logging would print what was to be in it."""
        place = f"{record.pathname}:{record.lineno}"
        with suppress(Exception):
            self.stream.write(f"a log line could not be written: {place}\n")


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
    handler = Lines(stream)
    handler.setFormatter(formatter(stream, kind, redact))
    logging.basicConfig(handlers=[handler], level=level)
    logging.getLogger("werkzeug").addFilter(without_query)
    log_what_python_prints()


def log_what_python_prints() -> None:
    """Log what Python would print to standard error, past every formatter."""
    log = logging.getLogger(__name__)

    def thread_died(died: threading.ExceptHookArgs) -> None:
        trace = (died.exc_type, died.exc_value, died.exc_traceback)
        name = died.thread.name if died.thread else "(gone)"
        log.critical("thread %s ended", name, exc_info=trace)  # type: ignore[arg-type]

    def not_raised(event: Any) -> None:
        trace = (event.exc_type, event.exc_value, event.exc_traceback)
        log.error("%s", event.err_msg or "an error that nobody could catch", exc_info=trace)

    def uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        log.critical("the process ends", exc_info=(kind, error, trace))

    logging.captureWarnings(True)
    logging.raiseExceptions = False
    threading.excepthook = thread_died
    sys.unraisablehook = not_raised
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = uncaught


def without_query(record: logging.LogRecord) -> bool:
    """Take the queries out of the lines of `flask run`: numbers and names are in them."""
    record.msg, record.args = re.sub(r"\?[^\s\"]*", "", record.getMessage()), ()
    return True
