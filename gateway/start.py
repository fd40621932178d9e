"""POST /v1/public/{agent}/start: mints a token. No bot is started: it starts with the socket."""

import asyncio
import hmac
import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.agents import Agent
from gateway.body import LONGEST_JSON_BYTES, encode, too_long
from gateway.faults import Faults
from gateway.tokens import Tokens

log = logging.getLogger(__name__)

NOT_JSON = "<!doctype html><title>Not what you asked for</title>"


class Start:
    """The handler of /start. Errors have the two fields that Pipecat's own client reads."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        public_key: str,
        tokens: Tokens,
        faults: Faults,
        socket_origin: str | None = None,
    ) -> None:
        """Serve `agents`, by name; `socket_origin` ("wss://host") if clients see another host."""
        self._agents = agents
        self._public_key = public_key
        self._tokens = tokens
        self._faults = faults
        self._socket_origin = socket_origin

    async def post(self, request: web.Request) -> web.Response:
        """Answer one request."""
        await asyncio.sleep(self._faults.start_delay_s)
        if self._faults.start_garbage:
            return web.Response(text=NOT_JSON, content_type="text/html")
        if self._faults.start_status:
            return refuse(self._faults.start_status, "on demand: --start-status")
        if not self._knows(request.headers.get("Authorization", "")):
            return refuse(401, "Attempt to start agent without a valid public api key.", "PCC-1002")
        agent = self._agents.get(request.match_info["agent"])
        if agent is None:
            return refuse(404, "agent deployment not found")
        try:
            asked = json.loads(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return refuse(413, "the request is too long")
        except (ValueError, RecursionError):
            return refuse(400, "the request is not JSON")
        return self._mint(request, agent, asked)

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = key.strip().encode("utf-8", "surrogateescape")
        same = hmac.compare_digest(given, self._public_key.encode())
        return scheme.lower() == "bearer" and same

    def _mint(self, request: web.Request, agent: Agent, asked: Any) -> web.Response:
        transport = asked.get("transport") if isinstance(asked, dict) else None
        no_socket = wants_no_socket(asked)
        if transport != "websocket" and not no_socket:
            return refuse(400, f"transport is {transport!r}: this gateway knows 'websocket' only")
        body = asked.get("body")
        if body is not None and not isinstance(body, dict):
            return refuse(400, "body is not a JSON object")
        if body is not None and not agent.needs_token and not no_socket:
            return refuse(400, "body is not accepted: the agent's websocket_auth is none")
        if body is not None and too_long(body):
            return refuse(413, f"body is over {LONGEST_JSON_BYTES} bytes of JSON")
        if agent.at_capacity:
            return refuse(429, "Service maximum agent instances reached", "PCC-AGENT-AT-CAPACITY")
        session_id = str(uuid.uuid4())
        if no_socket:
            log.info(
                "/start for %s: session %s, no socket asked for", agent.service_host, session_id
            )
            return web.json_response({"sessionId": session_id})
        origin = self._socket_origin or f"ws://{request.host}"
        answer = {"wsUrl": f"{origin}/ws/generic/{agent.service_host}", "sessionId": session_id}
        if agent.needs_token:
            # The session's id is the nonce, so that the gate's log can name the session.
            answer["token"] = self._tokens.mint(agent.service_host, session_id)
        if body is not None:
            answer["body"] = encode(body)
        log.info("/start for %s: session %s", agent.service_host, session_id)
        return web.json_response(answer)


def wants_no_socket(asked: Any) -> bool:
    """Say whether this is `pipecatcloud`'s Session, which asks for a bot without a transport.

    https://docs.pipecat.ai/api-reference/pipecat-cloud/sdk-reference/sessions
    """
    if not isinstance(asked, dict) or "transport" in asked:
        return False
    return asked.get("createDailyRoom") is False


def refuse(status: int, error: str, code: str | None = None) -> web.Response:
    """Answer with the error body of Pipecat Cloud."""
    log.warning("/start refused with %d: %s", status, error)
    body = json.dumps({"error": error, "code": code or str(status)})
    return web.Response(status=status, text=body, content_type="application/json")
