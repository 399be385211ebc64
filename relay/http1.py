"""One connection to a worker or the log: `wire.http1_client` with asyncio's sockets and waiting."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from wire.http1_client import Connection, Origin


class WorkerConnection(Connection):
    """A connection whose changes can be waited for."""

    def __init__(self, origin: Origin) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(origin, self._wake, self._loop.time)

    @classmethod
    async def open(
        cls, origin: Origin, context: ssl.SSLContext, *, timeout_s: float
    ) -> WorkerConnection:
        """Connect.

        Raises:
            TimeoutError, OSError: not in time, or not at all.
        """
        connection: WorkerConnection
        # Any: the connection has a protocol's methods, but `wire` cannot name asyncio's types.
        factory: Any = partial(cls, origin)
        async with asyncio.timeout(timeout_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                factory,
                origin.host,
                origin.port,
                ssl=context if origin.scheme == "https" else None,
            )
        return connection

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait until `ready`, or until the connection has ended."""
        while not ready() and self.error is None:
            await self.change()

    def change(self) -> asyncio.Future[None]:
        """Return what is done as soon as anything changes."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def bound_silence(self, limit_s: float) -> None:
        """End the connection with a TimeoutError when nothing comes for `limit_s` seconds."""
        left = limit_s - self.silence
        if left > 0:
            self._timer = self._loop.call_later(left, self.bound_silence, limit_s)
        else:
            self.fail(TimeoutError())

    def unbound_silence(self) -> None:
        """Let the connection be silent."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
