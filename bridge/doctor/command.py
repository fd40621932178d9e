"""flask --app app doctor, for the person at the terminal and for scripts."""

import json
from collections.abc import Iterable, Mapping

import click
from flask import current_app

from providers.base import Provider


def register(cli: click.Group, env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> None:
    """Add the command to `flask --app app`. It reads the settings itself: they may be bad."""

    @cli.command("doctor")
    @click.option("--no-start", is_flag=True, help="Do not ask /start for a session.")
    @click.option("--no-public-url", is_flag=True, help="Do not look at what PUBLIC_URL leads to.")
    @click.option("--json", "as_json", is_flag=True, help="For machines.")
    @click.pass_context
    def doctor(ctx: click.Context, no_start: bool, no_public_url: bool, as_json: bool) -> None:
        """Say what is wrong with this bridge, and what to tell the carriers.

        Exit code 0 if calls can come, whatever the warnings say; 1 if there is an error.
        """
        # Only this command needs the checks: a web worker never loads them.
        from bridge.doctor.checkup import Wanted, check_up

        wanted = Wanted(start=not no_start, public_url=not no_public_url)
        report = check_up(carriers, env, current_app.jinja_env, wanted)
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2))
        else:
            for line in report.as_lines():
                click.echo(line)
        ctx.exit(report.exit_code)
