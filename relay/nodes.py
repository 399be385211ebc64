"""Which worker a node lives at. Workers are asked, since their key documents rotate."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable

from relay.errors import TimedOut, UnknownNode, Unreachable
from relay.upstream import Upstream

NODE = re.compile(r"[0-9a-f]{64}")
"""A node's name: the SHA-256 of its key document, in lower-case hex."""

MAX_NODES = 16
"""Most nodes of one worker. It has the current key document, the next one, and retired ones whose
window has not passed: three or four."""

_MAX_HEALTH = 64 * 1024  # bytes; sixteen names and what else a worker says of its health
_HEALTH_TIMEOUT_S = 2.0

_MIN_REFRESH_INTERVAL_S = 0.25
"""How often unknown nodes may make the relay ask: often enough for a client that is a moment ahead
of the poll, too seldom to be of use to one that floods."""


class NodeDirectory:
    """The nodes of the configured workers, as they last answered.

    A worker that does not answer keeps its nodes: requests for them then fail as what they are,
    a worker out of reach, and not as unknown.
    """

    def __init__(
        self,
        worker_urls: tuple[str, ...],
        upstream: Upstream,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes: dict[str, frozenset[str]] = dict.fromkeys(worker_urls, frozenset())
        self._upstream = upstream
        self._clock = clock
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = float("-inf")

    def __len__(self) -> int:
        """Return how many nodes are known."""
        return len(frozenset[str]().union(*self._nodes.values()))

    async def find(self, node: str) -> str:
        """Return the base URL of the worker that `node` lives at, asking them if need be.

        Raises:
            UnknownNode: none of them has it.
        """
        found = self._look_up(node)
        if found is None:
            await self._refresh_soon()
            found = self._look_up(node)
        if found is None:
            raise UnknownNode
        return found

    async def refresh(self) -> None:
        """Ask every worker once, all at the same time."""
        await asyncio.gather(*(self._ask(url) for url in self._nodes))
        self._refreshed_at = self._clock()

    async def poll(self, interval_s: float) -> None:
        """Ask every worker again and again, each by itself, until cancelled."""
        await asyncio.gather(*(self._poll_one(url, interval_s) for url in self._nodes))

    def _look_up(self, node: str) -> str | None:
        return next((url for url, nodes in self._nodes.items() if node in nodes), None)

    async def _refresh_soon(self) -> None:
        if self._refreshing is None:
            if self._clock() - self._refreshed_at < _MIN_REFRESH_INTERVAL_S:
                return
            self._refreshing = asyncio.create_task(self.refresh())
            self._refreshing.add_done_callback(self._refresh_ended)
        await asyncio.shield(self._refreshing)  # a client that hangs up ends its wait only

    def _refresh_ended(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _poll_one(self, url: str, interval_s: float) -> None:
        while True:
            await self._ask(url)
            await asyncio.sleep(interval_s)

    async def _ask(self, url: str) -> None:
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                health = await self._upstream.get(
                    url + "/health", limit=_MAX_HEALTH, timeout_s=_HEALTH_TIMEOUT_S
                )
        except (Unreachable, TimedOut, TimeoutError):
            return
        nodes = _nodes_of(health.body) if health.status == 200 else None
        if nodes is not None:
            self._nodes[url] = nodes


def _nodes_of(body: bytes) -> frozenset[str] | None:
    """Read the nodes of a health document; None if it is none."""
    try:
        nodes = json.loads(body)["nodes"]
        valid = len(nodes) <= MAX_NODES and all(NODE.fullmatch(node) for node in nodes)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return frozenset(nodes) if valid and isinstance(nodes, list) else None
