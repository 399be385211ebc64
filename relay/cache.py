"""A cache of the log's documents, so that fetching them tells the log nothing about clients."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from relay.errors import TimedOut, UnknownPath, Unreachable
from relay.upstream import Document, Upstream

PATHS = re.compile(
    r"/checkpoint|/nodes"
    r"|/tile/(?:entries|[0-9]|[1-5][0-9]|6[0-3])(?:/x[0-9]{3}){0,5}/[0-9]{3}(?:\.p/[0-9]{1,3})?"
)
"""The documents of a log (C2SP tlog-tiles) and our list of nodes. Nothing else is fetched."""

MAX_AGE_S = 60
"""Longest time a document is kept, whatever the log says: a tenth of an epoch, so that no client
sees a list much later than another."""

MAX_DOCUMENT = 16 * 1024 * 1024
"""Longest document, in bytes. A list of nodes carries the evidence of each, about 16 KiB."""

MAX_CACHE = 64 * 1024 * 1024
"""Most bytes kept. What was used longest ago goes first."""

MAX_FETCHES = 16
"""Most documents fetched at once; further ones wait."""

_FETCH_TIMEOUT_S = 10.0
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,10})(?:$|[,\s])")
_AGE = re.compile(r"[0-9]{1,10}")
_UNCACHEABLE = re.compile(r"(?:^|[,\s])(?:no-store|no-cache|private)(?:$|[,\s=])")


@dataclass(frozen=True)
class Entry:
    """A document of the log and the (monotonic) time until which it may be served."""

    body: bytes
    content_type: str
    fresh_until: float


class LogCache:
    """Documents of one log by their path. At most one fetch of a path runs at a time."""

    def __init__(
        self, log_url: str, upstream: Upstream, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log_url = log_url
        self._upstream = upstream
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._size = 0
        self._fetches: dict[str, asyncio.Task[Entry]] = {}
        self._places = asyncio.Semaphore(MAX_FETCHES)

    async def get(self, path: str) -> tuple[Entry, int]:
        """Return a document and for how many more seconds it is fresh.

        Raises:
            UnknownPath: not a document of a log, or the log does not have it.
            Unreachable, TimedOut: the log gives no answer. What is stale is not served instead.
        """
        if not PATHS.fullmatch(path):
            raise UnknownPath
        entry = self._entries.get(path)
        if entry is None or entry.fresh_until <= self._clock():
            entry = await self._fetch_once(path)
        else:
            self._entries.move_to_end(path)
        return entry, max(0, int(entry.fresh_until - self._clock()))

    async def _fetch_once(self, path: str) -> Entry:
        fetch = self._fetches.get(path)
        if fetch is None:
            fetch = asyncio.create_task(self._fetch(path))
            self._fetches[path] = fetch
            fetch.add_done_callback(lambda _: self._fetches.pop(path))
        return await asyncio.shield(fetch)  # others wait for it too

    async def _fetch(self, path: str) -> Entry:
        async with self._places:
            asked_at = self._clock()
            document = await self._download(path)
        headers = document.headers
        entry = Entry(
            document.body,
            headers.get("content-type", "application/octet-stream"),
            asked_at + _lifetime(headers.get("cache-control", ""), headers.get("age", "")),
        )
        self._keep(path, entry)
        return entry

    async def _download(self, path: str) -> Document:
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                document = await self._upstream.get(
                    self._log_url + path, limit=MAX_DOCUMENT, timeout_s=_FETCH_TIMEOUT_S
                )
        except TimeoutError:
            raise TimedOut from None
        if document.status == 404:
            raise UnknownPath
        if document.status != 200:
            raise Unreachable
        return document

    def _keep(self, path: str, entry: Entry) -> None:
        self._drop(path)
        if entry.fresh_until <= self._clock():
            return
        self._entries[path] = entry
        self._size += len(entry.body)
        while self._size > MAX_CACHE:
            self._drop(next(iter(self._entries)))

    def _drop(self, path: str) -> None:
        entry = self._entries.pop(path, None)
        self._size -= len(entry.body) if entry else 0


def _lifetime(cache_control: str, age: str) -> int:
    """Return for how many seconds a response may be kept; 0 if it does not say."""
    cache_control = cache_control.lower()
    max_age = _MAX_AGE.search(cache_control)
    if max_age is None or _UNCACHEABLE.search(cache_control):
        return 0
    spent = int(age) if _AGE.fullmatch(age) else 0
    return max(0, min(int(max_age[1]) - spent, MAX_AGE_S))
