"""Opens the audio socket as often, and in the way, that the carrier does."""

from collections.abc import Iterator
from contextlib import contextmanager

from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from simulator.carrier import CallFailed, Carrier
from simulator.report import Report

HANDSHAKE_PATIENCE_S = 10.0


class SocketRefused(CallFailed):
    """The socket did not open. `status` is the HTTP status, if there was one."""

    def __init__(self, what_happened: str, status: int | None = None) -> None:
        super().__init__(what_happened)
        self.status = status


@contextmanager
def socket_of(carrier: Carrier, url: str, report: Report) -> Iterator[ClientConnection]:
    """Open the socket as often as the carrier tries, or raise SocketRefused."""
    for attempt in range(1, carrier.connect_attempts + 1):
        try:
            connection = dial(url)
        except SocketRefused as error:
            if attempt == carrier.connect_attempts:
                raise
            report.note(f"{error}; {carrier.name} tries the same URL again")
        else:
            break
    with connection:
        yield connection


def dial(url: str) -> ClientConnection:
    """Open one socket, or raise SocketRefused."""
    try:
        return connect(
            url,
            proxy=None,
            compression=None,
            open_timeout=HANDSHAKE_PATIENCE_S,
            close_timeout=2,
            ping_interval=None,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise SocketRefused(f"the socket was refused with {status}", status) from error
    except (InvalidHandshake, TimeoutError, OSError, EOFError) as error:
        raise SocketRefused(f"the socket did not open: {error or type(error).__name__}") from error


def refuse_replay(url: str, report: Report) -> None:
    """Dial the spent token once more; raise CallFailed if it is good for another call."""
    try:
        with dial(url):
            pass
    except SocketRefused as error:
        if error.status != 403:
            raise
        report.note("the spent token was tried again and refused with 403")
    else:
        raise CallFailed("the spent token opened a second socket")
