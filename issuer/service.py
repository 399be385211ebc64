"""What both services of this party share: reading a body, answering an error, running.

The table from errors to statuses is here, and only here.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from issuer import errors

BODY_TIMEOUT_S = 10
"""A request of either service fits one packet or two; who needs longer holds a connection open."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# error: (status, code). RFC 9578, section 6.2, asks for 422 where a token request is at fault; the
# others are HTTP's own. 403 and not 429 for a used-up quota: waiting does not bring it back.
_STATUS: dict[type[Exception], tuple[int, str]] = {
    errors.WrongMediaType: (415, "wrong_media_type"),
    errors.BodyTooLarge: (413, "body_too_large"),
    errors.BodyTooSlow: (408, "body_too_slow"),
    errors.MalformedRequest: (422, "malformed"),
    errors.UnknownKey: (422, "unknown_key"),
    errors.BlindedOutOfRange: (422, "blinded_out_of_range"),
    errors.UnknownAccount: (401, "unknown_account"),
    errors.QuotaExhausted: (403, "quota_exhausted"),
    errors.TokenRefused: (403, "token_refused"),
    errors.Spent: (409, "spent"),
    errors.KeyRetired: (409, "key_retired"),
    errors.SigningFault: (500, "signing_fault"),
    errors.DatabaseUnavailable: (503, "unavailable"),
    errors.StoreUnavailable: (503, "unavailable"),
}


def answer(_: Request, error: Exception) -> Response:
    """Translate one of the errors above to its status and `{"error": {"code", "message"}}`."""
    status, code = _STATUS[type(error)]
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 15.5.2
    content = {"error": {"code": code, "message": str(error)}}
    return JSONResponse(content, status, headers)


EXCEPTION_HANDLERS = dict.fromkeys(_STATUS, answer)
"""For an application's `exception_handlers`."""


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of `request`, reading no further than `limit` bytes.

    Raises:
        BodyTooLarge: there is more.
        BodyTooSlow: it did not end within `BODY_TIMEOUT_S`, or the sender went away.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise errors.BodyTooLarge(f"the body is longer than {limit} bytes")
    except (TimeoutError, ClientDisconnect):
        raise errors.BodyTooSlow("the body did not arrive") from None
    return bytes(body)


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Serve `app` on `listener` until SIGTERM or SIGINT, then let running requests finish.

    Raises:
        StartFailed: the application could not start; its log says why.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="on",
        access_log=False,
        server_header=False,
        date_header=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    # SystemExit: how uvicorn, in most releases, says that the lifespan failed.
    with _signals_do_not_kill(), suppress(SystemExit):
        server.run(sockets=[listener])
    if not server.started:
        raise errors.StartFailed("the service could not start")


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a socket listening at `host` and `port`; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


@contextmanager
def listen_unix(path: Path) -> Iterator[socket.socket]:
    """Listen at `path`, which only this user may open (mode 0600); remove it at the end.

    A socket that a killed process left behind is replaced.

    Raises:
        SocketInUse: somebody answers there, or `path` holds something that is not a socket.
        OSError: the path cannot be bound.
    """
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        try:
            # Nobody can connect before `listen`, so at no moment could another user.
            path.chmod(0o600)
            listener.listen()
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise errors.SocketInUse(f"{path} is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise errors.SocketInUse(f"a running process listens at {path}")


@contextmanager
def _signals_do_not_kill() -> Iterator[None]:
    # uvicorn stops on a signal and then raises it again, for whoever had a handler before. Ours
    # does nothing, so that the caller gets to tidy up (the socket file) and the exit status is 0.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _ignore) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(_: int, __: FrameType | None) -> None:
    """Let a signal pass that uvicorn has already acted on."""
