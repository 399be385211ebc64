"""For clients that know Oblivious HTTP and nothing of ours. Only where it is asked for.

GET  /.well-known/ohttp-gateway     the key configs of all live workers (RFC 9540)
POST /.well-known/ohttp-gateway     an encapsulated request, carried to the worker that has its key
POST /ohttp                         the same

A client of ours takes each node's keys from the log and asks for the node by name. A stock client
takes them from here, and has nothing to check them against: a relay that answered with keys of its
own would read the request. So this is for interoperation, not for privacy from the relay.

Key configs are carried as they are. Of each, the relay reads its length and its first byte, the key
id; of a request, the first byte, which is the id again (RFC 9458, sections 3 and 4.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope

from relay.batches import Batches
from relay.errors import BodyTooSlow, ClientGone, TimedOut, UnknownKey, Unreachable
from relay.forward import Forwarder
from relay.nodes import NodeDirectory
from relay.upstream import Upstream

GATEWAY_PATH = "/.well-known/ohttp-gateway"
"""Where a gateway is by default, both its keys and itself (RFC 9540)."""

KEYS_TYPE = "application/ohttp-keys"

MAX_AGE_S = 60
"""How long a client may keep the keys without asking again: a minute of the twenty and more for
which a worker still opens with keys that it no longer offers."""

_MAX_KEYS = 64 * 1024  # bytes; a worker offers two configs, 1.3 KiB together
_KEYS_TIMEOUT_S = 2.0


class KeyDirectory:
    """The key configs of the configured workers, and which worker has which key id.

    A worker that does not answer is left out of the collection. Its ids still lead to it until
    another worker has them: it may come back, and it opens with older keys for a while.
    """

    def __init__(self, worker_urls: tuple[str, ...], upstream: Upstream) -> None:
        self._offered: dict[str, dict[int, bytes]] = {url: {} for url in worker_urls}
        self._upstream = upstream
        self._routes: dict[int, str] = {}

    def collection(self) -> bytes:
        """Return `application/ohttp-keys`: each worker's configs, in the order of the workers.

        Of two workers that offer one id, the first counts: there is only one way for a request to
        go. The same bytes for everybody, whoever asks.

        Raises:
            Unreachable: there is none.
        """
        configs: dict[int, bytes] = {}
        for offered in self._offered.values():
            configs = configs | {key: offered[key] for key in offered if key not in configs}
        if not configs:
            raise Unreachable
        return b"".join(configs.values())

    def find(self, beginning: bytes) -> str:
        """Return the base URL of the worker that a body with this beginning is for.

        Nothing at all is for any of them: it is refused there like all that is too short.

        Raises:
            UnknownKey: no worker has the key id, as far as is known.
        """
        key_id = beginning[0] if beginning else next(iter(self._routes), -1)
        if key_id not in self._routes:
            raise UnknownKey
        return self._routes[key_id]

    async def refresh(self) -> None:
        """Ask every worker once, all at the same time."""
        await asyncio.gather(*(self._ask(url) for url in self._offered))

    async def poll(self, interval_s: float) -> None:
        """Ask every worker again and again until cancelled."""
        while self._offered:
            await asyncio.sleep(interval_s)
            await self.refresh()

    async def _ask(self, url: str) -> None:
        self._offered[url] = await self._fetch(url)
        for known, offered in reversed(self._offered.items()):
            self._routes.update(dict.fromkeys(offered, known))

    async def _fetch(self, url: str) -> dict[int, bytes]:
        try:
            async with asyncio.timeout(_KEYS_TIMEOUT_S):
                keys = await self._upstream.get(
                    url + "/ohttp-keys", limit=_MAX_KEYS, timeout_s=_KEYS_TIMEOUT_S
                )
        except (Unreachable, TimedOut, TimeoutError):
            return {}
        return split_collection(keys.body) if keys.status == 200 else {}


def split_collection(data: bytes) -> dict[int, bytes]:
    """Cut a collection into its configs by key id, each with its length in front.

    What is not a collection is none at all (RFC 9458, section 3.2): lengths that do not add up, a
    config without an id, an id twice. What is behind the id stays unread.
    """
    configs: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        config = data[offset:end]
        if end > len(data) or len(config) < 3 or config[2] in configs:
            return {}
        configs[config[2]] = config
        offset = end
    return configs


class StockForwarder(Forwarder):
    """The ASGI application behind `POST /ohttp`: a worker is chosen by the body's first byte."""

    def __init__(
        self,
        keys: KeyDirectory,
        directory: NodeDirectory,
        upstream: Upstream,
        *,
        body_timeout_s: float,
        worker_timeout_s: float,
        batches: Batches | None = None,
    ) -> None:
        super().__init__(
            directory,
            upstream,
            body_timeout_s=body_timeout_s,
            worker_timeout_s=worker_timeout_s,
            batches=batches,
        )
        self._keys = keys
        self._first_byte_timeout_s = body_timeout_s

    async def _find_worker(self, _: Scope, receive: Receive) -> tuple[str, Receive]:
        """Read until the body begins; return its worker, and the body from its beginning."""
        try:
            async with asyncio.timeout(self._first_byte_timeout_s):
                message = await receive()
                while message.get("more_body", False) and not message.get("body"):
                    message = await receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return self._keys.find(message.get("body", b"")), _put_back(message, receive)


def _put_back(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def stock_routes(keys: KeyDirectory, forwarder: StockForwarder) -> Iterable[Route]:
    """Return the routes of this module."""

    async def offer(_: Request) -> Response:
        headers = {"cache-control": f"public, max-age={MAX_AGE_S}"}
        return Response(keys.collection(), headers=headers, media_type=KEYS_TYPE)

    return (
        Route(GATEWAY_PATH, offer, methods=["GET"]),
        Route(GATEWAY_PATH, forwarder, methods=["POST"]),
        Route("/ohttp", forwarder, methods=["POST"]),
    )
