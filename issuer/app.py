"""The token issuer over HTTP (RFC 9578): its directory and the issuance of one token a request.

    GET  /.well-known/private-token-issuer-directory
    POST /token-request     a TokenRequest (259 bytes) for a TokenResponse (256 bytes)
    POST /token-exchange, POST /refund                        see `issuer.returning`
    GET  /health

An issuer knows who draws and how many; that is all it is for. What it signs is blinded, it writes
down nothing of it, and it never meets the request in which the token is spent.

Refusals of a token request, in the order in which they are found; only success costs quota:

    405 another method          415 another media type          401 no account key
    422 not 259 bytes, another token type, an unknown key, a blinded message >= n
    408 the body did not come   401 an unknown account key      403 the quota is used up
    500 a faulty signature      503 the database did not answer
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from issuer.accounts import Accounts
from issuer.errors import (
    BodyTooLarge,
    MalformedRequest,
    SigningFault,
    StoreUnavailable,
    UnknownAccount,
    WrongMediaType,
)
from issuer.keys import IssuerKey, KeyRing
from issuer.returning import Returning
from issuer.service import EXCEPTION_HANDLERS, listen_tcp, read_body, run
from issuer.spent_client import SpentClient
from wire.errors import WireError
from wire.privacy_pass import (
    ISSUER_DIRECTORY_PATH,
    ISSUER_DIRECTORY_TYPE,
    TOKEN_REQUEST_LENGTH,
    TOKEN_REQUEST_TYPE,
    TOKEN_RESPONSE_TYPE,
    TOKEN_TYPE,
    TokenChallenge,
    TokenRequest,
)

REQUEST_PATH = "/token-request"
DIRECTORY_MAX_AGE_S = 3600
"""Clients take their keys from the log; the directory serves those who know RFC 9578 alone."""

RETIRE_LOOK_S = 3600
"""How often an issuer looks whether a key is over, to have its spent rows dropped."""

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)  # RFC 6750, section 2.1


@dataclass(frozen=True)
class IssuerConfig:
    """What an issuer is started with.

    Key files are PKCS#8 PEM with their period (`issuer.keys`). `spent_socket` and `origin_info`,
    that of the fleet's challenge, are for exchanges and refunds; without a store there are none.
    """

    host: str
    port: int
    database: str
    key_files: tuple[Path, ...]
    issuer_name: str
    spent_socket: Path | None = None
    origin_info: str = ""

    @property
    def challenge(self) -> TokenChallenge:
        """The fleet's one challenge."""
        return TokenChallenge(self.issuer_name, b"", self.origin_info)


def serve(config: IssuerConfig, around: Callable[[Starlette], ASGIApp] = lambda app: app) -> None:
    """Serve an issuer until SIGTERM or SIGINT; `around` puts something around the application.

    Raises:
        Unusable: a key, the database or libcrypto is not usable.
        OSError: a key file cannot be read or the address not be bound.
    """
    keys = KeyRing.from_files(config.key_files)
    try:
        with listen_tcp(config.host, config.port) as listener:
            run(around(application(config, keys)), listener)
    finally:
        keys.close()


def application(config: IssuerConfig, keys: KeyRing) -> Starlette:
    """Return the issuer as an ASGI application; its lifespan opens and closes the accounts."""
    store = None if config.spent_socket is None else SpentClient(config.spent_socket)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Accounts]]:
        accounts = await Accounts.open(config.database)
        retiring = asyncio.create_task(_retire(keys, store))
        try:
            yield {"accounts": accounts}
        finally:
            retiring.cancel()
            if store is not None:
                await store.close()
            await accounts.close()

    async def serve_directory(_: Request) -> Response:
        headers = {"Cache-Control": f"public, max-age={DIRECTORY_MAX_AGE_S}"}
        content = directory(keys, time.time())
        return JSONResponse(content, headers=headers, media_type=ISSUER_DIRECTORY_TYPE)

    async def serve_token_request(request: Request) -> Response:
        signature = await _issue(request, keys, request.state.accounts)
        return Response(
            signature, media_type=TOKEN_RESPONSE_TYPE, headers={"Cache-Control": "no-store"}
        )

    async def serve_health(request: Request) -> Response:
        await request.state.accounts.ping()
        return JSONResponse({"status": "ok", "issuer": config.issuer_name})

    routes = [
        Route(ISSUER_DIRECTORY_PATH, serve_directory, methods=["GET"]),
        Route(REQUEST_PATH, serve_token_request, methods=["POST"]),
        Route("/health", serve_health, methods=["GET"]),
    ]
    if store is not None:
        routes += Returning(keys, store, config.challenge.digest).routes()
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=EXCEPTION_HANDLERS)


async def _retire(keys: KeyRing, store: SpentClient | None) -> None:
    """Have the spent rows of every key dropped that is over, now and from time to time."""
    while store is not None:
        for key in keys.over(time.time()):
            with suppress(StoreUnavailable):  # the next look will do
                await store.retire(key.key_id)
        await asyncio.sleep(RETIRE_LOOK_S)


def directory(keys: KeyRing, at: float) -> dict[str, object]:
    """Return the issuer directory object (RFC 9578, section 4), the preferred key first."""
    token_keys = [
        {
            "token-type": TOKEN_TYPE,
            "token-key": base64.urlsafe_b64encode(key.spki).decode(),
            "not-before": key.period.not_before,
        }
        for key in keys.published(at)
    ]
    return {"issuer-request-uri": REQUEST_PATH, "token-keys": token_keys}


async def _issue(request: Request, keys: KeyRing, accounts: Accounts) -> bytes:
    """Sign one token request, charged to the account that sent it."""
    _require_media_type(request.headers.get("content-type", ""))
    account_key = _account_key(request.headers.get("authorization", ""))
    try:
        body = await read_body(request, TOKEN_REQUEST_LENGTH)
    except BodyTooLarge as error:
        raise MalformedRequest("not the size of a token request") from error
    key, blinded = _parse(body, keys)
    await accounts.charge(account_key)
    try:
        # In a thread: libcrypto lets the event loop run meanwhile.
        return await asyncio.to_thread(key.blind_sign, blinded)
    except SigningFault:
        await accounts.refund(account_key)
        raise


def _parse(body: bytes, keys: KeyRing) -> tuple[IssuerKey, bytes]:
    """Return the key that `body` names and the blinded message that this key can sign."""
    try:
        token_request = TokenRequest.decode(body)
    except WireError as error:
        raise MalformedRequest("not a token request of type 0x0002") from error
    key = keys.find(token_request.truncated_key_id, time.time())
    key.require_in_range(token_request.blinded)
    return key, token_request.blinded


def _require_media_type(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != TOKEN_REQUEST_TYPE:
        raise WrongMediaType(f"the content type must be {TOKEN_REQUEST_TYPE}")


def _account_key(authorization: str) -> str:
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise UnknownAccount("an account key is needed: Authorization: Bearer")
    return match[1]
