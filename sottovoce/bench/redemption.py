"""Redemption: tokens spent in the store's own process, over its unix socket, on either database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from server.messages import Spend, Spending
from server.spending import SpentStore
from sottovoce.bench.line import Line, line
from sottovoce.bench.postgres import running_postgres

_AT_ONCE = 16
_START_S = 30.0
_BATCHES = 4


class RedemptionFailed(Exception):
    """The store did not start, or did not spend."""


def measure(count: int) -> Iterator[Line]:
    """Yield how many redemptions a second either database takes, `_AT_ONCE` at a time."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as folder:
        yield _one("SQLite", f"sqlite:///{folder}/spent", count)
    with running_postgres() as url:
        if url is not None:
            yield _one("PostgreSQL", url, count)


def _one(name: str, database: str, count: int) -> Line:
    with running_store(database) as path:
        rates = asyncio.run(_rates(path, max(_AT_ONCE, count // _BATCHES)))
    return line(f"sweep redemption @ {name}, one token, {_AT_ONCE} at once", "/s", rates)


async def _rates(path: Path, count: int) -> list[float]:
    store = SpentStore(path, timeout_s=30)
    key_id = os.urandom(32)

    async def spend_some(some: int) -> None:
        for _ in range(some):
            spend = Spend(os.urandom(16), key_id, (os.urandom(32),))
            if await store.spend(spend) is not Spending.OK:
                raise RedemptionFailed("a token that is new was not spent")

    await spend_some(2)
    rates = []
    for _ in range(_BATCHES):
        started = time.perf_counter()
        await asyncio.gather(*(spend_some(count // _AT_ONCE) for _ in range(_AT_ONCE)))
        rates.append(count // _AT_ONCE * _AT_ONCE / (time.perf_counter() - started))
    await store.close()
    return rates


@contextlib.contextmanager
def running_store(database: str) -> Iterator[Path]:
    """Run `sottovoce spent` and yield its socket."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as folder:
        path = Path(folder) / "spent.sock"
        command = [sys.executable, "-m", "sottovoce", "spent"]
        arguments = ["--database", database, "--socket", str(path)]
        process = subprocess.Popen([*command, *arguments])  # noqa: S603 - our own command
        try:
            deadline = time.monotonic() + _START_S
            while not path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RedemptionFailed("the spent-token store did not start")
                time.sleep(0.05)
            yield path
        finally:
            process.terminate()
            process.wait()
