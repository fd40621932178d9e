"""Which number reaches which agent: reads numbers.toml into lines, and names every fault in it."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge import checks
from bridge.caller_data import too_much
from bridge.checks import Unusable
from bridge.line import Line, Lines, Sorry, key_of
from bridge.toml_position import line_number
from providers.base import Provider

FILE = "numbers.toml"
VARIABLE = re.compile(r"(?![ps]k_)[A-Za-z_][A-Za-z0-9_]*")
NUMBER_WITHOUT_QUOTES = re.compile(r"(?m)^\s*\[\s*\+")
QUOTE_IT = '; numbers stand in quotes: ["+14155550100"]'
MOST_PLACES = 20  # faults whose line is looked up; that takes a moment each
KEYS: Mapping[str, Callable[[Any], Any]] = {
    "agent": checks.text,
    "public_key": checks.text,
    "body": checks.json_object,
    "deadline_s": checks.deadline_s,
    "hold_message": checks.message,
    "sorry": checks.table,
    "accept": checks.one_of("answer", "reject", "busy"),
    "websocket_auth": checks.one_of("token", "none"),
    "organization": checks.text,
    "region": checks.text,
}
SORRY_KEYS: Mapping[str, Callable[[Any], Any]] = {
    "message": checks.message,
    "dial": checks.phone_number,
    "caller_id": checks.phone_number,
    "timeout_s": checks.ring_timeout_s,
    "voice": checks.text,
}


class Numbers:
    """One numbers.toml. Faults are noted with file and line, so that all are named at once."""

    def __init__(self, name: str, text: str, env: Mapping[str, str], faults: list[str]) -> None:
        """Take the text, and what it is called in a message."""
        self._name = name
        self._text = text
        self._env = env
        self._faults = faults
        self._noted = 0

    def read(self, base: Line, providers: Sequence[Provider]) -> Lines:
        """Return every line; `base` has what the environment says where a line says nothing."""
        try:
            content = tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
            cure = NUMBER_WITHOUT_QUOTES.search(self._text) and QUOTE_IT
            self._faults.append(f"{self._name} is no TOML: {error}{cure or ''}")
            return Lines(base)
        default, listed, spelled = base, dict[str, Line](), dict[str, str]()
        # [default] first, wherever it stands: the others inherit from it.
        for name in sorted(content, key="default".__ne__):
            path = (name,)
            key = "default" if name == "default" else key_of(name)
            if not key:
                cure = 'write "+14155550100", "sip:name@example.com", "client:name" or default'
                self._fault(path, f"is no number: {cure}")
            elif not isinstance(content[name], dict):
                self._fault(path, f'is no table: write ["{name}"] and its keys below')
            elif key in listed:
                self._fault(path, f"is the same number as {spelled[key]!r}: keep one of them")
            elif key == "default":
                default = self._line(path, content[name], base, providers)
            else:
                spelled[key] = name
                listed[key] = self._line(path, content[name], default, providers)
                if not listed[key].agent and listed[key].accept == "answer":
                    self._fault(path, "has no agent: name it here, or in [default]")
        return Lines(default, listed)

    def _line(
        self, path: Sequence[str], table: Any, base: Line, providers: Sequence[Provider]
    ) -> Line:
        found = dict(self._values(path, table, KEYS))
        sorry = self._sorry((*path, "sorry"), found.pop("sorry", {}), base.sorry, providers)
        if "hold_message" in found:
            found["hold"] = replace(base.hold, message=found.pop("hold_message"))
        if "public_key" in found:
            found["public_key"] = self._public_key((*path, "public_key"), found["public_key"])
        for provider in providers:
            if problem := too_much(provider, found.get("body", {})):
                self._fault((*path, "body"), problem)
        return replace(base, sorry=sorry, **found)

    def _sorry(
        self, path: Sequence[str], table: Any, base: Sorry, providers: Sequence[Provider]
    ) -> Sorry:
        found = dict(self._values(path, table, SORRY_KEYS))
        voice = found.get("voice")
        if voice and providers and not any(p.voice(voice) for p in providers):
            names = ", ".join(provider.name for provider in providers)
            problem = f'is {voice!r}, no voice of {names}: "Polly.Joanna" is one'
            self._fault((*path, "voice"), problem)
        return replace(base, **found)

    def _public_key(self, path: Sequence[str], variable: str) -> str:
        """Return the key that a variable holds; a file is no place for it."""
        if not VARIABLE.fullmatch(variable):
            self._fault(path, "names no variable: put the key into one, and its name here")
            return "unknown"
        value = self._env.get(variable, "").strip()
        if problem := checks.public_key_problem(value):
            self._fault(path, f"names the variable {variable}, which {problem}")
        return value or "unknown"

    def _values(
        self, path: Sequence[str], table: Mapping[str, Any], keys: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """Yield every usable key and its value; note the others."""
        for name, value in table.items():
            where = (*path, name)
            if name not in keys:
                self._fault(where, f"is unknown: there are {', '.join(sorted(keys))}")
                continue
            try:
                yield name, keys[name](value)
            except Unusable as error:
                self._fault(where, str(error))

    def _fault(self, path: Sequence[str], problem: str) -> None:
        self._noted += 1
        where = line_number(self._text, path) if self._noted <= MOST_PLACES else "?"
        shown = ".".join(part if part.isidentifier() else f'"{part}"' for part in path)
        self._faults.append(f"{self._name} line {where}: {shown} {problem}")


def read_numbers(
    env: Mapping[str, str], base: Line, providers: Sequence[Provider], faults: list[str]
) -> Lines:
    """Return the lines of NUMBERS, NUMBERS_FILE or ./numbers.toml; without any, `base` alone."""
    text, path = env.get("NUMBERS", "").strip(), env.get("NUMBERS_FILE", "").strip()
    if text and path:
        faults.append("NUMBERS and NUMBERS_FILE are both set: keep one of them")
    elif text:
        text = with_line_ends(env["NUMBERS"].removeprefix("\ufeff"))
        return Numbers("NUMBERS", text, env, faults).read(base, providers)
    elif path or Path(FILE).exists():
        path = path or FILE
        try:
            text = Path(path).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            faults.append(f"{path} cannot be read: {reason}; NUMBERS_FILE says which file")
        else:
            return Numbers(path, text, env, faults).read(base, providers)
    return Lines(base)


def with_line_ends(text: str) -> str:
    """Return the text of a variable; where no line can end, some platforms write \\n instead."""
    if "\n" in text or "\\n" not in text:
        return text
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return text.replace("\\n", "\n")
    return text
