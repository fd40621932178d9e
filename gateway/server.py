"""The gateway as one aiohttp application: /start and the gate on one port."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from gateway.agents import Agent
from gateway.echo import echo
from gateway.faults import Faults
from gateway.gate import Bot, Gate
from gateway.start import Start
from gateway.tokens import Tokens

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_gateway(
    agents: Sequence[Agent],
    public_key: str,
    faults: Faults | None = None,
    bot: Bot = echo,
    tokens: Tokens | None = None,
    socket_origin: str | None = None,
) -> web.Application:
    """Build the gateway: the table of contents of this package."""
    tokens = tokens or Tokens()
    faults = faults or Faults()
    by_name = {agent.name: agent for agent in agents}
    by_host = {agent.service_host: agent for agent in agents}
    start = Start(by_name, public_key, tokens, faults, socket_origin)
    gate = Gate(by_host, tokens, faults, bot)

    gateway = web.Application(middlewares=[access_log])
    gateway.router.add_post("/v1/public/{agent}/start", start.post)
    gateway.router.add_get("/ws/generic", gate.get)
    gateway.router.add_get(r"/ws/generic/{rest:[\s\S]*}", gate.get)
    gateway.on_shutdown.append(gate.say_goodbye)
    return gateway


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log the place, never the path: a token may be in it, even in one that was mistyped."""
    started = time.monotonic()
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        took_ms = (time.monotonic() - started) * 1000
        log.info("%s %s %d %.0fms", request.method, place(request), status, took_ms)


def place(request: web.Request) -> str:
    """Return where a request went, as far as no token can be in it."""
    resource = request.match_info.route.resource
    if resource is None:
        return "(no such route)"
    return "/start" if "agent" in request.match_info else "/ws/generic"
