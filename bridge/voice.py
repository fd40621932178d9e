"""The Flask edge: one blueprint per provider; request -> Webhook, Answer -> response."""

import logging
import re
import time
from collections.abc import Callable

from flask import Blueprint, Response, abort, render_template, request

from bridge.answering import SORRY, Answer, Answering
from bridge.settings import Settings
from providers.base import Provider, Webhook, WebhookRejected

log = logging.getLogger(__name__)


def webhooks_for(
    provider: Provider, answering: Answering, settings: Settings, clock: Callable[[], float]
) -> Blueprint:
    """Return the routes of one carrier: /<provider>/voice. `clock` tells Unix seconds."""
    routes = Blueprint(provider.name, __name__, url_prefix=f"/{provider.name}")

    @routes.route("/voice", methods=provider.methods, provide_automatic_options=False)
    def voice() -> Response:
        deadline = time.monotonic() + settings.start_deadline_s
        if request.method not in provider.methods:
            abort(405)  # Flask adds HEAD wherever there is GET; no carrier signs one
        webhook = read_webhook(settings.public_url, clock())
        try:
            answer = answering.answer(provider, webhook, deadline)
        except WebhookRejected as rejection:
            log.warning(
                "%s webhook refused: %s; checked %s %s with %s; it claims to be call %.80r",
                provider.name,
                rejection,
                webhook.method,
                without_values(webhook.url),
                provider.secret_variable,
                webhook.fields.first(provider.call_id_field),
            )
            return Response(status=403)
        return to_response(provider, answer)

    return routes


def read_webhook(public_url: str, received_at: float) -> Webhook:
    """Turn Flask's request into the plain data that providers read."""
    return Webhook(
        method=request.method,
        url=public_url + raw_target(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.get_data(),  # the bytes as they came; touching request.form would eat them
        received_at=received_at,
    )


def raw_target() -> str:
    """Return path and query as they were on the wire, below the prefix the platform stripped.

    request.url is no use here: Flask decodes %2F, %3A, %40, %27 and %C3%A9 in it, and a rightly
    signed webhook would be refused.
    """
    target: str = request.environ.get("RAW_URI") or request.full_path.removesuffix("?")
    path = re.sub(
        r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", target
    )  # absolute-form, RFC 9112 3.2.2
    return path.removeprefix(request.script_root)


def to_response(provider: Provider, answer: Answer) -> Response:
    """Render the carrier's XML. A template that cannot be rendered is answered with sorry.xml."""
    try:
        xml = render_template(f"{provider.name}/{answer.event}.xml", **answer.values)
    except Exception:
        log.exception("templates/%s/%s.xml cannot be rendered", provider.name, answer.event)
        xml = render_template(f"{provider.name}/{SORRY.event}.xml")
    response = Response(xml, content_type="text/xml; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"  # a token that was cached is a token lost
    return response


def without_values(url: str) -> str:
    """Return a URL for the log: which fields its query names, but not what they hold."""
    path, _, query = url.partition("?")
    names = [part.partition("=")[0] for part in query.split("&")] if query else []
    return path + (f" (query: {', '.join(names)})" if names else "")
