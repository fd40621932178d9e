"""--bot ws://host/path: a bot of the user's own, every frame passed on in both directions."""

import asyncio
import logging
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from gateway.body import encode
from gateway.gate import Bot

log = logging.getLogger(__name__)

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0  # what the other side gets to answer a close

# What may stand in a close frame (RFC 6455 7.4); 1005 and 1006 only say that there was none.
UNSENDABLE = {1005, 1006, 1015}


def relay_to(url: str) -> Bot:
    """Return a bot that dials `url` for every call, with the call's ?body= behind it."""

    async def relay(carrier: web.WebSocketResponse, body: dict[str, Any] | None) -> None:
        async with aiohttp.ClientSession() as client:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    bot = await client.ws_connect(with_body(url, body), max_msg_size=0, compress=0)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                why = error or f"no answer within {CONNECT_TIMEOUT_S:g} s"
                log.error("bot %s cannot be reached, is it running? %s", url, why)
                await carrier.close(code=WSCloseCode.INTERNAL_ERROR, message=b"bot unreachable")
                return
            log.info("bot %s is on the line", url)
            async with bot:
                await first_done(
                    pass_on(carrier, bot, "the carrier"), pass_on(bot, carrier, "the bot")
                )

    return relay


def with_body(url: str, body: dict[str, Any] | None) -> URL:
    """Return the bot's URL with the body behind it, to be sent as it is written."""
    if body is None:
        return URL(url, encoded=True)
    separator = "&" if urlsplit(url).query else "?"
    return URL(f"{url}{separator}body={quote(encode(body), safe='')}", encoded=True)


async def pass_on(source: Socket, target: Socket, who: str) -> None:
    """Pass every frame on until `source` closes; then close `target` the same way."""
    async for frame in source:
        try:
            if frame.type is WSMsgType.TEXT:
                await target.send_str(frame.data)
            elif frame.type is WSMsgType.BINARY:
                await target.send_bytes(frame.data)
        except (ConnectionError, RuntimeError):
            return  # the other direction sees the close and says why
    code = source.close_code
    log.info("relay: %s closed with %s", who, code)
    sendable = WSCloseCode.OK if code is None or code in UNSENDABLE else code
    await target.close(code=sendable)


async def first_done(*directions: Any) -> None:
    """Run both directions until one is over and the other has seen the close."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
