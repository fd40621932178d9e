"""Takes a webhook off the network and finds out who sent it."""

import logging
import re

from flask import abort, request
from werkzeug.exceptions import HTTPException

from bridge.logs import tell
from providers.base import Provider, Webhook, WebhookRejected

log = logging.getLogger(__name__)

LONGEST_NAMES = 300  # characters; a stranger may send 4,000


def read_webhook(public_url: str, received_at: float) -> Webhook:
    """Turn Flask's request into the plain data that providers read."""
    try:
        body = request.get_data()  # the bytes as they came; touching request.form would eat them
    except OSError:
        abort(408)  # the client sent half of it, or left
    except HTTPException:
        raise
    except Exception:
        abort(400)  # a chunk that is none; the server finds that out while it is being read
    if request.content_length is None and len(body) == request.max_content_length:
        abort(413)  # chunks that are more are cut off without a word
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
    return path + (f" (query: {', '.join(names)[:LONGEST_NAMES]})" if names else "")
