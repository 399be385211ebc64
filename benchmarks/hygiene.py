"""What it costs to leave nothing behind: the same processes with hygiene, and without.

    python benchmarks/hygiene.py [--rounds N] [--tokens N] [--model DIR]

Two whole systems run at once, each with one worker; in the second, freed memory is not overwritten
and KV blocks are not zeroed. Four clients ask both in turns, the first of a pair alternating, so
that what drifts on the machine meets both alike. Then a third serves 64 streams that begin
together: of three workers, for each takes 32, and clients draw them at random. One JSON object a
line, as `sottovoce bench` writes them (`sottovoce/bench/line.py`):

    tokens/s lost      of 100, by pairs; the goal is at most 10
    ms a request       more for a request of one token, by pairs; at most 8
    capsule MiB        private to a capsule with a stream, the largest that was seen; at most 12
    streams at once    that were open in one moment, of 64 that all ended whole; all 64
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.config import WorkerConfig
    from sottovoce.bench.line import Line
    from sottovoce.up import Up

# A worker without hygiene is this file, too: what its roles do not need is not imported for them.
# ruff: noqa: PLC0415

CLIENTS = 4
STREAMS, WORKERS = 64, 3
LONG = 512
"""Tokens of each of these streams: the first must not end before the last has begun."""
LOOK_S = 0.1
"""Between two looks at the memory of capsules."""

PROMPT = "Tell me about the relay, and what it sees of a request. " * 8
TIMEOUT_S = 300.0
_WORKER = "worker-without-hygiene"


def _zeroes_nothing(control: int, config: WorkerConfig, ready: int) -> None:
    """Be the engine, without zeroing KV blocks."""
    from engine.kv_cache import KVPool
    from server.launcher import PARTS

    KVPool.zero = lambda _pool, _blocks: None  # type: ignore[method-assign,assignment]
    PARTS.engine(control, config, ready)


def _unscrubbed() -> None:
    """Stand in the place of `ensure_scrubbing`: the environment stays as it is."""


def be_worker(arguments: list[str]) -> None:
    """Be `sottovoce worker`, without hygiene; sandbox and capsules stay."""
    from server import launcher
    from sottovoce.commands import worker

    launcher.ensure_scrubbing = _unscrubbed  # type: ignore[attr-defined]
    # Its libraries are loaded before it could be confined; the filter costs the same on both sides.
    parts = replace(launcher.PARTS, engine=_zeroes_nothing)
    worker.app(arguments, obj=parts)


@contextmanager
def system(model: str | None, tokens: int, *, hygiene: bool, workers: int = 1) -> Iterator[Up]:
    """Run every party of a system whose proxy has `tokens`; yield it."""
    from rich.console import Console

    from sottovoce import supervisor
    from sottovoce.bench.stack import fill_wallet, free_port_base
    from sottovoce.up import Up, UpOptions

    class Party(supervisor.Party):
        def start(self) -> None:
            if hygiene or self.arguments[0] != "worker":
                super().start()
                return
            command = [sys.executable, __file__, _WORKER, *self.arguments[1:]]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
            self.started = time.monotonic()

    class Supervisor(supervisor.Supervisor):
        def start(self, name: str, *arguments: str) -> None:
            self.parties[name] = party = Party(name, arguments, self._folder / f"{name}.log")
            party.start()

    class System(Up):
        def _start_path(self, model: Path, name: str, account: str) -> None:
            asyncio.run(fill_wallet(self.local, account, tokens))
            super()._start_path(model, name, account)

    options = UpOptions(free_port_base(), workers=workers, model=model, list_epoch_s=60)
    running = System(options, Console(file=io.StringIO()))
    running.supervisor = Supervisor(running.local.folder, running._on_death)  # noqa: SLF001
    try:
        running.start()
        yield running
    finally:
        running.stop()


def completions(running: Up) -> str:
    """Return where a system is asked."""
    from sottovoce.local import PROXY

    return f"{running.local.url(PROXY)}/v1/completions"


def seconds(url: str, name: str, tokens: int) -> float:
    """Have every client ask once, at once; return how long all of it took."""
    import httpx

    order = {"model": name, "prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True}

    def ask(number: int) -> None:
        answer = httpx.post(url, json={**order, "seed": number}, timeout=TIMEOUT_S, trust_env=False)
        answer.raise_for_status()

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as executor:
        list(executor.map(ask, range(CLIENTS)))
    return time.monotonic() - began


def measure(model: str | None, rounds: int, tokens: int) -> Iterator[Line]:
    """Yield the figures."""
    from sottovoce.bench.line import line
    from sottovoce.models import choose_model

    name = choose_model(model).name
    wanted = 4 * CLIENTS * (rounds + 2)
    with ExitStack() as stack:
        systems = (system(model, wanted, hygiene=each) for each in (True, False))
        urls = [completions(stack.enter_context(each)) for each in systems]
        pairs = list(_pairs(urls, name, tokens, rounds))
        lost = [100 * (1 - bare / ours) for ours, bare in pairs]
        yield line(f"tokens/s lost @ {CLIENTS} clients, {tokens} tokens", "%", lost)
        more = [1000 * (ours - bare) for ours, bare in _pairs(urls, name, 1, rounds)]
        yield line(f"ms a request @ {CLIENTS} clients, one token", "ms", more)
    with system(model, 8 * STREAMS, hygiene=True, workers=WORKERS) as running:
        at_once, largest = asyncio.run(streams(running, name, LONG))
    parameters = f"{STREAMS} streams of {LONG} tokens, {WORKERS} workers"
    yield line(f"capsule MiB @ {parameters}", "MiB", [largest])
    yield line(f"streams at once @ {parameters}", "streams", [at_once])


async def streams(running: Up, name: str, tokens: int) -> tuple[int, float]:
    """Open 64 streams together; return how many were open at once, and the largest capsule's MiB.

    Of those that were open only as many count as ended whole.
    """
    import httpx

    opened, most, whole = 0, 0, 0
    order = {"model": name, "prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True}

    async def one(client: httpx.AsyncClient, seed: int) -> None:
        nonlocal opened, most, whole
        asked = {**order, "seed": seed, "stream": True}
        async with client.stream("POST", completions(running), json=asked) as answer:
            lines = answer.aiter_lines()
            last = await anext(lines, "")
            opened += 1
            most = max(most, opened)
            async for line in lines:
                last = line or last
            opened -= 1
        whole += last == "data: [DONE]"

    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
        streaming = asyncio.gather(*(one(client, seed) for seed in range(STREAMS)))
        largest = 0.0
        while not streaming.done():
            largest = max([largest, *map(private_mib, capsules(running))])
            await asyncio.sleep(LOOK_S)
        await streaming
    return min(most, whole), largest


def capsules(running: Up) -> Iterator[int]:
    """Yield the capsules of all workers: what the zygotes have forked."""
    for name, party in running.supervisor.parties.items():
        if name.startswith("worker") and party.process is not None:
            for role in children(party.process.pid):
                yield from children(role)


def children(pid: int) -> list[int]:
    """Return what a process has forked; nothing of one that has ended."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def private_mib(pid: int) -> float:
    """Return what a process shares with no other; 0 of one that has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    kinds = ("Private_Clean:", "Private_Dirty:")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(kinds)) / 1024


def _pairs(urls: list[str], name: str, tokens: int, rounds: int) -> Iterator[tuple[float, float]]:
    for number in range(-1, rounds):
        order = (0, 1) if number % 2 else (1, 0)
        took = {which: seconds(urls[which], name, tokens) for which in order}
        if number >= 0:  # the first one warms up
            yield took[0], took[1]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--model", help="folder; the model in the box if not")
    options = parser.parse_args()
    for each in measure(options.model, options.rounds, options.tokens):
        sys.stdout.write(each.encode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == [_WORKER]:
        be_worker(sys.argv[2:])
    else:
        main()
