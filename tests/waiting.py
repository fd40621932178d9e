"""Waiting for what happens in another thread or process, instead of sleeping for luck."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    """Say whether something becomes true soon."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
