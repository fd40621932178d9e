"""Everything the environment decides, read once, when the app starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import URL

from bridge import environment as read
from bridge.errors import ConfigError
from bridge.line import Lines
from bridge.needs import check_lines
from bridge.numbers import read_numbers
from providers.base import Provider


@dataclass(frozen=True)
class Settings:
    """Checked settings. Secrets are not shown in a repr."""

    public_url: str  # where carriers reach us, "https://host" or "https://host/prefix"
    start_url: str  # "{agent}" is filled in per call
    transport: str  # "transport" of the /start request; "{provider}" is filled in per call
    socket_url: str  # "{region}", "{agent}", "{organization}" are filled in where there is no token
    max_starts: int  # in flight at once in one process; the caller after that is held
    lines: Lines
    ledger_url: URL = field(repr=False)
    ledger_days: int  # rows older than this go
    log_format: str  # "auto": plain on a terminal, else JSON; or "json", "plain"
    log_numbers: str  # "masked" or "full"
    operator_token: str = field(repr=False)  # for /metrics and the details of /ready; "" for none
    secrets: frozenset[str] = field(repr=False, compare=False)  # what no log line may show
    providers: tuple[Provider, ...] = field(repr=False, compare=False)  # those with a secret

    @classmethod
    def from_env(cls, env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> "Settings":
        """Read `env`, or raise one ConfigError that names every fault at once."""
        faults: list[str] = []
        enabled = read.read_providers(env, tuple(carriers), faults)
        settings = cls(
            public_url=read.read_public_url(env, faults),
            start_url=read.read_start_url(env, faults),
            transport=read.read_transport(env, faults),
            socket_url=env.get("PIPECAT_SOCKET_URL", "").strip() or read.SOCKET_URL,
            max_starts=read.read_whole(env, "MAX_STARTS", 50, 1000, faults),
            lines=read_numbers(env, read.read_line(env, faults), enabled, faults),
            ledger_url=read.read_ledger_url(env, faults),
            ledger_days=read.read_whole(env, "LEDGER_DAYS", 30, 3650, faults),
            log_format=read.read_checked(env, "LOG_FORMAT", "auto", read.LOG_FORMATS, faults),
            log_numbers=read.read_checked(env, "LOG_NUMBERS", "masked", read.LOG_NUMBERS, faults),
            operator_token=read.read_operator_token(env, faults),
            secrets=frozenset(),
            providers=enabled,
        )
        check_lines(settings.lines, settings.socket_url, faults)
        read.read_whole(env, "PORT", 8000, 65535, faults, least=0)  # gunicorn.conf.py uses them
        read.read_whole(env, "WEB_CONCURRENCY", 2, 1000, faults)
        if faults:
            raise ConfigError(faults)
        return replace(settings, secrets=read.secrets_of(env, settings.lines, enabled))
