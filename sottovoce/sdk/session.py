"""The private path, running inside this process on a thread of its own.

It is the local proxy's application without its socket: what is asked of it is answered by the same
code, with the same checks and the same errors. The thread is there because tokens are drawn and
node lists fetched while nobody asks, and because synchronous and asynchronous callers share it.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import os
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from client.errors import ClientError
from client.proxy import ProxyConfig, build_app
from sottovoce.sdk.asgi import Question, Reply
from sottovoce.sdk.profile import default_profile, load_profile

_Result = TypeVar("_Result")

LOCK = "lock"
"""The file in the state folder that a session holds locked. Two clients with one wallet would show
one token twice, and two requests that show one token are known to be one person's."""


class StateInUse(ClientError):
    """Another client of this user has the state folder."""

    code = "state_in_use"


class SessionClosed(RuntimeError):
    """The session was closed."""


class Session:
    """One user's path to the workers. Use it as a context manager, or `close` it.

    Raises:
        StateInUse: (on construction) another session has the state folder.
        WalletDamaged: likewise, the wallet's file cannot be read.
    """

    def __init__(self, config: ProxyConfig) -> None:
        self._lock = _locked(config.state)
        self._app = build_app(config)
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event
        self._closed = False
        started: Future[None] = Future()
        self._thread = Thread(
            target=lambda: asyncio.run(self._live(started)), name="sottovoce", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:
            os.close(self._lock)
            raise
        atexit.register(self.close)

    @classmethod
    def from_profile(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Open the session that a profile describes; without a path, the user's own.

        Raises:
            ClientError: as `sottovoce.sdk.profile.load_profile`, and on construction.
        """
        return cls(load_profile(default_profile() if path is None else Path(path)))

    def ask(self, question: Question) -> Future[Reply]:
        """Begin a request; the future ends once status and headers are there."""
        return self.submit(Reply.begin(self._app, question))

    def submit(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Do some work on the session's thread.

        Raises:
            SessionClosed: the session was closed.
        """
        if self._closed:
            work.close()
            raise SessionClosed("this session was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def hang_up(self, reply: Reply) -> Future[None]:
        """Close a reply; of a closed session all are."""
        if not self._closed:
            return self.submit(reply.close())
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """End the session: tokens that nobody was shown go back to their file."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _live(self, started: Future[None]) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._app.router.lifespan_context(self._app):
                started.set_result(None)
                await self._ended.wait()
        except ClientError as error:
            started.set_exception(error)


def _locked(state: Path) -> int:
    """Lock a state folder for as long as the returned file descriptor is open."""
    descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StateInUse(f"another client uses the state folder {state}") from None
    return descriptor
