"""One way in which a request may have looked when the carrier signed it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, urlsplit

from providers.base import FORM, Provider, Webhook, WebhookRejected

HIDDEN = "..."


@dataclass(frozen=True)
class Attempt:
    """A request, and the secrets that it is checked with."""

    provider: Provider = field(repr=False)
    webhook: Webhook = field(repr=False)

    def secret(self) -> str | None:
        """Return which secret the carrier signed with, or None; never the secret itself."""
        try:
            return self.verify()
        except WebhookRejected:
            return None

    def verify(self) -> str:
        """Return the secret's label, or raise WebhookRejected with the bridge's own reason."""
        method = self.webhook.method
        if method not in self.provider.methods:
            what = f"a {method} is answered with 405: its signature proves nothing"
            raise WebhookRejected(what, "unchecked")
        try:
            return self.provider.verify(self.webhook)
        except ValueError as error:  # an SDK does not like a made-up URL
            raise WebhookRejected("the URL cannot be read", "unchecked") from error

    @property
    def url(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.webhook.url)

    def dialled(self, **parts: str) -> "Attempt":
        """Return the same request to a URL with other parts."""
        url = self.url._replace(**parts).geturl()
        return replace(self, webhook=replace(self.webhook, url=url))

    def with_body(self, body: bytes) -> "Attempt":
        """Return the same request with another body."""
        return replace(self, webhook=replace(self.webhook, body=body))

    def with_method(self, method: str) -> "Attempt":
        """Return the same request with another method."""
        return replace(self, webhook=replace(self.webhook, method=method))

    def with_form(self) -> "Attempt":
        """Return the same request, its body read as a form."""
        headers = {**self.webhook.headers, "content-type": FORM}
        return replace(self, webhook=replace(self.webhook, headers=headers))

    def at(self, moment: float) -> "Attempt":
        """Return the same request, received then (Unix seconds)."""
        return replace(self, webhook=replace(self.webhook, received_at=moment))

    def by(self, provider: Provider) -> "Attempt":
        """Return the same request, checked with other secrets."""
        return replace(self, provider=provider)


@dataclass(frozen=True)
class Change:
    """What may be different from what was given. `apply` may find nothing to change."""

    kind: str  # two changes of one kind cannot both be true: "scheme", "port", ...
    difference: str
    cure: str
    apply: Callable[[Attempt], Attempt] = field(repr=False)


def shown_url(url: str) -> str:
    """Return scheme, host and path, and the names in the query: no password, no value."""
    parts = urlsplit(url)
    names = [part.partition("=")[0] for part in parts.query.split("&")] if parts.query else []
    query = "?" + "&".join(f"{name}={HIDDEN}" for name in names) if names else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
