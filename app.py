"""Carriers ring here, Pipecat Cloud picks up. Start reading in create_app.

providers/   one file per carrier: its signature, its field names
templates/   one folder per carrier: the XML it understands
bridge/      from ring to answer: the flow, the client of /start, the ledger, settings
gateway/     a local stand-in for Pipecat Cloud        (python -m gateway)
simulator/   a carrier on your laptop                  (python -m simulator)
"""

import atexit
import logging
import os
import time
from collections.abc import Callable, Mapping

from flask import Flask, Response, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException

import providers
from bridge import command_line, headers, health, logs
from bridge.answering import Answering
from bridge.callbacks import Callbacks
from bridge.errors import ConfigError
from bridge.ledger import commands, database
from bridge.ledger.ledger import Ledger
from bridge.metrics import Metrics
from bridge.redaction import Redaction
from bridge.sessions import Sessions
from bridge.settings import Settings
from bridge.start import StartClient
from bridge.voice import VoiceRoutes
from bridge.xml import xml_text

log = logging.getLogger(__name__)

LARGEST_WEBHOOK_BYTES = 64 * 1024


def create_app(
    env: Mapping[str, str] = os.environ,
    start: StartClient | None = None,
    ledger: Ledger | None = None,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Build the bridge, or raise ConfigError. Tests pass what would reach out of the process."""
    try:
        settings = Settings.from_env(env, providers.PROVIDERS)
    except ConfigError as error:
        return command_line.app_without_settings(error, env, providers.PROVIDERS)
    logs.to_stdout(settings.log_format, Redaction(settings.secrets, settings.log_numbers))
    metrics = Metrics(provider.name for provider in settings.providers)
    start = start or StartClient(settings.start_url, settings.transport)
    ledger = ledger or open_ledger(settings, clock, metrics)
    sessions = Sessions(settings, start, metrics, clock)
    callbacks = Callbacks(ledger, metrics)
    answering = Answering(settings, sessions, ledger, callbacks, metrics)

    app = Flask(__name__, static_folder=None)
    app.extensions["metrics"] = metrics
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_WEBHOOK_BYTES
    app.jinja_options = {
        "undefined": StrictUndefined,
        "finalize": xml_text,
        "keep_trailing_newline": True,
    }
    app.url_map.merge_slashes = False  # a redirect would lose the form, and is not what was signed
    app.register_error_handler(HTTPException, bare_status)
    headers.register(app, settings.public_url)

    for provider in settings.providers:
        routes = VoiceRoutes(provider, answering, callbacks, settings, metrics, clock)
        app.register_blueprint(routes.blueprint)
    app.register_blueprint(
        health.routes_for(settings.operator_token, sessions, ledger, metrics, clock)
    )
    commands.register(app, settings.ledger_url)
    command_line.register(app, env, providers.PROVIDERS)
    announce(settings)
    return app


def announce(settings: Settings) -> None:
    """Say what was read from the settings."""
    lines = settings.lines
    log.info(
        "agent %s answers at %s for %s; sessions come from %s",
        lines.default.agent or "(none)",
        settings.public_url,
        ", ".join(provider.name for provider in settings.providers),
        settings.start_url.partition("?")[0],
    )
    if lines.listed:
        agents = ", ".join(sorted({line.agent for line in lines.listed.values() if line.agent}))
        log.info("%d numbers have lines of their own, agents %s", len(lines.listed), agents)
    answering = [line for line in lines if line.agent and line.accept == "answer"]
    if open_to_all := sorted({line.agent for line in answering if line.websocket_auth == "none"}):
        log.warning(
            "websocket_auth is none for %s: whoever knows an agent's name can talk to it",
            ", ".join(open_to_all),
        )


def prepare(env: Mapping[str, str] = os.environ) -> Settings:
    """Before anything listens: check the settings, or raise ConfigError; create the ledger."""
    settings = Settings.from_env(env, providers.PROVIDERS)
    database.prepare(settings.ledger_url)
    return settings


def open_ledger(settings: Settings, clock: Callable[[], float], metrics: Metrics) -> Ledger:
    """Return the ledger; what waits to be written is written when the process ends."""
    database.prepare(settings.ledger_url)
    ledger = Ledger(settings.ledger_url, settings.ledger_days, clock, metrics.ledger_failed)
    atexit.register(ledger.close)
    return ledger


def bare_status(error: HTTPException) -> Response:
    """Answer an unknown path or method with its status alone; the log says what was asked for."""
    response = Response(status=error.code)
    hint = ""
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(set(allowed) - {"HEAD"}))
        hint = f"; the carrier must use {response.headers['Allow']}"
    log.warning("%s %.80r answered with %s%s", request.method, request.path, error.code, hint)
    return response
