"""The Flask edge: one blueprint per provider; request -> Webhook, Answer -> response."""

import logging
import time
from collections.abc import Callable
from functools import partial

from flask import Blueprint, Response, abort, render_template, request

from bridge.answering import Answer, Answering
from bridge.callbacks import Callbacks
from bridge.logs import story
from bridge.metrics import Metrics
from bridge.receiving import claimed_call, read_webhook, verify
from bridge.settings import Settings
from providers.base import BadWebhook, Provider, Webhook, WebhookRejected

log = logging.getLogger(__name__)

Decide = Callable[[Provider, Webhook], Answer]
Note = Callable[[Provider, Webhook], None]


class VoiceRoutes:
    """The routes of one carrier, below /<provider>."""

    def __init__(
        self,
        provider: Provider,
        answering: Answering,
        callbacks: Callbacks,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        """`clock` tells Unix seconds."""
        self._provider = provider
        self._answering = answering
        self._public_url = settings.public_url
        self._metrics = metrics
        self._clock = clock
        self.blueprint = Blueprint(provider.name, __name__, url_prefix=f"/{provider.name}")
        self._route("voice", partial(self._document, answering.ring))
        self._route("after", partial(self._document, answering.after))
        self._route("stream", partial(self._callback, callbacks.stream))
        self._route("status", partial(self._callback, callbacks.status))

    def _route(self, route: str, view: Callable[[str, Webhook], Response]) -> None:
        def receive() -> Response:
            if request.method not in self._provider.methods:
                abort(405)  # Flask adds HEAD wherever there is GET; no carrier signs one
            with story(provider=self._provider.name, stage="webhook"):
                webhook = read_webhook(self._public_url, self._clock())
                try:
                    secret = verify(self._provider, webhook)
                except WebhookRejected as rejection:
                    self._metrics.webhook(self._provider.name, route, "refused", rejection.reason)
                    return Response(status=403)
                self._metrics.signed(self._provider.name, secret)
                return view(route, webhook)

        self.blueprint.add_url_rule(
            f"/{route}",
            endpoint=route,
            view_func=receive,
            methods=self._provider.methods,
            provide_automatic_options=False,
        )

    def _document(self, decide: Decide, route: str, webhook: Webhook) -> Response:
        """Answer with XML. A person is waiting: whatever breaks, they hear something."""
        started = time.monotonic()
        try:
            answer = decide(self._provider, webhook)
            response = self._render(answer)
        except BadWebhook as error:
            log.error("%s webhook is not a call: %s", self._provider.name, error)
            answer = self._answering.sorry(self._provider)
            response = self._render(answer)
        except Exception:
            self._unexpected("webhook", webhook)
            answer = self._answering.surprised(self._provider, webhook)
            response = self._render(answer)
        took_s = time.monotonic() - started
        self._metrics.webhook(self._provider.name, route, answer.event)
        self._metrics.answered(self._provider.name, route, took_s)
        log.info(
            "%s call %s is answered with %s.xml after %.0f ms",
            self._provider.name,
            claimed_call(self._provider, webhook),
            answer.event,
            took_s * 1000,
            extra={"stage": "answer", "event": answer.event, "ms": round(took_s * 1000, 1)},
        )
        return response

    def _callback(self, note: Note, route: str, webhook: Webhook) -> Response:
        """Take what the carrier reports; it wants no more than a status."""
        outcome = "noted"
        try:
            note(self._provider, webhook)
        except BadWebhook as error:
            outcome = "unreadable"
            log.error("%s callback names no call: %s", self._provider.name, error)
        except Exception:
            outcome = "failed"
            self._unexpected("callback", webhook)
        self._metrics.webhook(self._provider.name, route, outcome)
        return Response(status=self._provider.callback_status)

    def _render(self, answer: Answer) -> Response:
        xml = render_template(f"{self._provider.name}/{answer.event}.xml", **answer.values)
        response = Response(xml, content_type="text/xml; charset=utf-8")
        response.headers["Cache-Control"] = "no-store"  # a token that was cached is a token lost
        return response

    def _unexpected(self, what: str, webhook: Webhook) -> None:
        call = claimed_call(self._provider, webhook)
        log.exception("%s %s %s failed", self._provider.name, what, call)
        self._metrics.unexpected(self._provider.name)
