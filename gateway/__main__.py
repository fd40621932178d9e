"""python -m gateway: Pipecat Cloud on your own machine."""

import logging
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
from aiohttp import web

from gateway.agents import BadDeployFile, read_agent
from gateway.echo import echo
from gateway.faults import Faults
from gateway.relay import relay_to
from gateway.server import create_gateway

log = logging.getLogger("gateway")


@click.command(context_settings={"show_default": True, "max_content_width": 100})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=7860, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option(
    "--config",
    "configs",
    multiple=True,
    default=["pcc-deploy.toml"],
    type=click.Path(path_type=Path),
    help="The agent's deploy file; again for another agent.",
)
@click.option("--organization", default="local-org", help="Organisation that owns the agents.")
@click.option("--public-key", default="pk_local", help="What /start wants as Bearer.")
@click.option(
    "--public-url", help="Where clients reach this, if not here: https://... of a tunnel."
)
@click.option("--bot", default="echo", help='"echo", or the ws:// URL of a bot of yours.')
@click.option("--start-delay", default=0.0, metavar="SECONDS", help="Fault: /start answers late.")
@click.option("--start-status", type=int, metavar="CODE", help="Fault: /start answers CODE.")
@click.option("--start-garbage", is_flag=True, help="Fault: /start answers 200 with a page.")
@click.option("--socket-delay", default=0.0, metavar="SECONDS", help="Fault: late upgrade.")
@click.option(
    "--socket-status", type=int, metavar="CODE", help="Fault: CODE instead of an upgrade."
)
def main(
    host: str,
    port: int,
    configs: tuple[Path, ...],
    organization: str,
    public_key: str,
    public_url: str | None,
    bot: str,
    start_delay: float,
    start_status: int | None,
    start_garbage: bool,
    socket_delay: float,
    socket_status: int | None,
) -> None:
    """Play Pipecat Cloud: POST /v1/public/AGENT/start, and a WebSocket behind one-time tokens."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    if bot != "echo" and not (urlsplit(bot).scheme in ("ws", "wss") and urlsplit(bot).hostname):
        raise click.BadParameter(f'{bot!r} is neither "echo" nor a ws:// URL', param_hint="--bot")
    try:
        agents = [read_agent(path, organization) for path in configs]
    except BadDeployFile as error:
        raise click.BadParameter(str(error), param_hint="--config") from error
    gateway = create_gateway(
        agents,
        public_key,
        Faults(start_delay, start_status, start_garbage, socket_delay, socket_status),
        echo if bot == "echo" else relay_to(bot),
        socket_origin=socket_origin(public_url),
    )
    listener = listen(host, port)
    for agent in agents:
        log.info(
            "agent %s, websocket_auth %s, %d bots at most",
            agent.service_host,
            "token" if agent.needs_token else "none",
            agent.max_agents,
        )
    log.info("listening on http://%s:%d", *listener.getsockname()[:2])
    # No access_log: aiohttp's own shows paths, and tokens are in them.
    web.run_app(gateway, sock=listener, access_log=None, print=None, shutdown_timeout=2)
    log.info("stopped")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, or say what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise click.UsageError(
            f"cannot listen on {host}:{port}: {why}; choose another --port or --host"
        ) from error


def socket_origin(public_url: str | None) -> str | None:
    """Return scheme and host of the socket URLs behind a tunnel's http(s) URL."""
    if public_url is None:
        return None
    url = urlsplit(public_url)
    scheme = {"https": "wss", "http": "ws"}.get(url.scheme)
    if scheme is None or not url.netloc:
        raise click.BadParameter(f"{public_url!r} is no http(s) URL", param_hint="--public-url")
    return url._replace(scheme=scheme).geturl().rstrip("/")


if __name__ == "__main__":
    main(prog_name="python -m gateway")
