"""Reads what the person at the terminal tells about a request."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from bridge.environment import split_http_url
from bridge.numbers import VARIABLE
from providers.base import FORM, BadSecret, Provider

HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:(.*)", re.DOTALL)


class Moment(click.ParamType[float]):
    """Unix seconds, or 2026-01-31T12:00:00Z; a moment without an offset is UTC."""

    name = "MOMENT"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return Unix seconds."""
        if isinstance(value, int | float):
            return float(value)
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value):
            return float(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r}: give Unix seconds, or 2026-01-31T12:00:00Z", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Header(click.ParamType[tuple[str, str]]):
    """A header as it stands in a request; its value may be a secret and is never shown."""

    name = "HEADER"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Return name and value."""
        if isinstance(value, tuple):
            return value
        found = HEADER.fullmatch(value)
        if not found:
            self.fail("give it as 'Name: value'", param, ctx)
        return found[1].lower(), found[2].strip()


class DialledUrl(click.ParamType[str]):
    """A URL that a carrier can dial. It is not repeated: its query may hold anything."""

    name = "URL"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return it as it is."""
        # Copied out of a log, its path and query may hold what no URL holds: they were decoded.
        origin = re.match(r"https?://[^/?#]+", str(value))
        if not origin or not split_http_url(origin[0]) or "#" in value:
            self.fail("give it as the carrier dials it: https://host/path", param, ctx)
        return str(value)


def headers_of(given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their lower-case names; one that comes twice is one with a comma."""
    headers: dict[str, str] = {}
    for name, value in given:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    headers.setdefault("content-type", FORM)  # what every carrier sends
    return headers


def other_providers(
    provider: Provider, variables: Sequence[str], env: Mapping[str, str]
) -> dict[str, Provider]:
    """Return the provider with the secret of each of these variables; or stop with a message."""
    others: dict[str, Provider] = {}
    for variable in variables:
        # What is no name may be the secret itself: it is not repeated.
        if not VARIABLE.fullmatch(variable):
            message = "--secret-variable wants the name of a variable, never the secret itself"
            raise click.UsageError(message)
        value = env.get(variable, "").strip()
        if not value:
            raise click.UsageError("a variable that --secret-variable names is not set")
        try:
            others[variable] = type(provider)({provider.secret_variable: value})
        except BadSecret as error:
            message = f"what {variable} holds is no secret of {provider.name}"
            raise click.UsageError(message) from error
    return others


def now() -> float:
    """Return Unix seconds."""
    return time.time()
