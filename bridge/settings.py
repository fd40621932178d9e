"""Everything the environment decides, read once, when the app starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import URL

from bridge import environment as read
from bridge.errors import ConfigError
from bridge.line import Hold, Sorry
from providers.base import Provider


@dataclass(frozen=True)
class Settings:
    """Checked settings. Secrets are not shown in a repr."""

    public_url: str  # where carriers reach us, "https://host" or "https://host/prefix"
    agent: str  # name of the deployed Pipecat Cloud agent
    public_key: str = field(repr=False)  # Pipecat Cloud public key, "pk_..."
    start_url: str  # "{agent}" is filled in per call
    transport: str  # "transport" of the /start request; "{provider}" is filled in per call
    start_deadline_s: float  # from webhook to answer, what /start may use of it
    max_starts: int  # in flight at once in one process; the caller after that is held
    sorry: Sorry
    hold: Hold
    ledger_url: URL = field(repr=False)
    ledger_days: int  # rows older than this go
    providers: tuple[Provider, ...] = field(repr=False, compare=False)  # those with a secret

    @classmethod
    def from_env(cls, env: Mapping[str, str], carriers: Iterable[type[Provider]]) -> "Settings":
        """Read `env`, or raise one ConfigError that names every fault at once."""
        faults: list[str] = []
        settings = cls(
            public_url=read.read_public_url(env, faults),
            agent=read.required(env, "PIPECAT_AGENT", "the agent that answers", faults),
            public_key=read.read_public_key(env, faults),
            start_url=read.read_start_url(env, faults),
            transport=read.read_transport(env, faults),
            start_deadline_s=read.read_deadline_s(env, faults),
            max_starts=read.read_whole(env, "MAX_STARTS", 50, 1000, faults),
            sorry=read.read_sorry(env, faults),
            hold=read.read_hold(env, faults),
            ledger_url=read.read_ledger_url(env, faults),
            ledger_days=read.read_whole(env, "LEDGER_DAYS", 30, 3650, faults),
            providers=read.read_providers(env, tuple(carriers), faults),
        )
        if faults:
            raise ConfigError(faults)
        return settings
