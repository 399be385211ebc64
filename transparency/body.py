"""Reading a request body up to a limit of bytes and of time, whatever its headers promise."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

BODY_TIMEOUT_S = 20.0
"""A leaf with the evidence of eight GPUs at 256 kbit/s. Slower senders hold no connection open."""


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the body, None as soon as it is longer than `limit` bytes.

    Raises:
        HTTPException: 408, it took too long; 400, the sender went away.
    """
    parts, length = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                length += len(part)
                if length > limit:
                    return None
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, "the body took too long", {"connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the sender went away") from None
    return b"".join(parts)
