"""The Flask edge: one blueprint per provider; request -> Webhook, Answer -> response."""

import logging
import re
import time
from collections.abc import Callable
from functools import partial

from flask import Blueprint, Response, abort, render_template, request

from bridge.answering import Answer, Answering
from bridge.callbacks import Callbacks
from bridge.logs import story, tell
from bridge.metrics import Metrics
from bridge.settings import Settings
from providers.base import BadWebhook, Provider, Webhook, WebhookRejected

log = logging.getLogger(__name__)


def webhooks_for(
    provider: Provider,
    answering: Answering,
    callbacks: Callbacks,
    settings: Settings,
    metrics: Metrics,
    clock: Callable[[], float],
) -> Blueprint:
    """Return the routes of one carrier. `clock` tells Unix seconds."""
    routes = Blueprint(provider.name, __name__, url_prefix=f"/{provider.name}")

    def count(route: str, outcome: str, reason: str = "") -> None:
        metrics.webhooks.labels(provider.name, route, outcome, reason).inc()

    def route(path: str, view: Callable[[str, Webhook], Response]) -> None:
        name = path.strip("/")

        def receive() -> Response:
            if request.method not in provider.methods:
                abort(405)  # Flask adds HEAD wherever there is GET; no carrier signs one
            with story(provider=provider.name, stage="webhook"):
                webhook = read_webhook(settings.public_url, clock())
                try:
                    secret = verify(provider, webhook)
                except WebhookRejected as rejection:
                    count(name, "refused", rejection.reason)
                    return Response(status=403)
                metrics.secrets_used.labels(provider.name, secret).inc()
                return view(name, webhook)

        routes.add_url_rule(
            path,
            endpoint=name,
            view_func=receive,
            methods=provider.methods,
            provide_automatic_options=False,
        )

    def document(decide: Callable[[Webhook], Answer], name: str, webhook: Webhook) -> Response:
        # A person is waiting behind the request: whatever breaks, they hear something.
        started = time.monotonic()
        try:
            answer = decide(webhook)
            response = to_response(provider, answer)
        except BadWebhook as error:
            log.error("%s webhook is not a call: %s", provider.name, error)
            answer = answering.sorry(provider)
            response = to_response(provider, answer)
        except Exception:
            metrics.unexpected_errors.labels(provider.name).inc()
            log.exception("%s webhook %s failed", provider.name, claimed_call(provider, webhook))
            answer = answering.surprised(provider, webhook)
            response = to_response(provider, answer)
        took_s = time.monotonic() - started
        count(name, answer.event)
        metrics.answer_seconds.labels(provider.name, name).observe(took_s)
        what = "%s call %s is answered with %s.xml after %.0f ms"
        call = claimed_call(provider, webhook)
        fields = {"stage": "answer", "event": answer.event, "ms": round(took_s * 1000, 1)}
        log.info(what, provider.name, call, answer.event, took_s * 1000, extra=fields)
        return response

    def callback(
        note: Callable[[Provider, Webhook], None], name: str, webhook: Webhook
    ) -> Response:
        outcome = "noted"
        try:
            note(provider, webhook)
        except BadWebhook as error:
            outcome = "unreadable"
            log.error("%s callback names no call: %s", provider.name, error)
        except Exception:
            outcome = "failed"
            metrics.unexpected_errors.labels(provider.name).inc()
            log.exception("%s callback %s failed", provider.name, claimed_call(provider, webhook))
        count(name, outcome)
        return Response(status=provider.callback_status)

    def ring(webhook: Webhook) -> Answer:
        return answering.ring(provider, webhook, time.monotonic())

    def after(webhook: Webhook) -> Answer:
        return answering.after(provider, webhook)

    route("/voice", partial(document, ring))
    route("/after", partial(document, after))
    route("/stream", partial(callback, callbacks.stream))
    route("/status", partial(callback, callbacks.status))
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


def verify(provider: Provider, webhook: Webhook) -> str:
    """Return which secret the carrier signed with, or raise WebhookRejected; the log says why."""
    try:
        secret = provider.verify(webhook)
    except WebhookRejected as error:
        rejection = error
    except Exception as error:
        log.exception("%s signature could not be checked", provider.name)
        rejection = WebhookRejected("signature could not be checked", "unchecked")
        rejection.__cause__ = error
    else:
        call = claimed_call(provider, webhook)
        tell(call_id=webhook.fields.first(provider.call_id_field))
        what = "%s webhook of call %s is signed with %s"
        log.info(what, provider.name, call, secret, extra={"secret": secret})
        return secret
    log.warning(
        "%s webhook refused: %s; checked %s %s with %s; it claims to be call %s",
        provider.name,
        rejection,
        webhook.method,
        without_values(webhook.url),
        " and ".join(provider.secret_variables()),
        claimed_call(provider, webhook),
        extra={"kind": rejection.reason},
    )
    raise rejection


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
