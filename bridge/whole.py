"""Is all of a request there? Only to decide when somebody should read it: gunicorn parses it."""

import re

LONGEST_HEAD = 32 * 1024
LONGEST_BODY = 64 * 1024  # what is longer is refused unread: app.LARGEST_WEBHOOK_BYTES

LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,12})[ \t]*\r?$")
EXPECTS = re.compile(rb"(?im)^expect:[ \t]*100-continue")
CHUNKED = re.compile(rb"(?im)^transfer-encoding:")


def is_whole(received: bytes) -> bool:
    """Say whether a thread that reads these bytes has no reason to wait for more."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head, body_at = received[:end], end + 4
    if CHUNKED.search(head):
        return len(received) - body_at > LONGEST_BODY or chunks_are_whole(received, body_at)
    lengths = [int(length) for length in LENGTH.findall(head)]
    if len(lengths) != 1 or lengths[0] > LONGEST_BODY:
        return True  # no body, or a reason to refuse it
    return len(received) - body_at >= lengths[0]


def is_asked_to_go_on(received: bytes) -> bool:
    """Say whether a client has sent a head and wants to hear of it before it sends the body."""
    return received.endswith(b"\r\n\r\n") and EXPECTS.search(received) is not None


def is_too_long(received: bytes) -> bool:
    """Say whether a head is longer than any."""
    return len(received) > LONGEST_HEAD and b"\r\n\r\n" not in received


def chunks_are_whole(received: bytes, at: int) -> bool:
    """Say whether the last chunk is there, or something that is no chunk."""
    while (end := received.find(b"\r\n", at)) >= 0:
        size = received[at:end].partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            return True
        if int(size, 16) == 0:
            return received.find(b"\r\n\r\n", end) >= 0
        at = end + 2 + int(size, 16) + 2
    return False
