"""Time to the first token and per output token of four schemes, over a shape's layers.

T's work is done on this machine and timed; the device and the link are computed, so every figure
made of them is EMULATED. A layer is measured and multiplied; heads and samplers are left out where
T would compute them itself (`full_tee`, `tsdp`), in their favour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sottovoce.bench.verify_model import Accelerator, Link, Shape, Split
from sottovoce.bench.verify_rivals import FullTee, Tsdp
from sottovoce.bench.verify_world import Checking, told

_AUDIT_ROWS = 33
"""Secret ones, and the last."""
_SAMPLING = 2
"""Crossings that a step waits for: its logits, and the id that follows."""


@dataclass(frozen=True)
class Plan:
    """What is measured of a shape."""

    shape: Shape
    prompt: int = 6144
    contexts: Sequence[int] = (1024, 4096, 8192, 10240)
    steps: int = 8
    """At each context."""
    together: int = 8
    """Layers that T checks in one go when decoding; as many times as the shape needs."""


@dataclass(frozen=True)
class Scheme:
    """One scheme's figures."""

    first: Split
    """To the first token."""
    each: Split
    """For an output token, on average."""
    overlaps: bool

    def s(self, split: Split) -> float:
        """Return how long something takes in this scheme."""
        return split.overlapped if self.overlaps else split.in_turn


def schemes(plan: Plan, device: Accelerator, link: Link) -> dict[str, Scheme]:
    """Measure all four."""
    return {
        "audit": ours(plan, device, link, "audit"),
        "full": ours(plan, device, link, "full"),
        "tsdp": tsdp(plan, device, link),
        "full_tee": full_tee(plan),
    }


def ours(plan: Plan, device: Accelerator, link: Link, mode: str) -> Scheme:
    """Measure a mode of ours; transfers, device and checks overlap."""
    shape, rows = plan.shape, plan.prompt
    step = told(shape, 1, rows, right=mode == "full")
    check = Checking(shape, 1, mode).seconds(step)
    opened = rows if mode == "full" else _AUDIT_ROWS
    size = rows * shape.kv_bytes + opened * shape.opened_bytes
    layer = Split(check, link.s(size, 0), device.prefill_s(shape, rows))
    first = layer.times(shape.layers).plus(_waits(link))
    return Scheme(first, _decoding(plan, device, link), overlaps=True)


def _decoding(plan: Plan, device: Accelerator, link: Link) -> Split:
    """Every row is checked wholly, whatever the mode."""
    shape = plan.shape

    def at(context: int) -> Split:
        size = shape.opened_bytes + shape.kv_bytes + shape.score_bytes(1, context)
        check = _decode_check(plan, context) / plan.together
        layer = Split(check, link.s(size, 0), device.decode_s(shape, context))
        return layer.times(shape.layers).plus(_waits(link))

    return integrated({context: at(context) for context in plan.contexts})


def _decode_check(plan: Plan, context: int) -> float:
    """Return the seconds of checking one row of some layers."""
    shape, layers = plan.shape, plan.together
    checking = Checking(shape, layers, "audit")
    for start, rows in ((0, context - 1), (context - 1, 1)):  # sketches begin with a decoded row
        checking.seconds(told(shape, layers, rows, start))
    return _median(
        lambda step: checking.seconds(told(shape, layers, 1, context + step)), plan.steps
    )


def _waits(link: Link) -> Split:
    """Return what each step costs besides: one crossing of its own, two that the device awaits."""
    return Split(0, link.s(0), link.s(0, _SAMPLING))


def tsdp(plan: Plan, device: Accelerator, link: Link) -> Scheme:
    """Measure products that cross one by one."""
    rival = Tsdp(plan.shape, device, link)
    each = {
        context: _middle([rival.decode(context) for _ in range(plan.steps)])
        for context in plan.contexts
    }
    layers = plan.shape.layers
    first = rival.prefill(plan.prompt).times(layers)
    return Scheme(first, integrated(each).times(layers), overlaps=False)


def full_tee(plan: Plan) -> Scheme:
    """Measure T alone."""
    rival, layers = FullTee(plan.shape), plan.shape.layers

    def at(context: int) -> Split:
        return Split(_median(lambda _: rival.decode(context), plan.steps), 0, 0)

    each = integrated({context: at(context) for context in plan.contexts})
    first = Split(rival.prefill(plan.prompt), 0, 0)
    return Scheme(first.times(layers), each.times(layers), overlaps=False)


def integrated(splits: Mapping[int, Split]) -> Split:
    """Return the mean over all contexts from 0 to the last, linear between what was measured.

    Below the first context it is taken to be as at the first.
    """
    contexts = list(splits)
    total, last = splits[contexts[0]].times(contexts[0]), contexts[-1]
    for low, high in pairwise(contexts):
        total = total.plus(splits[low].plus(splits[high]).times((high - low) / 2))
    return total.times(1 / last)


def _median(measured: Callable[[int], float], times: int) -> float:
    return sorted(measured(turn) for turn in range(times))[times // 2]


def _middle(splits: Sequence[Split]) -> Split:
    return sorted(splits, key=lambda split: split.in_turn)[len(splits) // 2]
