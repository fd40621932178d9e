"""How the Procfile runs the bridge. WEB_CONCURRENCY and PORT come from the platform."""

import logging
import os
import socket
import struct
import sys
from typing import Any

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"

# A call spends its time waiting for /start: waiting threads are cheap, waiting processes are not.
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
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

# Carriers put numbers into the query of a GET: %(U)s is the path without it.
access_log_format = "%(m)s %(U)s %(s)s %(M)sms"

# Only the environment may say that a path prefix was stripped, never a request's header.
forwarder_headers = ""

# The control socket is a file in the home directory, shared by every gunicorn of one user.
control_socket_disable = True


# A client that sends half a request holds a thread while it does; no carrier is that slow.
SLOWEST_CLIENT_S = 3


def when_ready(server: Any) -> None:
    """Give every connection that is accepted from now on a limit for each read."""
    limit = struct.pack("ll", SLOWEST_CLIENT_S, 0)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    server.log.error_log.addFilter(without_slow_clients)


def post_worker_init(worker: Any) -> None:
    """Keep slow clients out of the log of a worker too."""
    worker.log.error_log.addFilter(without_slow_clients)


def without_slow_clients(record: logging.LogRecord) -> bool:
    """Say whether a line is more than a stranger who sent half a request: no traceback for him."""
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


def on_starting(_: Any) -> None:
    """Check the settings before anything listens: one message instead of a traceback a worker."""
    from app import prepare
    from bridge.errors import ConfigError

    try:
        prepare()
    except ConfigError as error:
        sys.exit(str(error))
