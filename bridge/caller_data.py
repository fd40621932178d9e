"""What the bot is told about a call, and how it travels: in <Parameter> elements or in ?body=.

https://docs.pipecat.ai/pipecat-cloud/guides/generic-websocket
"""

import json
from collections.abc import Mapping

from bridge.socket_url import with_body
from bridge.xml import xml_text
from providers.base import Call, Provider

# Pipecat's parser promotes these two parameters to the caller's and the called number.
PARAMETER_NAMES = {"from": "from_number", "to": "to_number"}

# What the bridge says itself; a line's body cannot say it too.
NAMES = (
    "call_id",
    "provider",
    "from",
    "to",
    "direction",
    "stir_attestation",
    "caller_name",
    "from_number",
    "to_number",
)

# For judging a line's body before the first call: longer than what Pipecat Cloud hands out
# (about 200 characters of wsUrl and token), longer than most of what carriers send.
LONG_URL = "wss://" + "x" * 300
AROUND_PARAMETERS, AROUND_ONE = 4_000, 40  # the rest of the document; the element's own text
LONG_CALL = Call("x" * 80, "+" + "9" * 15, "+" + "9" * 15, "outbound", "unverified", "x" * 40)


def caller_data(provider: str, call: Call, body: Mapping[str, object]) -> dict[str, object]:
    """Return what the bot is told, the most needed first, a line's body at the end."""
    said = {"stir_attestation": call.attestation, "caller_name": call.name}
    return {
        "call_id": call.id,
        "provider": provider,
        "from": call.from_number,
        "to": call.to_number,
        "direction": call.direction,
        **{name: value for name, value in said.items() if value},
        **body,
    }


def as_parameters(
    data: Mapping[str, object], most: int, most_together: int
) -> tuple[dict[str, str], list[str]]:
    """Return data as <Parameter>s and the names of what did not fit, the last of them first.

    most: characters of name and value of each; most_together: bytes of all, written as XML.
    Nested values travel as JSON.
    """
    parameters: dict[str, str] = {}
    left_out: list[str] = []
    room = most_together - AROUND_PARAMETERS
    for name, value in data.items():
        parameter = PARAMETER_NAMES.get(name, name)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        size = AROUND_ONE + len((xml_text(parameter) + xml_text(text)).encode("utf-8", "replace"))
        if len(parameter) + len(text) > most or size > room:
            left_out.insert(0, name)
        else:
            parameters[parameter] = text
            room -= size
    return parameters, left_out


def in_url(data: Mapping[str, object], url: str, most: int) -> tuple[str, list[str]]:
    """Return the socket URL with data in its ?body=, and the names of what did not fit.

    most: characters of the whole URL. What stands last in `data` is left out first.
    """
    fitting, left_out = dict(data), list[str]()
    while fitting:
        if len(whole := with_body(url, fitting)) <= most:
            return whole, left_out
        left_out.append(fitting.popitem()[0])
    return url, left_out


def too_much(provider: Provider, body: Mapping[str, object]) -> str | None:
    """Say why a line's body may not reach the bot through this carrier, or None if it does."""
    data = caller_data(provider.name, LONG_CALL, body)
    if provider.longest_parameter is not None:
        most = provider.longest_parameter
        _, left_out = as_parameters(data, most, provider.longest_document)
        limit = (
            f"{most} characters of a name and its value, {provider.longest_document} bytes of all"
        )
    else:
        _, left_out = in_url(data, LONG_URL, provider.longest_stream_url)
        limit = f"{provider.longest_stream_url} characters of a stream's URL"
    if not left_out:
        return None
    return f"is too long: {', '.join(left_out)} would not fit {provider.name}'s {limit}"
