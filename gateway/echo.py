"""The default bot: sends the caller's audio back, in the carrier's own framing."""

import json
import logging
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.media import Conversation, detect, heard

log = logging.getLogger(__name__)

MESSAGES_TO_DETECT = 2  # a carrier shows itself in one of its first two


async def echo(socket: web.WebSocketResponse, body: dict[str, Any] | None) -> None:
    """Talk until the carrier hangs up. Text frames only: no carrier sends others."""
    conversation: Conversation | None = None
    waiting: list[str] = []  # audio that came before we knew whose it is
    seen = 0
    async for frame in socket:
        if frame.type is not WSMsgType.TEXT:
            log.warning("echo: a %s frame; carriers send text", frame.type.name)
            continue
        message = read(frame.data)
        seen += 1
        if conversation is None and (conversation := detect(message)):
            told = body or message["start"].get("customParameters") or {}
            names = ", ".join(sorted(told)) or "none"
            log.info("echo: %s is talking, body fields: %s", conversation.carrier, names)
        if payload := heard(message):
            waiting.append(payload)
        if conversation:
            for payload in waiting:
                await socket.send_str(json.dumps(conversation.audio(payload)))
            waiting.clear()
        elif seen >= MESSAGES_TO_DETECT:
            log.warning("echo: the first %d messages are no known carrier's", seen)
            await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"unknown carrier")
            return
    log.info("echo: the carrier closed with %s", socket.close_code)


def read(text: str) -> dict[str, Any]:
    """Return a message, or an empty one for what is no JSON object."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
