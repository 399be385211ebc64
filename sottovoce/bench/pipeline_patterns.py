"""What a server asks of the link: weights that go round, KV that is swapped, and both.

A pattern drives a `World` for a while and returns the bytes that were wanted on the device. The
device's own work is shorter than its transfers, so that the link is what limits plain transfers.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sottovoce.bench.pipeline_world import World

_EVERY = 4
Pattern = Callable[["Load", World], int]


@dataclass(frozen=True)
class Load:
    """How much is done.

    Attributes:
        size: bytes of a block.
        blocks: of a layer, or of a sequence's KV.
        layers: that go round.
        sequences: that are on the device or swapped out.
        warm: loads before it counts.
        events: loads that count.
        computes_s: what the device works after each.
    """

    size: int = 512 << 10
    blocks: int = 8
    layers: int = 12
    sequences: int = 12
    warm: int = 48
    events: int = 96
    computes_s: float = 0.8e-3

    @property
    def bytes(self) -> int:
        """Bytes of one layer, or one sequence."""
        return self.size * self.blocks

    def ids(self, which: int) -> list[int]:
        """Return the blocks of a layer or sequence."""
        return list(range(1 + which * self.blocks, 1 + (which + 1) * self.blocks))


def weight_cycling(load: Load, world: World) -> int:
    """Layer after layer, round and round, into two buffers of the device."""
    for layer in range(load.layers):
        world.add(load.ids(layer))
    used: deque[float] = deque([0.0, 0.0])
    for event in range(-load.warm, load.events):
        if event == 0:
            world.begin()
        world.wait(used.popleft())
        ready = world.load(load.ids(event % load.layers))
        used.append(world.compute(ready, load.computes_s))
    world.wait(used.pop())
    return load.events * load.bytes


def _swap(load: Load, world: World, sequence: int) -> None:
    """A sequence leaves the device; its room is free when it has left."""
    world.wait(world.unload(load.ids(sequence)))


def _return(load: Load, world: World, sequence: int) -> None:
    """A sequence comes back and is computed."""
    world.wait(world.compute(world.load(load.ids(sequence)), load.computes_s))


def _resident(load: Load, world: World, sequences: range) -> None:
    """Bring sequences to the device for the first time."""
    for sequence in sequences:
        world.add(load.ids(sequence))
        world.load(load.ids(sequence))


def kv_lifo(load: Load, world: World) -> int:
    """Bursts: a few sequences make room, and come back, the last first."""
    _resident(load, world, range(load.sequences))
    chance, event, moved = random.Random(7), -load.warm, 0
    while event < load.events:
        if event >= 0 and not moved:
            world.begin()
        out = chance.sample(range(load.sequences), chance.randint(1, 4))
        for sequence in out:
            _swap(load, world, sequence)
        world.wait(world.compute(world.now, load.computes_s))
        for sequence in reversed(out):
            _return(load, world, sequence)
        moved += 2 * len(out) * (event >= 0)
        event += len(out)
    return moved * load.bytes


def kv_fifo(load: Load, world: World) -> int:
    """Turns: half of the sequences are outside, and the one that waited longest comes back."""
    turns = _Turns(load, world, range(load.sequences))
    for event in range(-load.warm, load.events):
        if event == 0:
            world.begin()
        turns.take()
    return 2 * load.events * load.bytes


def kv_mixed(load: Load, world: World) -> int:
    """Weights go round, and with every fourth layer sequences take turns."""
    for layer in range(load.layers):
        world.add(load.ids(layer))
    turns = _Turns(load, world, range(load.layers, load.layers + load.sequences))
    moved = 0
    for event in range(-load.warm, load.events):
        if event == 0:
            world.begin()
        _return(load, world, event % load.layers)
        if event % _EVERY == 0:
            turns.take()
        moved += (1 + 2 * (event % _EVERY == 0)) * (event >= 0)
    return moved * load.bytes


class _Turns:
    """Half of some sequences are outside; one leaves, and the one that left first comes back."""

    def __init__(self, load: Load, world: World, sequences: range) -> None:
        self._load, self._world = load, world
        _resident(load, world, sequences)
        self._inside, self._outside = deque(sequences), deque[int]()
        for _ in range(len(sequences) // 2):
            self._leave()

    def take(self) -> None:
        """Let one leave and one come back."""
        self._leave()
        self._inside.append(self._outside.popleft())
        _return(self._load, self._world, self._inside[-1])

    def _leave(self) -> None:
        self._outside.append(self._inside.popleft())
        _swap(self._load, self._world, self._outside[-1])


PATTERNS: dict[str, Pattern] = {
    "weight cycling": weight_cycling,
    "kv lifo": kv_lifo,
    "kv fifo": kv_fifo,
    "kv mixed": kv_mixed,
}
