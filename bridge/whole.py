"""Is all of a request there? Only to decide when somebody should read it: gunicorn parses it."""

import re

LONGEST_HEAD = 32 * 1024
LONGEST_BODY = 64 * 1024  # what is longer is refused unread: app.LARGEST_WEBHOOK_BYTES

LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,12})[ \t]*\r?$")
EXPECTS = re.compile(rb"(?im)^expect:[ \t]*100-continue")
CHUNKED = re.compile(rb"(?im)^transfer-encoding:")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
BARE_LF = re.compile(rb"(?<!\r)\n")


class Incoming:
    """What has come of a request.

    It may come a byte at a time, and each byte asks the same question in the loop that accepts for
    all: nothing is looked at twice.
    """

    def __init__(self, received: bytes = b"") -> None:
        self.received = bytearray(received)
        self._searched = 0
        self._body_at = 0  # until the end of the head is found
        self._length = 0
        self._chunk_at = 0  # where a body in chunks goes on
        self._asks = False
        self._has_bare_lf = False

    def is_whole(self) -> bool:
        """Say whether a thread that reads these bytes has no reason to wait for more."""
        if not self._body_at and not self._find_body():
            return self._has_bare_lf  # gunicorn refuses it at once
        here = len(self.received) - self._body_at
        if self._chunk_at:
            return here > LONGEST_BODY or self._chunks_are_whole()
        return here >= self._length

    def is_asked_to_go_on(self) -> bool:
        """Say, once, whether the client wants to hear of its head before it sends the body."""
        asks, self._asks = self._asks, False
        return asks and len(self.received) == self._body_at

    def is_too_long(self) -> bool:
        """Say whether a head is longer than any."""
        return not self._body_at and len(self.received) > LONGEST_HEAD

    def _find_body(self) -> bool:
        end = self.received.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._has_bare_lf |= BARE_LF.search(self.received, self._searched) is not None
            self._searched = len(self.received)
            return False
        head, self._body_at = bytes(self.received[:end]), end + 4
        self._asks = EXPECTS.search(head) is not None
        if CHUNKED.search(head):
            self._chunk_at = self._body_at
        lengths = [int(length) for length in LENGTH.findall(head)]
        if len(lengths) == 1 and lengths[0] <= LONGEST_BODY:
            self._length = lengths[0]  # otherwise no body, or a reason to refuse it
        return True

    def _chunks_are_whole(self) -> bool:
        """Say whether the last chunk is there, or something that is no chunk."""
        while (end := self.received.find(b"\r\n", self._chunk_at)) >= 0:
            size = bytes(self.received[self._chunk_at : end]).partition(b";")[0].strip()
            if not CHUNK_SIZE.fullmatch(size):
                return True
            if int(size, 16) == 0:
                return self.received.find(b"\r\n\r\n", end) >= 0
            self._chunk_at = end + 2 + int(size, 16) + 2
        return False
