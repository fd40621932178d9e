"""What platforms and operators ask: is the process up, is it ready, what has it counted?"""

import hmac
import threading
from collections.abc import Callable

from flask import Blueprint, Response, abort, jsonify, request

from bridge.ledger.ledger import Ledger
from bridge.metrics import Metrics
from bridge.sessions import Sessions

stopping = threading.Event()  # gunicorn.conf.py sets it when this process is told to stop


def routes_for(
    operator_token: str,
    sessions: Sessions,
    ledger: Ledger,
    metrics: Metrics,
    clock: Callable[[], float],
) -> Blueprint:
    """Return the routes that no carrier calls; details want `Authorization: Bearer` the token."""
    routes = Blueprint("health", __name__)

    def get(path: str, view: Callable[[], Response]) -> None:
        name = path.strip("/")
        routes.add_url_rule(path, name, view, methods=["GET"], provide_automatic_options=False)

    def health() -> Response:
        return Response("ok", mimetype="text/plain")

    def ready() -> Response:
        status = 503 if stopping.is_set() else 200
        word = "stopping" if stopping.is_set() else "ready"
        if not is_operator(operator_token):
            return Response(word, status, mimetype="text/plain")
        last = sessions.last_start
        details = {
            "status": word,
            "ledger": "reachable" if ledger.is_reachable() else "degraded",
            "last_start": last and {"outcome": last[0], "seconds_ago": round(clock() - last[1])},
        }
        response = jsonify(details)
        response.status_code = status
        return response

    def numbers() -> Response:
        if not operator_token:
            abort(404)
        if not is_operator(operator_token):
            return Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return Response(metrics.text(), content_type=metrics.content_type)

    get("/health", health)
    get("/ready", ready)
    get("/metrics", numbers)
    return routes


def is_operator(token: str) -> bool:
    """Say whether the request carries the operator's token; without one there is no operator."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return bool(token) and scheme.lower() == "bearer" and same
