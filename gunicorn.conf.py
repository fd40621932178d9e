"""How the Procfile runs the bridge. WEB_CONCURRENCY and PORT come from the platform."""

import os
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

# Carriers put numbers into the query of a GET: %(U)s is the path without it.
access_log_format = "%(m)s %(U)s %(s)s %(M)sms"

# Only the environment may say that a path prefix was stripped, never a request's header.
forwarder_headers = ""

# The control socket is a file in the home directory, shared by every gunicorn of one user.
control_socket_disable = True


def on_starting(_: Any) -> None:
    """Check the settings before anything listens: one message instead of a traceback a worker."""
    from app import prepare
    from bridge.errors import ConfigError

    try:
        prepare()
    except ConfigError as error:
        sys.exit(str(error))
