"""pipecatcloud's Session starts an agent: python session.py AGENT KEY [BODY]; the outcome is JSON.

PIPECAT_API_HOST says where, as it does for everything in pipecatcloud.
"""

import asyncio
import json
import sys
from typing import Any

from loguru import logger
from pipecatcloud.exception import AgentStartError
from pipecatcloud.session import Session, SessionParams


async def start(agent: str, key: str, body: str = "null") -> dict[str, Any]:
    """Return what start() returned, or what it raised."""
    session = Session(agent, key, SessionParams(data=json.loads(body)))
    try:
        return {"returned": await session.start()}
    except AgentStartError as error:
        return {"raised": str(error), "error_code": error.error_code}


if __name__ == "__main__":
    logger.remove()
    print(json.dumps(asyncio.run(start(*sys.argv[1:]))))  # noqa: T201
