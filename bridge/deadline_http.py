"""One HTTP client per process whose deadline holds whatever the server, or the resolver, does.

requests' timeout counts from byte to byte: a server that drips header bytes holds a call for as
long as it likes, and looking up a name has no timeout at all. So the request runs on a thread of
a pool, the caller waits for it no longer than the deadline, and then the socket is shut down.
"""

import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from requests.utils import get_environ_proxies

CONNECT_TIMEOUT_S = 2.0  # an address that does not answer leaves time for another attempt
LONGEST_ANSWER_BYTES = 64 * 1024


class DeadlinePassed(Exception):
    """The deadline came before the answer."""


class ConnectionBroken(Exception):
    """No connection, or one that broke before a whole answer came."""


class AnswerTooLong(Exception):
    """The answer is longer than any answer of /start."""


@dataclass(frozen=True)
class HttpAnswer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """One request on its way, and the means to cut it short from another thread.

    Not during a TLS handshake, when the socket changes hands: that one is bounded by the
    connection's own time-out, because CPython counts it as one operation.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._cut = False

    def takes(self, connection: Any) -> None:
        """Note the connection that carries this request from now on."""
        with _ownership:
            if self._cut:
                raise TimeoutError("the deadline passed before the request was sent")
            self._connection = connection
            connection.exchange = self

    def cut(self) -> None:
        """End a request that nobody waits for any more, however slowly it is being answered."""
        with _ownership:
            self._cut = True
            connection = self._connection
            # A connection goes back to its pool before we hear of it: it may be another's by now.
            if connection is None or connection.exchange is not self or connection.sock is None:
                return
            with suppress(OSError):  # closed already
                # Not SSLSocket.shutdown: it takes the TLS state from under the reading thread.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


_ownership = threading.Lock()


class _Current(threading.local):
    exchange: Exchange | None = None


_current = _Current()


class _Owned:
    """Mixed into urllib3's connections: each belongs to the exchange that used it last."""

    exchange: Exchange | None = None

    def connect(self) -> None:
        if _current.exchange:
            _current.exchange.takes(self)
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        if _current.exchange:
            _current.exchange.takes(self)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _HTTPConnection(_Owned, urllib3.connection.HTTPConnection):
    pass


class _HTTPSConnection(_Owned, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class OneContextAdapter(HTTPAdapter):
    """requests' adapter, but the CA bundle is loaded once instead of for every new connection."""

    def __init__(self, context: ssl.SSLContext, pool_maxsize: int) -> None:
        self._context = context
        super().__init__(pool_maxsize=pool_maxsize)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Build the pools with our context and our connections."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Build the pools behind a proxy with our context and our connections."""
        manager = super().proxy_manager_for(*args, ssl_context=self._context, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Leave the CA bundle out: the context has it."""
        host, _ = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, {"cert_reqs": "CERT_REQUIRED"}

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        """Require a certificate; requests would hand the CA bundle over again here."""
        conn.cert_reqs = "CERT_REQUIRED"


class DeadlineHttp:
    """A pooled client for one URL's host. Proxy and CA settings are read once, here."""

    def __init__(self, url: str, connections: int = 64) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.proxies = get_environ_proxies(url)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = OneContextAdapter(tls_context(), pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="start")
        self.in_flight = 0  # requests that a thread is busy with, abandoned ones too
        self._counting = threading.Lock()

    def post(
        self, url: str, json: Mapping[str, object], headers: Mapping[str, str], deadline: float
    ) -> HttpAnswer:
        """Return the answer, or raise one of this module's errors by `deadline` (monotonic s)."""
        exchange = Exchange()
        answer = self._threads.submit(self._exchange, exchange, url, json, headers, deadline)
        try:
            return answer.result(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            answer.cancel()
            exchange.cut()
            raise DeadlinePassed("no answer before the deadline") from error

    def _exchange(
        self,
        exchange: Exchange,
        url: str,
        json: Mapping[str, object],
        headers: Mapping[str, str],
        deadline: float,
    ) -> HttpAnswer:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise DeadlinePassed("no time left to ask")
        _current.exchange = exchange
        self._count(+1)
        try:
            with self._session.post(
                url,
                json=json,
                headers=headers,
                # Reading ends with the caller's patience, not by itself a moment earlier.
                timeout=(min(left_s, CONNECT_TIMEOUT_S), left_s + 1),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = b""
                for part in response.iter_content(8192):
                    body += part
                    if len(body) > LONGEST_ANSWER_BYTES:
                        raise AnswerTooLong(f"more than {LONGEST_ANSWER_BYTES} bytes")
                return HttpAnswer(response.status_code, response.headers, body)
        except requests.RequestException as error:
            raise ConnectionBroken(reason(error)) from error
        finally:
            _current.exchange = None
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._counting:
            self.in_flight += change


def tls_context() -> ssl.SSLContext:
    """Return the one context of this process, with the CA bundle that requests would use."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    path = bundle or DEFAULT_CA_BUNDLE_PATH
    is_folder = os.path.isdir(path)  # noqa: PTH112
    return ssl.create_default_context(
        cafile=None if is_folder else path, capath=path if is_folder else None
    )


def reason(error: BaseException) -> str:
    """Return what lies at the bottom of a chain of library errors, in a few words."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return f"{type(error).__name__}: {error}"[:200]
