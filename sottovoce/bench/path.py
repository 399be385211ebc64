"""`bench path`: what the whole path costs beside the same worker's application in the clear.

Both ways are taken in turns, in one run, against one engine process. A figure is the median of
what the pairs give, so that what drifts on the machine meets both alike.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sottovoce.bench.line import Line, line
from sottovoce.bench.load import Stream, completion, http_request, read_stream, read_streams
from sottovoce.bench.random_model import HALF_B, Shape, write_random_model
from sottovoce.bench.stack import Stack, running
from sottovoce.models import choose_model

_PATH = "/v1/chat/completions"
_SETTLE_S = 0.3


@dataclass(frozen=True)
class PathSizes:
    """How much is measured."""

    streams: int = 16
    single_pairs: int = 16
    rounds: int = 4
    """Pairs of rounds; in each, every stream once on either way."""
    tokens: int = 96
    small_rounds: int = 3
    small_tokens: int = 400


QUICK = PathSizes(streams=4, single_pairs=2, rounds=1, tokens=8, small_rounds=1, small_tokens=40)


def measure(sizes: PathSizes, shape: Shape = HALF_B) -> Iterator[Line]:
    """Yield the lines of `bench path` as they are measured."""
    yield from _small_model(sizes)
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as folder:
        model = Path(folder) / f"random-{_billions(shape)}b"
        write_random_model(model, shape, choose_model(None).folder)
        wanted = 2 * sizes.streams * (sizes.rounds + 1) + sizes.single_pairs + 64
        with running(model, tokens=wanted) as stack:
            _warm(stack, sizes)
            name = f"{_billions(shape)}B shape bf16"
            yield from _one_at_a_time(stack, sizes, name)
            yield from _all_at_once(stack, sizes, name)


def _billions(shape: Shape) -> str:
    return "0.5" if shape == HALF_B else "tiny"


def _requests(stack: Stack, port: int, count: int, tokens: int) -> list[bytes]:
    return [
        http_request(
            port,
            _PATH,
            completion(stack.model_name, f"Tell me something about number {index}.", tokens),
        )
        for index in range(count)
    ]


def _round(stack: Stack, port: int, streams: int, tokens: int) -> list[Stream]:
    requests = _requests(stack, port, streams, tokens)
    time.sleep(_SETTLE_S)  # capsules and slots of the round before are gone, a pool is ready
    return asyncio.run(read_streams(port, requests))


def _single(stack: Stack, port: int) -> Stream:
    (request,) = _requests(stack, port, 1, 2)
    time.sleep(_SETTLE_S)
    return asyncio.run(read_stream(port, request))


def _warm(stack: Stack, sizes: PathSizes) -> None:
    for port in (stack.proxy_port, stack.plain_port):
        _round(stack, port, sizes.streams, 4)


def _pair(index: int, stack: Stack) -> tuple[int, int]:
    """Return both ports, the path first in every other pair."""
    ports = (stack.proxy_port, stack.plain_port)
    return ports if index % 2 == 0 else (ports[1], ports[0])


def _one_at_a_time(stack: Stack, sizes: PathSizes, name: str) -> Iterator[Line]:
    added, plain = [], []
    for index in range(sizes.single_pairs):
        ttft = {port: _single(stack, port).ttft * 1e3 for port in _pair(index, stack)}
        added.append(ttft[stack.proxy_port] - ttft[stack.plain_port])
        plain.append(ttft[stack.plain_port])
    yield line(f"ttft added @ {name}, {sizes.streams} streams one after another", "ms", added)
    yield line(f"sweep ttft plain @ {name}, one stream", "ms", plain)


def _all_at_once(stack: Stack, sizes: PathSizes, name: str) -> Iterator[Line]:
    added: list[float] = []
    costs: list[float] = []
    rates: dict[int, list[float]] = {stack.proxy_port: [], stack.plain_port: []}
    for index in range(sizes.rounds):
        ttft = {}
        for port in _pair(index, stack):
            streams = _round(stack, port, sizes.streams, sizes.tokens)
            ttft[port] = statistics.median(each.ttft for each in streams) * 1e3
            rates[port].append(_rate(streams, sizes))
        added.append(ttft[stack.proxy_port] - ttft[stack.plain_port])
        costs.append(100 * (1 - rates[stack.proxy_port][-1] / rates[stack.plain_port][-1]))
    both = f"{name}, {sizes.streams} streams"
    yield line(f"ttft added @ {both} at once", "ms", added)
    yield line(f"throughput cost @ {both}", "%", costs)
    yield line(f"sweep throughput path @ {both}", "tokens/s", rates[stack.proxy_port])
    yield line(f"sweep throughput plain @ {both}", "tokens/s", rates[stack.plain_port])


def _rate(streams: list[Stream], sizes: PathSizes) -> float:
    """Tokens a second from the first request to the last end."""
    seconds = max(each.ended for each in streams) - min(each.sent for each in streams)
    return len(streams) * sizes.tokens / seconds


def _small_model(sizes: PathSizes) -> Iterator[Line]:
    wanted = sizes.streams * (sizes.small_rounds + 1) + 64
    with running(None, tokens=wanted) as stack:
        _warm(stack, sizes)
        samples: dict[str, list[float]] = {}
        for _ in range(sizes.small_rounds):
            for part, cost in _cost_per_event(stack, sizes).items():
                samples.setdefault(part, []).append(cost)
        name = f"tinychat, {sizes.streams} streams of {sizes.small_tokens}"
        yield line(f"cpu per event @ {name}", "us", samples.pop("all"))
        for part, costs in samples.items():
            yield line(f"sweep cpu per event @ {name}, {part}", "us", costs)


def _cost_per_event(stack: Stack, sizes: PathSizes) -> dict[str, float]:
    """Return microseconds of processor time an event: of each part, and of all together."""
    time.sleep(_SETTLE_S)
    before = stack.processor_times()
    streams = _round(stack, stack.proxy_port, sizes.streams, sizes.small_tokens)
    time.sleep(_SETTLE_S)  # until the last capsule has been waited for
    after = stack.processor_times()
    events = sum(each.events for each in streams)
    costs = {part: (after[part] - before[part]) * 1e6 / events for part in after}
    return {**costs, "all": sum(costs.values())}
