"""The bot behind one WebSocket, as Pipecat Cloud hosts it: python hosted.py PORT.

No package has the code that Pipecat Cloud decodes ?body= with; decode_body is ours.
https://docs.pipecat.ai/pipecat-cloud/guides/generic-websocket
"""

import base64
import json
import sys
from typing import Any

import uvicorn
from bot import bot
from fastapi import FastAPI, WebSocket
from pipecatcloud.agent import WebSocketSessionArguments

app = FastAPI()


def decode_body(text: str | None) -> dict[str, Any]:
    """Return what a bot finds in `args.body`: standard base64 of a JSON object, or nothing."""
    return json.loads(base64.b64decode(text, validate=True)) if text else {}


@app.websocket("/ws")
async def answer(socket: WebSocket) -> None:
    """Run the bot for one call."""
    await socket.accept()
    body = decode_body(socket.query_params.get("body"))
    await bot(WebSocketSessionArguments(websocket=socket, session_id=None, body=body))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
