"""Contestants in turns: every way of computing once a round, so that drift meets all alike.

A contestant may have several ways (kinds of cache, of attention). Each is tried beforehand, and
the fastest takes part: a peer is measured at its best.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sottovoce.bench.line import Line, line

_TRIES = 2
_PAUSE_S = 0.05
"""Before each turn: threads of whoever was at it before have stopped spinning."""
_AGREEING = 0.5
"""Share of first ids that must agree. Rounding decides near ties of random weights, here and
there; a model converted wrongly agrees about none."""

Prompts = Sequence[Sequence[int]]


class BenchFailed(Exception):
    """A contestant did not do what was measured: no figure, rather than a wrong one."""


class LeftOut(Exception):
    """A contestant is not at hand here; the message says why."""


@dataclass(frozen=True)
class Run:
    """One measurement: tokens a second, and the first id drawn after each prompt."""

    rate: float
    first_ids: tuple[int, ...] = ()


Way = Callable[[], Run]


class Decoder(Protocol):
    """An engine with the weights; its ways by name, all of them greedy."""

    def decoders(self, prompts: Prompts, count: int) -> Mapping[str, Way]:
        """Ways to decode `count` ids after each prompt, all prompts together.

        Timed from the moment at which every prompt has its first id; sampling is in it.
        """
        ...


class Prefiller(Protocol):
    """Likewise, for prompts."""

    def prefills(self, prompt: Sequence[int]) -> Mapping[str, Way]:
        """Ways to compute a prompt, up to its first id."""
        ...


@dataclass(frozen=True)
class Settled:
    """The way that takes part, its name, and what it drew first."""

    name: str
    way: Way
    first_ids: tuple[int, ...]


def settle(ways: Mapping[str, Way]) -> Settled:
    """Run every way, to warm it, and those that have a rival again; return the fastest."""
    tries = _TRIES if len(ways) > 1 else 0
    rates, settled = {}, {}
    for name, way in ways.items():
        settled[name] = Settled(name, way, way().first_ids)
        rates[name] = max((way().rate for _ in range(tries)), default=0.0)
    return settled[max(rates, key=rates.__getitem__)]


def in_turns(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Return the rates of every way, one a round; each round runs them in the other order."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 == 0 else reversed(list(ways)):
            time.sleep(_PAUSE_S)
            rates[name].append(ways[name]().rate)
    return rates


def check_agreement(ours: Sequence[int], theirs: Sequence[int], who: str) -> None:
    """Check that a peer computes the same model.

    Raises:
        BenchFailed: most first ids differ.
    """
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    if same < _AGREEING * len(ours):
        raise BenchFailed(f"{who} computes another model: {same} of {len(ours)} first ids agree")


def ratio_line(case: str, ours: Sequence[float], theirs: Sequence[float]) -> Line:
    """Return the line of a case whose value is the ratio of both medians.

    The quartiles are those of the rounds' own ratios, moved aside for the value where they must.
    """
    pairs = line(case, "x", [one / other for one, other in zip(ours, theirs, strict=True)])
    ratio = float(f"{statistics.median(ours) / statistics.median(theirs):.4g}")
    low, high = pairs.spread
    return replace(pairs, value=ratio, spread=(min(low, ratio), max(high, ratio)))
