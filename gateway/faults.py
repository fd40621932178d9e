"""What the gateway does wrong on demand, for everybody's tests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Nothing by default."""

    start_delay_s: float = 0.0  # before /start answers
    start_status: int | None = None  # instead of /start's own answer
    start_garbage: bool = False  # /start answers 200 with a page instead of JSON
    socket_delay_s: float = 0.0  # before the upgrade is answered
    socket_status: int | None = None  # instead of the upgrade; no token is spent
