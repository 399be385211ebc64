"""Ways in which a device lies, each with its layer, operation, row and element drawn at random.

A lie is consistent unless it says otherwise: what is tampered with is gone on with, and shipped,
as by somebody who knows everything but T's secrets. Sizes are those that count as gross: an
element by at least one root mean square of its row, a row by 3 % of its norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import torch
from torch import Tensor

from engine.device import StepInput
from engine.native.model import NativeModel
from engine.verification.plain_decoder import Op, PlainTranscript, Products, Touch, unchanged

Answer = tuple[Tensor, PlainTranscript]

_PRODUCTS = (Op.QKV, Op.OUTPUT, Op.GATE_UP, Op.DOWN)
_ANY = (
    *_PRODUCTS, Op.ATTENTION_INPUT, Op.QUERIES, Op.KEYS, Op.VALUES, Op.ATTENDED, Op.MLP_INPUT,
    Op.ACTIVATED,
)  # fmt: skip
PROMPTS = (40, 9)
"""Rows of a trial's first steps; each other step has one."""
STEPS = range(6)
_FIRST, _PROMPTS, _DECODED = STEPS[:1], STEPS[: len(PROMPTS)], STEPS[len(PROMPTS) :]
_NOTICEABLE = (*_FIRST, *_DECODED)
"""Where 8 bits for keys and values show. A few positions of a prompt, among many that are right,
move its outputs by less than their own rounding; the first row decoded over them tells."""
_DTYPES = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


@dataclass
class Lie:
    """What a device does differently while it lies."""

    touch: Touch = unchanged
    tell: Touch = unchanged
    products: Callable[[Products], Products] = lambda products: products
    """Which weights it computes with, from the beginning."""
    inputs: Callable[[StepInput], StepInput] = lambda batch: batch
    answers: Callable[[Answer, Answer], Answer] = lambda _before, now: now
    """What it says, of what it said a step before and of what it found."""
    place: str = ""
    """Where, for the table."""
    steps: Sequence[int] = STEPS
    """In which steps of a trial it can be told: a drawn one of them."""


@dataclass
class _At:
    """A `Touch` of one operation in one layer."""

    op: Op
    layer: int
    change: Callable[[Tensor], Tensor]

    def __call__(self, op: Op, layer: int, tensor: Tensor) -> Tensor:
        if op is not self.op or layer != self.layer:
            return tensor
        return self.change(tensor.clone()).to(tensor.dtype)

    def __str__(self) -> str:
        return f"{self.op.value} of layer {self.layer}"


@dataclass
class Drawing:
    """What is left to chance."""

    random: Random
    layers: int

    def at(self, ops: tuple[Op, ...], change: Callable[[Tensor], Tensor]) -> Lie:
        """Return a lie in one of some operations, of any layer."""
        touch = _At(self.random.choice(ops), self.random.randrange(self.layers), change)
        return Lie(touch=touch, place=str(touch))

    def generator(self) -> torch.Generator:
        """Return a source of noise."""
        return torch.Generator().manual_seed(self.random.getrandbits(60))

    def row(self, tensor: Tensor) -> Tensor:
        """Return the row that is tampered with, flat: the last, which is always looked at."""
        return tensor[-1].view(-1)


def _rms(row: Tensor) -> float:
    return float(row.float().square().mean().sqrt())


def _element(drawing: Drawing) -> Lie:
    def change(tensor: Tensor) -> Tensor:
        row = drawing.row(tensor)
        index = drawing.random.randrange(len(row))
        row[index] += _rms(row) * drawing.random.choice((-1.1, 1.1))
        return tensor

    return drawing.at(_ANY, change)


def _noise(drawing: Drawing, tensor: Tensor, part: float) -> Tensor:
    noise = torch.randn(tensor.shape, generator=drawing.generator())
    norms = [each.flatten(1).norm(dim=1) for each in (tensor.float(), noise)]
    factor = part * norms[0] / norms[1]
    noisy: Tensor = tensor.float() + noise * factor.view(-1, *[1] * (tensor.dim() - 1))
    return noisy


def _row(drawing: Drawing) -> Lie:
    def change(tensor: Tensor) -> Tensor:
        tensor[-1:] = _noise(drawing, tensor[-1:], 0.033).to(tensor.dtype)
        return tensor

    return drawing.at(_ANY, change)


