"""The Flask edge: one blueprint per provider; request -> Webhook, Answer -> response."""

import logging
import re
import time
from collections.abc import Callable

from flask import Blueprint, Response, abort, render_template, request

from bridge.answering import Answer, Answering
from bridge.callbacks import Callbacks
from bridge.counts import Counts
from bridge.settings import Settings
from providers.base import BadWebhook, Provider, Webhook, WebhookRejected

log = logging.getLogger(__name__)


def webhooks_for(
    provider: Provider,
    answering: Answering,
    callbacks: Callbacks,
    settings: Settings,
    counts: Counts,
    clock: Callable[[], float],
) -> Blueprint:
    """Return the routes of one carrier. `clock` tells Unix seconds."""
    routes = Blueprint(provider.name, __name__, url_prefix=f"/{provider.name}")

    def route(path: str, view: Callable[[Webhook], Response]) -> None:
        def receive() -> Response:
            if request.method not in provider.methods:
                abort(405)  # Flask adds HEAD wherever there is GET; no carrier signs one
            webhook = read_webhook(settings.public_url, clock())
            return view(webhook) if verified(provider, webhook, counts) else Response(status=403)

        routes.add_url_rule(
            path,
            endpoint=path.strip("/"),
            view_func=receive,
            methods=provider.methods,
            provide_automatic_options=False,
        )

    def document(decide: Callable[[Webhook], Answer], webhook: Webhook) -> Response:
        # A person is waiting behind the request: whatever breaks, they hear something.
        try:
            return to_response(provider, decide(webhook))
        except BadWebhook as error:
            log.error("%s webhook is not a call: %s", provider.name, error)
        except Exception:
            counts.add("unexpected")
            log.exception("%s webhook %s failed", provider.name, claimed_call(provider, webhook))
            return to_response(provider, answering.surprised(provider, webhook))
        return to_response(provider, answering.sorry(provider))

    def callback(note: Callable[[Provider, Webhook], None], webhook: Webhook) -> Response:
        try:
            note(provider, webhook)
        except BadWebhook as error:
            log.error("%s callback names no call: %s", provider.name, error)
        except Exception:
            counts.add("unexpected")
            log.exception("%s callback %s failed", provider.name, claimed_call(provider, webhook))
        return Response(status=provider.callback_status)

    def ring(webhook: Webhook) -> Answer:
        return answering.ring(provider, webhook, time.monotonic())

    def after(webhook: Webhook) -> Answer:
        return answering.after(provider, webhook)

    route("/voice", lambda webhook: document(ring, webhook))
    route("/after", lambda webhook: document(after, webhook))
    route("/stream", lambda webhook: callback(callbacks.stream, webhook))
    route("/status", lambda webhook: callback(callbacks.status, webhook))
    return routes


def read_webhook(public_url: str, received_at: float) -> Webhook:
    """Turn Flask's request into the plain data that providers read."""
    try:
        body = request.get_data()  # the bytes as they came; touching request.form would eat them
    except OSError:
        abort(408)  # the client sent half of it, or left
    return Webhook(
        method=request.method,
        url=public_url + raw_target(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
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


def verified(provider: Provider, webhook: Webhook, counts: Counts) -> bool:
    """Say whether the carrier signed this; the log says with which secret, or why not."""
    try:
        secret = provider.verify(webhook)
        counts.add(f"signed with {secret}")
        call = claimed_call(provider, webhook)
        log.info("%s webhook of call %s is signed with %s", provider.name, call, secret)
        return True
    except WebhookRejected as rejection:
        reason = str(rejection)
    except Exception:
        log.exception("%s signature could not be checked", provider.name)
        reason = "signature could not be checked"
    log.warning(
        "%s webhook refused: %s; checked %s %s with %s; it claims to be call %s",
        provider.name,
        reason,
        webhook.method,
        without_values(webhook.url),
        " and ".join(provider.secret_variables()),
        claimed_call(provider, webhook),
    )
    return False


def claimed_call(provider: Provider, webhook: Webhook) -> str:
    """Return the call id that a webhook names, for the log, whoever sent it."""
    return repr(webhook.fields.first(provider.call_id_field)[:80])


def without_values(url: str) -> str:
    """Return a URL for the log: which fields its query names, but not what they hold."""
    path, _, query = url.partition("?")
    names = [part.partition("=")[0] for part in query.split("&")] if query else []
    return path + (f" (query: {', '.join(names)})" if names else "")


def to_response(provider: Provider, answer: Answer) -> Response:
    """Render the carrier's XML."""
    xml = render_template(f"{provider.name}/{answer.event}.xml", **answer.values)
    response = Response(xml, content_type="text/xml; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"  # a token that was cached is a token lost
    return response
