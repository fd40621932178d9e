"""What `flask --app app` does when the settings are bad: doctor still works, the rest say why not.

Flask builds the app before it looks for a command, and shows a traceback when that fails.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup, FlaskGroup

from bridge.doctor import command as doctor
from bridge.errors import ConfigError
from bridge.explain import command as explain
from providers.base import Provider


def register(app: Flask, env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> None:
    """Add what looks at a bridge from outside to `flask --app app`."""
    doctor.register(app.cli, env, carriers)
    explain.register(app.cli, env, carriers)


class CommandsWithoutSettings(AppGroup):
    """Has those commands that read the settings themselves; else it names every fault."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__()
        self._error = error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or say in one message what keeps it from running."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise click.ClickException(str(self._error))
        return command


def app_without_settings(
    error: ConfigError, env: Mapping[str, str], carriers: Iterable[type[Provider]]
) -> Flask:
    """Return an app without routes, for its commands alone; raise `error` anywhere else.

    Only while `flask` looks for a command: a server never gets an app that answers no call.
    """
    context: Any = click.get_current_context(silent=True)
    if context is None:
        raise error
    if not isinstance(context.command, FlaskGroup):  # flask run, flask routes
        raise click.ClickException(str(error)) from error
    app = Flask("app", static_folder=None)
    app.cli = CommandsWithoutSettings(error)
    register(app, env, carriers)
    return app