def _low_rank(drawing: Drawing) -> Lie:
    def change(tensor: Tensor) -> Tensor:
        flat = tensor.flatten(1).float()
        direction = torch.randn(flat.shape[1], generator=drawing.generator())
        sizes = 0.035 * flat.norm(dim=1, keepdim=True) / direction.norm()
        tampered: Tensor = flat + sizes * direction
        return tampered.view(tensor.shape)

    return drawing.at(_PRODUCTS, change)


def _equal_pair(drawing: Drawing) -> Lie:
    def change(tensor: Tensor) -> Tensor:
        row = drawing.row(tensor)
        one, other = drawing.random.sample(range(len(row)), 2)
        step = _rms(row) * 1.1
        row[one] += step
        row[other] -= step
        return tensor

    return drawing.at(_PRODUCTS, change)


def _flip(drawing: Drawing) -> Lie:
    def change(tensor: Tensor) -> Tensor:
        row = drawing.row(tensor)
        bits = row.view(_DTYPES[row.dtype])
        index = int(row.float().abs().argmax())  # of a tiny element, a bit may say nothing
        width = 8 * row.element_size()
        bits[index] ^= 1 << drawing.random.randrange(width - 9, width - 1)
        return tensor

    return drawing.at(_PRODUCTS, change)


def _becomes(value: float) -> Callable[[Drawing], Lie]:
    def lie(drawing: Drawing) -> Lie:
        def change(tensor: Tensor) -> Tensor:
            row = drawing.row(tensor)
            row[drawing.random.randrange(len(row))] = value
            return tensor

        return drawing.at(_PRODUCTS, change)

    return lie


def _zeros(drawing: Drawing) -> Lie:
    def change(tensor: Tensor) -> Tensor:
        tensor[-1] = 0
        return tensor

    return drawing.at(_PRODUCTS, change)


def _weights(change: Callable[[Tensor], Tensor], place: str) -> Callable[[Drawing], Lie]:
    """Return lies that compute with other weights, in all products of all layers."""

    def changed(products: Products) -> Products:
        weights = {
            key: change(weight.float()).bfloat16() for key, weight in products.weights.items()
        }
        return replace(products, weights=weights)

    return lambda _drawing: Lie(products=changed, place=place, steps=_FIRST)


def _other_head(products: Products) -> Products:
    return replace(products, head=_int8(products.head.float()).bfloat16())


