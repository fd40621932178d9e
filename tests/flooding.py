"""A stranger who asks as much as he can, as a process of his own: python -m tests.flooding.

Stops by itself, after so many seconds or so many requests; says how many answers of which status
it got, as JSON. Loopback only.
"""

import json
import socket
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlencode

LONGEST_S, MOST_REQUESTS = 10.0, 20_000
CONNECTIONS = 8
PATHS = ("/twilio/voice", "/plivo/voice", "/telnyx/voice")
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
# As costly as a request can be that nobody signed: every field is sorted and hashed.
LARGEST = urlencode({f"{number:x}": "" for number in range(10_000)})
FORGED = (
    f"{FORM}X-Twilio-Signature: AAAA\r\nX-Plivo-Signature-V3: AAAA\r\n"
    "X-Plivo-Signature-V3-Nonce: 1\r\n"
)
KINDS = {"unsigned": (FORM, "CallSid=CA1&CallUUID=1"), "forged": (FORGED, LARGEST)}


def request(path: str, headers: str, body: str) -> bytes:
    """Return one request of the flood."""
    length = f"Content-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: a\r\n{headers}{length}\r\n{body}".encode()


class Flood:
    """Several connections, each with the next request as soon as it has its answer."""

    def __init__(self, port: int, kind: str, seconds: float) -> None:
        self._address = ("127.0.0.1", port)
        self._requests = [request(path, *KINDS[kind]) for path in PATHS]
        self._end = time.monotonic() + min(seconds, LONGEST_S)
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        """Ask until the end."""
        threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.answers

    def _ask(self, number: int) -> None:
        content = self._requests[number % len(self._requests)]
        with socket.create_connection(self._address, timeout=LONGEST_S) as sock:
            while time.monotonic() < self._end and self._count("asked") < MOST_REQUESTS:
                sock.sendall(content)
                self._count(sock.recv(4096)[9:12].decode())  # a refusal has no body

    def _count(self, what: str) -> int:
        with self._lock:
            self.answers[what] += 1
            return self.answers[what]


if __name__ == "__main__":
    json.dump(Flood(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])).run(), sys.stdout)
