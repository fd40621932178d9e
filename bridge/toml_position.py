"""On which line of a TOML file something stands; Python's parser keeps no positions."""

import tomllib
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any


def line_number(text: str, path: Sequence[str]) -> int:
    """Return the line on which the table or key at `path` is complete, counted from 1.

    The text has to be good TOML. The first lines of a file are a good file of their own, but for
    a value that goes over several lines: that one is there when its last line is.
    """
    lines = [f"{line}\n" for line in text.split("\n")]  # TOML knows no other end of a line

    def is_there(count: int) -> bool:
        return has(longest_good_start(lines, count), path)

    return min(bisect_left(range(len(lines) + 1), True, key=is_there), len(lines))


def longest_good_start(lines: Sequence[str], count: int) -> dict[str, Any]:
    """Return what the first `count` lines hold, or fewer, if a value goes on behind them."""
    for end in range(count, 0, -1):
        try:
            return tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
    return {}


def has(table: Any, path: Sequence[str]) -> bool:
    """Say whether a table has this key, or the key of a table inside it."""
    for name in path:
        if not isinstance(table, dict) or name not in table:
            return False
        table = table[name]
    return True
