"""HTTP to another engine on this machine: loopback or a unix socket, and nowhere else."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from server.errors import StartError
from server.upstream_dialect import (
    Delta,
    Dialect,
    EventReader,
    Unsupported,
    UpstreamFailed,
    parse_event,
)

_UNIX = "unix:"
_CONNECT_S = 5.0
_SILENCE_S = 600.0
"""How long a stream may say nothing: a long queue, or a very long prompt."""
_POLL_S = 0.2
_SIGNS_OF_LIFE = ("/health", "/v1/models")
"""Some servers have only the one, and some fail at the other."""
_REFUSALS = frozenset({400, 404, 405, 413, 422})
"""What is wrong with a request, not with the server."""


def connect(url: str) -> httpx.AsyncClient:
    """Return a client for the engine at `url`.

    Raises:
        StartError: not `unix:PATH`, nor HTTP to a loopback address: prompts stay in the TEE.
    """
    timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
    uds = url.removeprefix(_UNIX) if url.startswith(_UNIX) else None
    if uds is None and not _local(url):
        raise StartError("an upstream engine is at http://127.0.0.1:PORT or unix:PATH")
    return httpx.AsyncClient(
        base_url="http://upstream" if uds else url,
        transport=httpx.AsyncHTTPTransport(uds=uds, limits=limits, trust_env=False),
        timeout=timeout,
        trust_env=False,
    )


def _local(url: str) -> bool:
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return False
    return parts.scheme == "http" and address.is_loopback


async def wait_until_up(client: httpx.AsyncClient, seconds: float) -> None:
    """Wait for an engine that may still be loading: until it is healthy, or lists its models.

    Raises:
        StartError: it does not come up in time.
    """
    for _ in range(int(seconds / _POLL_S) + 1):
        for path in _SIGNS_OF_LIFE:
            if await _get(client, path) is not None:
                return
        await asyncio.sleep(_POLL_S)
    raise StartError("the upstream engine did not come up in time")


async def listed_models(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return what an engine lists as its models; nothing if it does not."""
    content = await _get(client, "/v1/models")
    try:
        models = json.loads(content or b"")["data"]
    except (ValueError, KeyError, TypeError):
        return []
    return [model for model in models if isinstance(model, dict)]


async def _get(client: httpx.AsyncClient, path: str) -> bytes | None:
    """Return what is at a path; None if nothing is, yet."""
    try:
        response = await client.get(path, timeout=_CONNECT_S)
    except httpx.HTTPError:
        return None
    return response.content if response.status_code == httpx.codes.OK else None


async def stream(
    client: httpx.AsyncClient, dialect: Dialect, body: dict[str, Any]
) -> AsyncIterator[Delta]:
    """Yield a completion as it comes; closing the iterator closes the connection, which aborts it.

    Raises:
        Unsupported: the engine refuses the request.
        UpstreamFailed: it cannot be reached, fails, or ends before it has said why.
    """
    reader, finished = EventReader(), False
    try:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code in _REFUSALS:
                raise Unsupported("the upstream engine refuses the request")
            if response.status_code != httpx.codes.OK:
                raise UpstreamFailed("the upstream engine failed")
            async for data in response.aiter_bytes():
                for payload in reader.feed(data):
                    delta = parse_event(dialect, payload)
                    if delta is not None:
                        finished = finished or delta.finish is not None
                        yield delta
    except httpx.HTTPError:
        if not finished:
            raise UpstreamFailed("the connection to the upstream engine failed") from None
    if not finished:
        raise UpstreamFailed("the stream ended before the completion did")
