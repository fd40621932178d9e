"""`body`: what a caller of /start, or a socket URL's ?body=, hands to the bot.

https://docs.pipecat.ai/pipecat-cloud/guides/generic-websocket
"""

import base64
import json
from typing import Any

LONGEST_JSON_BYTES = 4096


class BadBody(Exception):
    """A ?body= that would reach no bot. The message says why and what to do."""


def encode(body: dict[str, Any]) -> str:
    """Return the form in which a body travels: standard base64 of its JSON."""
    return base64.b64encode(as_json(body)).decode()


def too_long(body: dict[str, Any]) -> bool:
    """Say whether a body is over 4 KB of JSON."""
    return len(as_json(body)) > LONGEST_JSON_BYTES


def decode(text: str) -> dict[str, Any]:
    """Return what a bot finds in `args.body`, or raise BadBody.

    `text` is the query parameter as a server decodes it: a "+" that was not percent-encoded has
    become a blank by now. Pipecat Cloud loses such a body without a word; here it is refused.
    """
    if " " in text:
        raise BadBody("a raw '+' became a blank: percent-encode the base64")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadBody("not standard base64 (the URL-safe alphabet is not accepted)") from error
    if len(raw) > LONGEST_JSON_BYTES:
        raise BadBody(f"{len(raw)} bytes of JSON, {LONGEST_JSON_BYTES} are allowed")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadBody("not JSON") from error
    if not isinstance(body, dict):
        raise BadBody("not a JSON object")
    return body


def as_json(body: dict[str, Any]) -> bytes:
    """Return the shortest JSON of a body, in UTF-8: that is what the 4 KB are counted in."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
