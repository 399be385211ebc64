"""The spent-token store: which tokens were redeemed, for all workers of one operator.

    POST /spend   {"spend_id": hex 16 bytes, "key_id": hex 32 bytes, "rows": [hex 32 bytes, ...]}
                  200 {} | 409 {"error": {"code": "spent" | "key_retired", ...}}
    POST /exchange  {"spend_id", "key_id", "row", "binding": hex 32 bytes}    as /spend
    POST /refund  {"refunds": [{"ticket": hex 32 bytes, "binding": hex 32 bytes}, ...]}
                  200 {"granted": [true | false, ...]}
    POST /retire  {"key_id": hex 32 bytes}    200 {"dropped": rows}
    GET  /health

A process and a database of its own, never the issuer's, behind a unix socket. It is trusted for
payment only: it is told hashes of tokens, and neither who spends them nor on what. Workers spend;
the issuer exchanges and refunds, for which the store alone says how many signatures are due.

Refusals: 404 and 405; 408 the body did not come; 413 it is too long; 422 it is not exactly the JSON
above; 409 nothing was spent; 503 the database did not answer, and only asking again with the same
spend id tells whether the tokens are spent.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from issuer.errors import MalformedRequest
from issuer.service import EXCEPTION_HANDLERS, listen_unix, read_body, run
from issuer.spent_store import Refund, Spend, SpentStore
from wire import canonical_json
from wire.errors import Malformed
from wire.refund import MAX_BATCH

MAX_ROWS = 8
"""A request carries 1, 2, 4 or 8 tokens."""

BODY_LIMIT = 4096
"""Eight rows, two ids and their names are under 800 bytes."""

REFUND_BODY_LIMIT = 16_384
"""A batch of 64 refunds is under 11,000 bytes."""


@dataclass(frozen=True)
class SpentConfig:
    """What a spent-token store is started with."""

    socket_path: Path
    database: str


def serve_spent(config: SpentConfig) -> None:
    """Serve a spent-token store until SIGTERM or SIGINT, then remove its socket.

    Raises:
        Unusable: the socket is taken or the database not usable.
        OSError: the socket cannot be bound.
    """
    with listen_unix(config.socket_path) as listener:
        run(application(config.database), listener)


def application(database: str) -> Starlette:
    """Return the store as an ASGI application; its lifespan opens and closes the database."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, SpentStore]]:
        store = await SpentStore.open(database)
        try:
            yield {"store": store}
        finally:
            await store.close()

    async def serve_spend(request: Request) -> Response:
        spend = parse_spend(await read_body(request, BODY_LIMIT))
        await request.state.store.spend(spend, at=int(time.time()))
        return JSONResponse({})

    async def serve_exchange(request: Request) -> Response:
        spend, binding = parse_exchange(await read_body(request, BODY_LIMIT))
        await request.state.store.spend(spend, at=int(time.time()), binding=binding)
        return JSONResponse({})

    async def serve_refund(request: Request) -> Response:
        refunds = parse_refunds(await read_body(request, REFUND_BODY_LIMIT))
        granted = await request.state.store.refund(refunds, at=int(time.time()))
        return JSONResponse({"granted": granted})

    async def serve_retire(request: Request) -> Response:
        key_id = parse_retire(await read_body(request, BODY_LIMIT))
        return JSONResponse({"dropped": await request.state.store.retire(key_id)})

    async def serve_health(request: Request) -> Response:
        await request.state.store.ping()
        return JSONResponse({"status": "ok"})

    routes = [
        Route("/spend", serve_spend, methods=["POST"]),
        Route("/exchange", serve_exchange, methods=["POST"]),
        Route("/refund", serve_refund, methods=["POST"]),
        Route("/retire", serve_retire, methods=["POST"]),
        Route("/health", serve_health, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=EXCEPTION_HANDLERS)


def parse_spend(body: bytes) -> Spend:
    """Parse the JSON of `POST /spend`; raises MalformedRequest for anything but exactly it."""
    members = _members(body, ("spend_id", "key_id", "rows"))
    rows = members["rows"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        raise MalformedRequest(f"rows must be a list of 1 to {MAX_ROWS}")
    return Spend(
        spend_id=_octets(members["spend_id"], 16),
        key_id=_octets(members["key_id"], 32),
        rows=tuple(_octets(row, 32) for row in rows),
    )


def parse_exchange(body: bytes) -> tuple[Spend, bytes]:
    """Parse the JSON of `POST /exchange` to a spend of one row and its binding."""
    members = _members(body, ("spend_id", "key_id", "row", "binding"))
    spend = Spend(
        spend_id=_octets(members["spend_id"], 16),
        key_id=_octets(members["key_id"], 32),
        rows=(_octets(members["row"], 32),),
    )
    return spend, _octets(members["binding"], 32)


def parse_refunds(body: bytes) -> list[Refund]:
    """Parse the JSON of `POST /refund`; raises MalformedRequest for anything but exactly it."""
    refunds = _members(body, ("refunds",))["refunds"]
    if not isinstance(refunds, list) or not 1 <= len(refunds) <= MAX_BATCH:
        raise MalformedRequest(f"refunds must be a list of 1 to {MAX_BATCH}")
    return [_refund(item) for item in refunds]


def _refund(item: object) -> Refund:
    if not isinstance(item, dict) or item.keys() != {"ticket", "binding"}:
        raise MalformedRequest("a refund is a ticket and a binding")
    return Refund(_octets(item["ticket"], 32), _octets(item["binding"], 32))


def parse_retire(body: bytes) -> bytes:
    """Parse the JSON of `POST /retire` to its key id; raises MalformedRequest."""
    return _octets(_members(body, ("key_id",))["key_id"], 32)


def _members(body: bytes, names: Sequence[str]) -> dict[str, Any]:
    try:
        members = canonical_json.decode(body)
    except Malformed as error:
        raise MalformedRequest("not JSON") from error
    if not isinstance(members, dict) or members.keys() != set(names):
        raise MalformedRequest(f"the members must be exactly {', '.join(names)}")
    return members


def _octets(value: object, length: int) -> bytes:
    # One spelling for one value: lower-case hex, no white space.
    try:
        octets = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        octets = b""
    if len(octets) != length or octets.hex() != value:
        raise MalformedRequest(f"expected {2 * length} lower-case hexadecimal digits")
    return octets
