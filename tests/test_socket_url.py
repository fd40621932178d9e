"""How the URL that a carrier opens is put together."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.socket_url import check_socket_url, with_body, with_token
from bridge.start import PATH_SAFE

tokens = st.from_regex(PATH_SAFE, fullmatch=True).filter(lambda token: token not in (".", ".."))
segments = st.from_regex(r"[A-Za-z0-9._~-]{1,12}", fullmatch=True)
queries = st.dictionaries(segments, segments, max_size=3)
bodies = st.dictionaries(st.text(), st.text() | st.integers() | st.booleans(), max_size=4)


@pytest.mark.parametrize(
    ("ws_url", "expected"),
    [
        (
            "wss://a.example/ws/generic/my-agent.my-org",
            "wss://a.example/ws/generic/my-agent.my-org/T",
        ),
        ("wss://a.example/ws/", "wss://a.example/ws/T"),
        ("wss://a.example", "wss://a.example/T"),
        ("wss://a.example/ws?x=1&y=%2F", "wss://a.example/ws/T?x=1&y=%2F"),
        (
            "wss://a.example/ws/generic?serviceHost=a.b",
            "wss://a.example/ws/generic/T?serviceHost=a.b",
        ),
        ("wss://a.example:8443/%7Eb", "wss://a.example:8443/%7Eb/T"),
        ("ws://[::1]:7860/ws", "ws://[::1]:7860/ws/T"),
    ],
)
def test_token_is_the_last_path_segment(ws_url: str, expected: str) -> None:
    """Before any query, behind exactly one slash, and nothing else is touched."""
    assert with_token(ws_url, "T") == expected


@given(path=st.lists(segments, max_size=4), query=queries, token=tokens, body=bodies)
def test_url_reads_back(
    path: list[str], query: dict[str, str], token: str, body: dict[str, object]
) -> None:
    """A server that parses the URL finds path, token, query and body as they were."""
    ws_url = "wss://a.example" + "".join(f"/{segment}" for segment in path)
    ws_url += "?" + "&".join(f"{n}={v}" for n, v in query.items()) if query else ""
    check_socket_url(ws_url)

    url = with_body(with_token(ws_url, token), body)
    check_socket_url(url)
    parts = urlsplit(url)
    assert parts.path.split("/")[1:] == [*path, token]
    fields = parse_qs(parts.query, keep_blank_values=True)
    assert fields.pop("body") != fields.get("body")
    encoded = parse_qs(parts.query)["body"][-1]
    assert json.loads(base64.b64decode(encoded, validate=True)) == body
    assert {name: values[0] for name, values in fields.items()} == {
        name: value for name, value in query.items() if name != "body"
    }


def test_body_is_percent_encoded_standard_base64() -> None:
    """The vector that a raw plus, or the URL-safe alphabet, would lose."""
    url = with_body("wss://a.example/ws/T", {"k": ">>>???"})

    assert url == "wss://a.example/ws/T?body=eyJrIjoiPj4%2BPz8%2FIn0%3D"
