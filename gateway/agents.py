"""The agents that the gateway plays, read from the files that `pipecat cloud deploy` reads."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

POOL = 50  # Pipecat Cloud's default pool of sessions


class BadDeployFile(Exception):
    """A pcc-deploy.toml that cannot be used. The message names file, key and cure."""


@dataclass
class Agent:
    """One deployed agent and the bots that are talking for it."""

    name: str
    organization: str
    needs_token: bool = False  # websocket_auth = "token"; "none" is the default
    max_agents: int = POOL
    running: int = field(default=0, compare=False)  # sockets that are open now

    @property
    def service_host(self) -> str:
        """The agent's name in a socket URL: "agent.organization"."""
        return f"{self.name}.{self.organization}"

    @property
    def at_capacity(self) -> bool:
        """Say whether one more call would be one too many."""
        return self.running >= self.max_agents


def read_agent(path: Path, organization: str) -> Agent:
    """Read one pcc-deploy.toml, or raise BadDeployFile."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadDeployFile(f"{path}: {error.strerror}; name another with --config") from error
    except ValueError as error:
        raise BadDeployFile(f"{path} is no TOML: {error}") from error
    name = content.get("agent_name")
    if not isinstance(name, str) or not name or "." in name or "/" in name:
        raise BadDeployFile(f'{path}: agent_name is {name!r}; give a name such as "my-agent"')
    auth = content.get("websocket_auth", "none")
    if auth not in ("token", "none"):
        raise BadDeployFile(f'{path}: websocket_auth is {auth!r}; give "token" or "none"')
    scaling = content.get("scaling", {})
    most = scaling.get("max_agents", POOL) if isinstance(scaling, dict) else None
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise BadDeployFile(f"{path}: [scaling] max_agents is {most!r}; give a whole number")
    return Agent(name, organization, auth == "token", most)
