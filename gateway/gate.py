"""The WebSocket behind one-time tokens: /ws/generic/{agent}.{org}[/{token}].

Every refusal is an HTTP status before the upgrade, with its reason in the log.
"""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import WSCloseCode, web

from gateway.agents import Agent
from gateway.body import BadBody, decode
from gateway.faults import Faults
from gateway.tokens import TokenRefused, Tokens

log = logging.getLogger(__name__)

# A bot talks on an open socket until it returns; it is handed the decoded ?body=, if any.
Bot = Callable[[web.WebSocketResponse, dict[str, Any] | None], Awaitable[None]]


class Refused(Exception):
    """No upgrade for this request: answer with `status`; the message is for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gate:
    """The handler of /ws/generic."""

    def __init__(
        self, agents: Mapping[str, Agent], tokens: Tokens, faults: Faults, bot: Bot
    ) -> None:
        """Serve `agents`, by service host ("agent.organization")."""
        self._agents = agents
        self._tokens = tokens
        self._faults = faults
        self._bot = bot
        self._open: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Let one carrier in, or refuse it."""
        host, path_token = address(request)
        try:
            agent, session, body = await self._admit(request, host, path_token)
        except Refused as refusal:
            # A host that is no agent's may be a token in the wrong place.
            known = host if host in self._agents else "an unknown agent"
            log.warning("socket for %s refused with %d: %s", known, refusal.status, refusal)
            headers = {"Upgrade": "websocket"} if refusal.status == 426 else None
            return web.Response(status=refusal.status, headers=headers)

        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        agent.running += 1
        self._open.add(socket)
        try:
            await socket.prepare(request)
            bots = f"{agent.running} of {agent.max_agents} bots"
            log.info("socket for %s open, session %s, %s", host, session, bots)
            await self._bot(socket, body)
            await socket.close()
        finally:
            agent.running -= 1
            log.info("socket for %s closed, session %s", host, session)
        return socket

    async def _admit(
        self, request: web.Request, host: str, path_token: str
    ) -> tuple[Agent, str, dict[str, Any] | None]:
        """Return agent, session and body, the token spent, or raise Refused."""
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            raise Refused(426, "not a WebSocket upgrade; no token is spent on it")
        if not web.WebSocketResponse().can_prepare(request):
            raise Refused(400, "not a valid WebSocket handshake; no token is spent on it")
        await asyncio.sleep(self._faults.socket_delay_s)
        if self._faults.socket_status:
            raise Refused(self._faults.socket_status, "on demand: --socket-status")
        agent = self._agents.get(host)
        if agent is None:
            raise Refused(403, f"no such agent; there are {', '.join(sorted(self._agents))}")
        try:
            place, claim = "", None
            if agent.needs_token:
                place, token = presented(request, path_token)
                claim = self._tokens.check(token, host)
            body = decode(request.query["body"]) if "body" in request.query else None
            if agent.at_capacity:
                raise Refused(429, f"at capacity, {agent.max_agents} bots; no token is spent on it")
            if request.transport is None or request.transport.is_closing():
                raise Refused(400, "the client has gone; no token is spent on it")
            if claim:
                self._tokens.spend(claim)
        except TokenRefused as error:
            raise Refused(403, f"token{place}: {error}") from error
        except BadBody as error:
            raise Refused(400, f"?body=: {error}; no token is spent on it") from error
        return agent, claim.nonce if claim else "without a token", body

    async def say_goodbye(self, _: web.Application) -> None:
        """Close every open socket with 1001 when the gateway stops."""
        closing = [s.close(code=WSCloseCode.GOING_AWAY, message=b"stopping") for s in self._open]
        await asyncio.gather(*closing, return_exceptions=True)


def address(request: web.Request) -> tuple[str, str]:
    """Return service host and path token of /ws/generic/{host}[/{token}] or ?serviceHost=."""
    segments = [part for part in request.match_info.get("rest", "").split("/") if part]
    if "serviceHost" in request.query:
        segments.insert(0, request.query["serviceHost"])
    host, token, *more = [*segments, "", ""]
    return host, "/".join([token, *filter(None, more)])


def presented(request: web.Request, path_token: str) -> tuple[str, str]:
    """Return where a token was presented and the token; the first place present decides."""
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        return " in the header", token.strip() if scheme.lower() == "bearer" else ""
    if "token" in request.query:
        return " in the query", request.query["token"]
    if path_token:
        return " in the path", path_token
    raise TokenRefused("missing")
