"""flask --app app explain-signature: one request that was refused, and why."""

import json
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import click

from bridge.errors import ConfigError
from bridge.explain.told import DialledUrl, Header, Moment, headers_of, now, other_providers
from bridge.settings import Settings
from providers.base import Provider, Webhook

METHODS = ("POST", "GET")


def register(cli: click.Group, env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> None:
    """Add the command to `flask --app app`. It reads the settings itself: they may be bad."""
    names = click.Choice([carrier.name for carrier in carriers])

    @cli.command("explain-signature")
    @click.option("--provider", "name", type=names, required=True, help="Who sent it.")
    @click.option("--url", type=DialledUrl(), help="As dialled.  [default: PUBLIC_URL/NAME/voice]")
    @click.option("--method", type=click.Choice(METHODS), default="POST", show_default=True)
    @click.option("--header", "given", type=Header(), multiple=True, help="'Name: value'; repeat.")
    @click.option("--body-file", type=click.File("rb"), help="Its bytes; - for standard input.")
    @click.option("--at", type=Moment(), help="When it came.  [default: now]")
    @click.option("--secret-variable", multiple=True, help="A variable with another secret to try.")
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    @click.pass_context
    def explain_signature(
        ctx: click.Context,
        name: str,
        url: str | None,
        method: str,
        given: tuple[tuple[str, str], ...],
        body_file: BinaryIO | None,
        at: float | None,
        secret_variable: tuple[str, ...],
        as_json: bool,
    ) -> None:
        """Say whether a request is signed, and if not what difference would make it so.

        No secret and no value of the request is shown. Exit code 0 if it verifies as it is given,
        1 if it does not.
        """
        # Only this command needs them: a web worker never loads them.
        from bridge.explain import verdict_text
        from bridge.explain.attempt import Attempt
        from bridge.explain.rest import other_changes
        from bridge.explain.search import judge
        from bridge.explain.urls import url_changes

        settings = settings_of(env, carriers)
        provider = next((p for p in settings.providers if p.name == name), None)
        if provider is None:
            [carrier] = [carrier for carrier in carriers if carrier.name == name]
            raise click.UsageError(f"{name} has no secret here: set {carrier.secret_variable}")
        webhook = Webhook(
            method=method,
            url=url or f"{settings.public_url}/{name}/voice",
            headers=headers_of(given),
            body=body_file.read() if body_file else b"",
            received_at=now() if at is None else at,
        )
        attempt = Attempt(provider, webhook)
        others = other_providers(provider, secret_variable, env)
        changes = [
            *other_changes(attempt, others),
            *url_changes(attempt, settings.public_url),
        ]
        verdict = judge(attempt, changes)
        if as_json:
            told = verdict_text.as_json(attempt, settings.public_url, verdict)
            click.echo(json.dumps(told, indent=2))
        else:
            for line in verdict_text.lines(attempt, settings.public_url, verdict):
                click.echo(line)
        ctx.exit(0 if verdict.secret is not None else 1)


def settings_of(env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> Settings:
    """Return the settings, or stop with every fault in one message."""
    try:
        return Settings.from_env(env, carriers)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
