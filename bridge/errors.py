"""Every error the bridge raises on purpose; what providers raise is drawn in providers/base.py.

BridgeError
├── ConfigError   a setting is missing or unusable; raised while starting, never during a call
└── StartFailed   /start handed out no session; the caller hears sorry.xml

A message is for the log and may name settings. A caller never sees or hears it.
"""

from collections.abc import Sequence


class BridgeError(Exception):
    """Base class of every error raised on purpose."""


class ConfigError(BridgeError):
    """One or more settings are missing or unusable. The message names every one of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        listed = "".join(f"\n  * {fault}" for fault in faults)
        super().__init__(f"the bridge cannot start:{listed}\nSee .env.example for every variable.")
        self.faults = tuple(faults)


class StartFailed(BridgeError):
    """/start handed out no session.

    kind: "unreachable" (no connection), "deadline" (no answer in time), "refused" (an answer that
    asking again will not change), "unavailable" (5xx), "at_capacity" (429), "garbage" (an answer
    that is no session). One word, so that failures can be counted.
    """

    def __init__(
        self, kind: str, what_happened: str, attempts: int = 1, retry_after_s: float = 0.0
    ) -> None:
        tried = "" if attempts == 1 else f" ({attempts} attempts)"
        super().__init__(f"{what_happened}{tried}")
        self.kind = kind
        self.attempts = attempts
        self.retry_after_s = retry_after_s  # when the server wants to be asked again; 0: unsaid
