"""The client of /start: asks Pipecat Cloud for a place where a bot waits for one caller.

https://docs.pipecat.ai/pipecat-cloud/guides/websocket-authentication
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bridge.deadline_http import (
    AnswerTooLong,
    ConnectionBroken,
    DeadlineHttp,
    DeadlinePassed,
    HttpAnswer,
)
from bridge.errors import StartFailed
from bridge.line import Line
from bridge.socket_url import UnusableSocketUrl, check_socket_url

# A connection that the server had already closed is replaced at once; anything else gets time.
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 1.0

# What a path segment may hold unencoded (RFC 3986 pchar), without the escape character.
PATH_SAFE = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@]+")


# It goes into log lines: short, and nothing that could end a line.
SESSION_ID = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True)
class Session:
    """A place where one bot waits for one caller."""

    ws_url: str  # as /start returned it, "wss://..."; never built by hand
    # Opens ws_url once, within 300 s; never log it. "": the agent asks for none.
    token: str = field(repr=False)
    id: str | None = None  # joins our log lines with theirs; the development runner sends none
    attempts: int = field(default=1, compare=False)  # requests that it took


class StartClient:
    """Asks /start for sessions, within a deadline that holds whatever the server does."""

    def __init__(
        self,
        start_url: str,
        transport: str,
        http: DeadlineHttp | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._start_url = start_url
        self._transport = transport
        self._http = http or DeadlineHttp(start_url)
        self._sleep = sleep

    def start(self, line: Line, provider: str, deadline: float) -> Session:
        """Return a fresh session, or raise StartFailed saying why there is none.

        deadline: monotonic seconds; slow answers, waits and retries end there.
        A second mint after a lost answer is safe: no bot starts before a socket connects.
        """
        attempts = 0
        failure: StartFailed | None = None
        while True:
            attempts += 1
            wait_s = min(FIRST_WAIT_S * 2 ** (attempts - 1), LONGEST_WAIT_S)
            try:
                answer = self._ask(line, provider, deadline)
            except DeadlinePassed as error:
                before = f"; before that: {failure}" if failure else ""
                what = f"{error} (START_DEADLINE_S, or the line's deadline_s){before}"
                full = failure is not None and failure.kind == "at_capacity"
                raise StartFailed("at_capacity" if full else "deadline", what, attempts) from error
            except AnswerTooLong as error:
                raise StartFailed("garbage", f"the answer has {error}", attempts) from error
            except ConnectionBroken as error:
                what = f"{error}; check PIPECAT_START_URL"
                failure = StartFailed("unreachable", what, attempts)
                if attempts == 1:
                    wait_s = 0.0
            else:
                if answer.status == 200:
                    return read_session(answer.body, attempts)
                failure = failed_by_status(answer, attempts, line.public_key)
                if failure.kind == "refused":
                    raise failure
                wait_s = max(wait_s, retry_after_s(answer))
            if time.monotonic() + wait_s >= deadline:
                raise failure
            self._sleep(wait_s)

    def _ask(self, line: Line, provider: str, deadline: float) -> HttpAnswer:
        return self._http.post(
            self._start_url.replace("{agent}", quote(line.agent, safe="")),
            json={"transport": self._transport.replace("{provider}", provider)},
            headers={
                "Authorization": f"Bearer {line.public_key}",
                "Accept": "application/json",
            },
            deadline=deadline,
        )


def read_session(body: bytes, attempts: int) -> Session:
    """Check every field of a 200 and return the session, or raise StartFailed naming the field."""

    def garbage(what: str) -> StartFailed:
        return StartFailed("garbage", what, attempts)

    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise garbage("the answer is not JSON; check PIPECAT_START_URL") from error
    if not isinstance(answer, dict):
        raise garbage(f"the answer is a JSON {type(answer).__name__}, not an object")
    token, ws_url, session_id = (answer.get(name) for name in ("token", "wsUrl", "sessionId"))
    if not token:
        raise garbage(
            "the answer has no 'token': set websocket_auth = \"token\" in the agent's "
            "pcc-deploy.toml and deploy it again, or PIPECAT_WEBSOCKET_AUTH=none here"
        )
    if not isinstance(token, str) or not PATH_SAFE.fullmatch(token) or token in (".", ".."):
        raise garbage("'token' does not fit into a URL path")
    if not isinstance(ws_url, str):
        raise garbage("the answer has no 'wsUrl'")
    try:
        check_socket_url(ws_url)
    except UnusableSocketUrl as error:
        raise garbage(f"'wsUrl' {error}") from error
    known = isinstance(session_id, str) and SESSION_ID.fullmatch(session_id)
    return Session(ws_url, token, session_id if known else None, attempts)


def failed_by_status(answer: HttpAnswer, attempts: int, public_key: str) -> StartFailed:
    """Turn a status that is not 200 into StartFailed, with the error body's two known fields."""
    kind = "refused"
    if answer.status == 429:
        kind = "at_capacity"
    elif answer.status >= 500:
        kind = "unavailable"
    said = "".join(f", {name} {value!r}" for name, value in error_fields(answer.body).items())
    said = said.replace(public_key, "pk_...")  # a server may repeat the key that it refuses
    cure = {
        401: "; check PIPECAT_PUBLIC_KEY, or the line's public_key",
        402: "; check the billing of the Pipecat Cloud organisation",
        404: "; check PIPECAT_AGENT, or the line's agent, and PIPECAT_START_URL",
    }.get(answer.status, "")
    what = f"status {answer.status}{said}{cure}"
    return StartFailed(kind, what, attempts, retry_after_s(answer))


def error_fields(body: bytes) -> dict[str, str]:
    """Return `error` and `code` of Pipecat Cloud's error body, the fields its own client reads."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(answer, dict):
        return {}
    named = {name: answer.get(name) or answer.get(other) for name, other in ERROR_FIELDS}
    return {name: str(value)[:120] for name, value in named.items() if value}


# One documented 429 says "message" where every other error says "error".
ERROR_FIELDS = (("error", "message"), ("code", "status"))


def retry_after_s(answer: HttpAnswer) -> float:
    """Return the whole seconds of a Retry-After header, or 0."""
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 7 else 0.0
