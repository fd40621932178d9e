"""Every check, in the order in which a person would fix what they find."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jinja2

from bridge.doctor import config, documents, reach, sessions, storage
from bridge.doctor.findings import Finding, Report
from bridge.errors import ConfigError
from bridge.settings import Settings
from providers.base import Provider


@dataclass(frozen=True)
class Outside:
    """Everything that reaches out of the process; tests pass their own."""

    ask: reach.Ask = reach.ask
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Wanted:
    """What to ask other machines."""

    start: bool = True
    public_url: bool = True


def check_up(
    carriers: Iterable[type[Provider]],
    env: Mapping[str, str] = os.environ,
    templates: jinja2.Environment | None = None,
    wanted: Wanted = Wanted(),
    outside: Outside = Outside(),
) -> Report:
    """Run the checks. Bad settings end it at once: nothing else can be looked at then."""
    try:
        settings = Settings.from_env(env, carriers)
    except ConfigError as error:
        faults = [Finding("error", fault) for fault in error.faults]
        cure = "mend these first; .env.example has every variable"
        return Report([("settings", [*faults, Finding("note", "nothing else was checked", cure)])])

    groups: list[tuple[str, Iterable[Finding]]] = [
        (
            "settings",
            [
                *config.check_urls(settings),
                *config.check_region(settings, env),
                *config.check_secrets(settings),
            ],
        ),
        ("lines", config.check_lines(settings)),
    ]
    if wanted.start:
        http = sessions.WatchedHttp(settings.start_url, outside.clock)
        groups += [
            ("/start", list(sessions.check_start(settings, http))),
            ("clock", sessions.check_clock(settings, http)),
        ]
    if wanted.public_url:
        groups.append(("PUBLIC_URL leads here", reach.check_public_url(settings, outside.ask)))
    if templates:
        groups.append(("XML", documents.check_documents(settings, templates)))
    groups.append(("ledger", storage.check_ledger(settings, env)))
    groups.append(("tell the carrier", (to_paste(settings, p) for p in settings.providers)))
    return Report([(heading, list(findings)) for heading, findings in groups])


def to_paste(settings: Settings, provider: Provider) -> Finding:
    """Say which URL goes where."""
    url = f"{settings.public_url}/{provider.name}/voice"
    return Finding("note", f"{provider.name}: {url}, method POST", provider.console)
