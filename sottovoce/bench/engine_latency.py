"""What a stream notices of others: stalls while a prompt arrives, latencies under mixed load."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from engine.slot import Slot
from sottovoce.bench.engine_ours import Ours, greedy
from sottovoce.bench.engine_rounds import Prompts

_BEFORE = 4
"""Ids of the running stream before the prompt arrives."""
_MILLISECONDS = 1e3


@dataclass(frozen=True)
class Stall:
    """The longest gap between two ids of a running stream, and one chunk's time; in ms."""

    gap: float
    chunk: float


def in_chunks(engine: Ours) -> Ours:
    """Return an engine that cuts any prompt into the chunks that `engine` mixes with streams."""
    config = replace(engine.config, max_batch_tokens=engine.config.max_mixed_tokens)
    return Ours(config, engine.loaded)


def stall(engine: Ours, chunked: Ours, stream: Sequence[int], prompt: Sequence[int]) -> Stall:
    """Measure the gap and, right before it, the chunks of the same prompt alone (their median)."""
    chunks = _chunks(chunked, prompt)
    return Stall(_longest_gap(engine, stream, prompt), statistics.median(chunks))


def _chunks(engine: Ours, prompt: Sequence[int]) -> list[float]:
    times = []
    with engine.streams([prompt], greedy(2)) as slots:
        while not slots[0].sampled:
            started = time.perf_counter()
            engine.step()
            times.append((time.perf_counter() - started) * _MILLISECONDS)
    return times


def _longest_gap(engine: Ours, stream: Sequence[int], prompt: Sequence[int]) -> float:
    room = engine.geometry.max_model_len - len(stream)
    with engine.streams([stream], greedy(room)) as (running,):
        clock = _Clock(running)
        while running.sampled < _BEFORE:
            engine.step()
            clock.look()
        with engine.streams([prompt], greedy(_BEFORE)) as (newcomer,):
            while newcomer.sampled < 2:  # the step after the prompt is in it
                engine.step()
                clock.look()
    return max(clock.gaps[_BEFORE - 1 :])


@dataclass
class _Clock:
    """Notes when a slot's ids come; looked at after every step."""

    slot: Slot
    submitted: float = field(default_factory=time.perf_counter)
    times: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Note the ids that are new."""
        new = self.slot.sampled - len(self.times)
        self.times += [time.perf_counter()] * new

    @property
    def first(self) -> float:
        """Milliseconds to the first id."""
        return (self.times[0] - self.submitted) * _MILLISECONDS

    @property
    def gaps(self) -> list[float]:
        """Milliseconds between ids."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return [(late - early) * _MILLISECONDS for early, late in pairs]


@dataclass(frozen=True)
class Latencies:
    """In ms: of every request to its first id, of every id after it, the longest of a request."""

    first: list[float]
    between: list[float]
    longest: list[float]


def mixed_load(engine: Ours, clients: int, prompts: Prompts, count: int) -> Latencies:
    """Serve `clients` at a time, each with its next prompt as soon as its last one is answered."""
    waiting = iter(prompts)
    clocks: list[_Clock] = []
    open_slots: list[tuple[_Clock, ExitStack]] = []
    with ExitStack() as everything:
        while True:
            for prompt in _next(waiting, clients - len(open_slots)):
                stack = everything.enter_context(ExitStack())
                (slot,) = stack.enter_context(engine.streams([prompt], greedy(count)))
                open_slots.append((_Clock(slot), stack))
            if not open_slots:
                break
            engine.step()
            for clock, stack in list(open_slots):
                clock.look()
                if len(clock.times) == count:
                    stack.close()
                    open_slots.remove((clock, stack))
                    clocks.append(clock)
    return Latencies(
        [clock.first for clock in clocks],
        [gap for clock in clocks for gap in clock.gaps],
        [max(clock.gaps) for clock in clocks],
    )


def _next(waiting: Iterator[Sequence[int]], count: int) -> Iterator[Sequence[int]]:
    for _, prompt in zip(range(count), waiting, strict=False):
        yield prompt
