"""How the Procfile runs the bridge. WEB_CONCURRENCY and PORT come from the platform."""

import atexit
import logging
import os
import re
import signal
import socket
import struct
import sys
import tempfile
from shutil import rmtree
from typing import Any

from gunicorn import glogging

from bridge import logs
from bridge.redaction import Redaction


def number(name: str, usual: str) -> int:
    """Return a variable's number; what is none is named by the settings before anything listens."""
    text = os.environ.get(name, "").strip() or usual
    return int(text if text.isdecimal() else usual)


bind = f"0.0.0.0:{number('PORT', '8000')}"

# A call spends its time waiting for /start: waiting threads are cheap, waiting processes are not.
worker_class = "bridge.worker.Worker"  # gthread, but half a request holds no thread
workers = number("WEB_CONCURRENCY", "2")
threads = 64

# Heroku's router keeps idle connections for 90 s; closing them earlier races with its next request.
# https://devcenter.heroku.com/articles/http-routing#keepalives
keepalive = 100

# Heroku kills 30 s after SIGTERM; calls being answered finish before that.
graceful_timeout = 25
timeout = 60

# Each worker touches a file to say that it lives; on a slow disk that touch can block it.
# https://gunicorn.org/reference/settings/#worker_tmp_dir
MEMORY = "/dev/shm"
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None

# Every process counts into a file of its own here, and any of them can tell the sum. The folder
# has to be named before prometheus-client is imported. One of the user's stays the user's; one that
# another master has made (kill -USR2 hands the environment on) goes away with that.
# https://prometheus.github.io/client_python/multiprocess/
COUNTS, OURS = "PROMETHEUS_MULTIPROC_DIR", "bridge-metrics-"
named = os.environ.get(COUNTS, "")
if not named or os.path.basename(named).startswith(OURS):  # noqa: PTH119
    folder = tempfile.mkdtemp(prefix=OURS, dir=worker_tmp_dir)
    os.environ[COUNTS] = folder
    master = os.getpid()

    @atexit.register
    def take_counts_away() -> None:
        """Leave nothing behind; a worker that ends leaves it to the master."""
        if os.getpid() == master:
            rmtree(folder, ignore_errors=True)


# Carriers put numbers into the query of a GET: %(U)s is the path without it.
access_log_format = "%(m)s %(U)s %(s)s %(M)sms"

# Only the environment may say that a path prefix was stripped, never a request's header.
forwarder_headers = ""

# What carriers send has some 15 header fields and Heroku adds 10; the longest is a signature or
# two. A Plivo GET with all its fields is a line of 1 KB, and 4,094 bytes are gunicorn's limit.
limit_request_fields = 50
limit_request_field_size = 4094

# The control socket is a file in the home directory, shared by every gunicorn of one user.
control_socket_disable = True


# A client that sends half a request, or does not read its answers, holds a thread while it does;
# no carrier is that slow.
SLOWEST_CLIENT_S = 3


class Logger(glogging.Logger):
    """gunicorn's own lines, its access log included, look like ours and obey the same rules."""

    def setup(self, cfg: Any) -> None:
        """Write to standard output; known secrets are hidden as soon as they are known."""
        super().setup(cfg)
        self.hide(Redaction())

    def hide(self, redaction: Redaction) -> None:
        """Let every line go through a redaction."""
        kind = os.environ.get("LOG_FORMAT", "").strip() or "auto"
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                if getattr(handler, "stream", None) is sys.stderr:
                    handler.setStream(sys.stdout)
                handler.setFormatter(logs.formatter(sys.stdout, kind, redaction))
            log.addFilter(without_what_was_sent)


logger_class = Logger


def when_ready(server: Any) -> None:
    """Keep slow clients out of the log."""
    server.log.error_log.addFilter(without_slow_clients)


def post_fork(_: Any, worker: Any) -> None:
    """Give every connection that this process accepts a limit for each read and each write.

    Here, and not once for all: with --reuse-port, every process listens for itself.
    """
    limit = struct.pack("ll", SLOWEST_CLIENT_S, 0)
    for listener in worker.sockets:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.setsockopt(socket.SOL_SOCKET, option, limit)


def post_worker_init(worker: Any) -> None:
    """Keep slow clients out of the log of a worker too, and let /ready know when it stops."""
    from bridge import health

    worker.log.error_log.addFilter(without_slow_clients)
    stop = signal.getsignal(signal.SIGTERM)

    def stopping(number: int, frame: Any) -> None:
        health.stopping.set()
        stop(number, frame)

    signal.signal(signal.SIGTERM, stopping)


def child_exit(_: Any, worker: Any) -> None:
    """Let the counts of a worker that has died stand, without what is true of the living only."""
    from prometheus_client import multiprocess

    if os.environ.get(COUNTS):
        multiprocess.mark_process_dead(worker.pid)


def without_slow_clients(record: logging.LogRecord) -> bool:
    """Say whether a line is more than a stranger who sent half a request: no traceback for him."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


def without_what_was_sent(record: logging.LogRecord) -> bool:
    """Leave out what a stranger sent that is no request: a query or a header may be in it."""
    if "Invalid " in record.getMessage():
        record.msg, record.args = re.sub("'.*'", "(not shown)", record.getMessage()), ()
    return True


def on_starting(server: Any) -> None:
    """Check the settings before anything listens: one message instead of a traceback a worker."""
    from app import prepare
    from bridge.errors import ConfigError

    try:
        settings = prepare()
    except ConfigError as error:
        sys.exit(str(error))
    server.log.hide(Redaction(settings.secrets, settings.log_numbers))