def _int8(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round() * scale


def _int4(weight: Tensor) -> Tensor:
    groups = weight.view(len(weight), -1, 32)
    scale = groups.abs().amax(2, keepdim=True) / 7
    return ((groups / scale).round() * scale).view(weight.shape)


def _fp8(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(1, keepdim=True) / 448
    return (weight / scale).to(torch.float8_e4m3fn).float() * scale


def _pruned(weight: Tensor) -> Tensor:
    small = weight.abs() < weight.abs().flatten().kthvalue(weight.numel() // 10).values
    return weight.masked_fill(small, 0)


def _smaller(weight: Tensor) -> Tensor:
    """Keep the best approximation of half the rank: a model with half as many parameters."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    kept = len(values) // 2
    best: Tensor = (left[:, :kept] * values[:kept]) @ right[:kept]
    return best


def _cache(
    change: Callable[[Tensor], Tensor], place: str, steps: Sequence[int] = STEPS
) -> Callable[[Drawing], Lie]:
    """Return lies that keep other keys and values than they ship."""

    def touch(op: Op, _layer: int, tensor: Tensor) -> Tensor:
        stored = op in (Op.STORED_KEYS, Op.STORED_VALUES)
        return change(tensor.float()).to(tensor.dtype) if stored else tensor

    return lambda _drawing: Lie(touch=touch, place=place, steps=steps)


def _kv_int8(rows: Tensor) -> Tensor:
    scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-6) / 127
    return (rows / scale).round() * scale


def _unseen(which: Callable[[Drawing, int], list[int]], place: str) -> Callable[[Drawing], Lie]:
    """Return lies whose attention leaves out positions, and ships the scores all the same."""

    def lie(drawing: Drawing) -> Lie:
        honest: dict[int, list[Tensor]] = {}

        def touch(op: Op, layer: int, tensor: Tensor) -> Tensor:
            if op is not Op.SCORES:
                return tensor
            honest.setdefault(layer, []).append(tensor)
            tensor = tensor.clone()
            tensor[..., which(drawing, tensor.shape[-1])] = -torch.inf
            return tensor

        def tell(op: Op, layer: int, tensor: Tensor) -> Tensor:
            return honest[layer].pop(0) if op is Op.SCORES else tensor

        return Lie(touch=touch, tell=tell, place=place)

    return lie


def _replayed(_drawing: Drawing) -> Lie:
    def answers(before: Answer, now: Answer) -> Answer:
        return before if len(before[0]) == len(now[0]) else now

    return Lie(answers=answers, place="the answer", steps=_DECODED[1:])


def _position(model: NativeModel, drawing: Drawing) -> Lie:
    """Rotate the last row's queries as if it were one position on."""

    def change(tensor: Tensor) -> Tensor:
        rotary = model.layers[touch.layer].rotary
        angles = model.frequencies[rotary]
        a, b = torch.chunk(tensor[-1].float(), 2, dim=-1)
        turned = [a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()]
        tensor[-1] = torch.cat(turned, -1).to(tensor.dtype)
        return tensor

    turning = [i for i, layer in enumerate(model.layers) if layer.rotary >= 0]
    op = drawing.random.choice((Op.QUERIES, Op.KEYS))
    touch = _At(op, drawing.random.choice(turning), change)
    return Lie(touch=touch, place=str(touch))


def _prompt(change: Callable[[Tensor], Tensor], place: str) -> Callable[[Drawing], Lie]:
    """Return lies that compute another prompt."""

    def inputs(batch: StepInput) -> StepInput:
        rows = change(batch.rows.clone()) if len(batch.rows) > 1 else batch.rows
        return replace(batch, rows=rows)

    return lambda _drawing: Lie(inputs=inputs, place=place, steps=_PROMPTS)


def _dropped(rows: Tensor) -> Tensor:
    rows[: len(rows) // 2] = 0
    return rows


def _swapped(rows: Tensor) -> Tensor:
    rows[[0, -1]] = rows[[-1, 0]]
    return rows


def _logits(change: Callable[[Drawing, Tensor], Tensor]) -> Callable[[Drawing], Lie]:
    def lie(drawing: Drawing) -> Lie:
        touch = _At(Op.LOGITS, -1, partial(change, drawing))
        return Lie(touch=touch, place="the logits")

    return lie


def _biased(drawing: Drawing, logits: Tensor) -> Tensor:
    if len(logits):
        logits[-1, drawing.random.randrange(logits.shape[1])] += 1.0
    return logits


def _anothers(_drawing: Drawing, logits: Tensor) -> Tensor:
    return logits.roll(1, 0) if len(logits) > 1 else logits.flip(-1)


def _middle(drawing: Drawing, context: int) -> list[int]:
    return [drawing.random.randrange(context // 4, max(context // 4 + 1, context // 2))]


def lies(model: NativeModel) -> Mapping[str, Callable[[Drawing], Lie]]:
    """Return every kind of lie by its name; each is drawn anew by calling it."""
    return {
        "single element": _element,
        "row": _row,
        "low rank": _low_rank,
        "equal pair": _equal_pair,
        "bit flip": _flip,
        "NaN": _becomes(float("nan")),
        "infinity": _becomes(float("inf")),
        "zeros": _zeros,
        "weights int8": _weights(_int8, "all weights"),
        "weights fp8": _weights(_fp8, "all weights"),
        "weights int4": _weights(_int4, "all weights"),
        "pruned weights": _weights(_pruned, "all weights"),
        "smaller model": _weights(_smaller, "all weights"),
        "head int8": lambda _drawing: Lie(products=_other_head, place="the head", steps=_FIRST),
        "KV int8": _cache(_kv_int8, "the cache", _NOTICEABLE),
        "window truncated": _unseen(lambda _drawing, n: list(range(n // 2)), "attention"),
        "key dropped": _unseen(_middle, "attention"),
        "stale KV": _cache(torch.zeros_like, "the cache"),
        "replayed step": _replayed,
        "wrong position": partial(_position, model),
        "prompt dropped": _prompt(_dropped, "the prompt"),
        "prompt reordered": _prompt(_swapped, "the prompt"),
        "biased logits": _logits(_biased),
        "another request's logits": _logits(_anothers),
    }
