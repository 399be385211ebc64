"""Decode attention by running sketches: T checks every score and every output without a cache.

For each key k_j that was verified T adds r_j k_j to a vector, r_j secret whole numbers, and keeps
of each value only v_j R'. Of U's scores s_j = c q.k_j, sum r_j s_j must then be c q.(sum r_j k_j);
and of U's output O, computed by softmax from these very scores, O R' must be sum_j p_j (v_j R').
So T holds a few vectors a head and `OUTPUTS` + 1 numbers a position instead of keys and values, and
its work per position is a few products instead of two vectors'. It waits for memory, so numbers are
kept as short as they may be: v_j R' in bfloat16, whose rounding is a 25th of what O's may be, r_j
in 8 bits.

A layer with a window also needs the keys that leave it: those of the window are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.native import scores as scores_in_library
from engine.native.scores import Sketches
from engine.verification.attention.prompt import UNIT
from engine.verification.model import TrustedModel
from engine.verification.secrets import BOUND, Secrets

SCORES, OUTPUTS = 4, 16
"""Secret sums over keys, and over the elements of a value."""
TAIL = 64
"""Positions that can be taken back: proposed ids that were not drawn."""
_RMS = (BOUND * (BOUND + 1) / 3) ** 0.5
_SMALLEST = 1e-30
_AT_ONCE = 1024
_STATE = ("_sum", "_power", "_values", "_squares", "_recent")


class Numbers:
    """The secret numbers of one model's heads. Sequences share them: U never learns any."""

    def __init__(self, model: TrustedModel, secrets: Secrets) -> None:
        """Draw those for the values; those for keys are drawn as contexts grow."""
        self._secrets = secrets
        self._heads = model.layers, model.key_heads
        count = model.layers * model.key_heads * model.size * OUTPUTS
        drawn = secrets.integers(b"attention values", count).float()
        self.values = drawn.view(*self._heads, model.size, OUTPUTS)
        """float32 [layers, key heads, size, OUTPUTS]."""
        self.every = torch.arange(model.layers, dtype=torch.int32)
        """int32 [layers]: their numbers."""
        self._keys = torch.empty(*self._heads, SCORES, 0, dtype=torch.int8)

    def keys(self, length: int) -> Tensor:
        """Return those of positions below `length`, int8 [layers, key heads, SCORES, length]."""
        return self.room(length)[..., :length]

    def room(self, length: int) -> Tensor:
        """Return those of positions below `length` and maybe more, in one piece."""
        while self._keys.shape[-1] < length:
            label = b"attention keys %d" % self._keys.shape[-1]
            count = self._heads[0] * self._heads[1] * SCORES * _AT_ONCE
            more = self._secrets.integers(label, count).view(*self._heads, SCORES, _AT_ONCE)
            self._keys = torch.cat([self._keys, more], dim=-1)
        return self._keys


@dataclass
class Running:
    """The sketches of one sequence, in layers that have one window in common.

    Attributes:
        layers: which; None for all.
        window: positions that a row sees; 0 for all.
        length: positions taken in.
    """

    numbers: Numbers
    layers: Tensor | None
    window: int
    length: int = 0
    _sum: Tensor = field(init=False)  # float64 [layers, key heads, size, SCORES]: of r_j k_j
    _power: Tensor = field(init=False)  # float64 [layers, key heads]: of |k_j|^2
    _values: Tensor = field(init=False)  # bfloat16 [layers, key heads, room, OUTPUTS]: v_j R'
    _squares: Tensor = field(init=False)  # [layers, key heads, room]: |v_j|^2
    _recent: Tensor = field(init=False)  # [layers, key heads, room, size]: keys from `_first` on
    _first: int = 0

    @classmethod
    def of(
        cls, numbers: Numbers, layers: Tensor | None, window: int, keys: Tensor, values: Tensor
    ) -> Running:
        """Begin with the keys and values of a prompt, [layers, positions, key heads, size]."""
        made = cls(numbers, layers, window)
        own, count = (len(numbers.values) if layers is None else len(layers)), keys.shape[1]
        heads, size = keys.shape[2:]
        made._sum = torch.zeros(own, heads, size, SCORES, dtype=torch.float64)
        made._power = torch.zeros(own, heads, dtype=torch.float64)
        made._values = torch.zeros(own, heads, _room(count), OUTPUTS, dtype=torch.bfloat16)
        made._squares = torch.zeros(own, heads, _room(count))
        kept = min(count, made._kept)
        made._recent = torch.zeros(own, heads, 2 * made._kept, size, dtype=torch.bfloat16)
        made._first = count - kept
        for first in range(0, count, _AT_ONCE):
            part = slice(first, min(first + _AT_ONCE, count))
            made._note_values(first, values[:, part])
            if not window or part.stop > count - window:
                made._add(max(first, count - window) if window else first, keys[:, part], first)
        made._recent[:, :, :kept] = keys[:, count - kept :].transpose(1, 2)
        made.length = count
        return made

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Take the next positions in, at most `TAIL` at a time; [layers, rows, key heads, size]."""
        for first in range(0, keys.shape[1], TAIL):
            part = slice(first, first + TAIL)
            self._append(keys[:, part], values[:, part])

    def truncate(self, length: int) -> None:
        """Forget positions from `length` on, of the last `TAIL`."""
        low = self._low(length)
        needed = low if self.window else length
        if length < self.length - TAIL or needed < self._first:
            raise ValueError("so many positions cannot be taken back")
        self._change(length, self.length, -1)
        self._change(low, self._low(self.length), 1)
        self._values[:, :, length : self.length] = 0
        self._squares[:, :, length : self.length] = 0
        self._recent[:, :, length - self._first : self.length - self._first] = 0
        self.length = length

    def erase(self) -> None:
        """Zero everything."""
        for name in _STATE:
            getattr(self, name).zero_()

    def copy(self) -> Running:
        """Return another of the same content."""
        made = Running(self.numbers, self.layers, self.window, self.length)
        for name in _STATE:
            setattr(made, name, getattr(self, name).clone())
        made._first = self._first
        return made

    def residuals(
        self,
        position: int,
        query: Tensor,
        scores: Tensor,
        output: Tensor,
        terms: tuple[float, float],
    ) -> tuple[Tensor, Tensor]:
        """Return how far a row's scores and output are off, float32 [layers, heads] each.

        Scores in units of rms(r) |q| sqrt(sum |k|^2) c: the largest of `SCORES` sums. The output in
        units of u sqrt(|o|^2 + sum p^2 |v|^2) rms(R'): the mean square of `OUTPUTS` sums.

        Args:
            position: the row's; it, and maybe later ones, were taken in.
            query: bfloat16 [layers, heads, size].
            scores: float32 [layers, heads, position + 1].
            output: bfloat16 [layers, heads, size].
            terms: scaling and cap.
        """
        scaling, cap = terms
        found = scores_in_library.available()
        if cap or found is None:
            return self._by_torch(position, (query, output, scores), terms)
        low, row = self._low(position + 1), (query, output, scores)
        sketches = self._kept_at(position + 1)
        return scores_in_library.residuals(found, row, sketches, low=low, scaling=scaling)

    def _kept_at(self, length: int) -> Sketches:
        """Return what is kept, with the sums as they were at `length`."""
        total, power = self._at(length)
        numbers = self.numbers.room(length), self.numbers.values
        which = self.numbers.every if self.layers is None else self.layers.int()
        return Sketches(total, power, self._values, self._squares, *numbers, which)

    def _by_torch(
        self, position: int, row: tuple[Tensor, Tensor, Tensor], terms: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        query, output, scores = row
        scaling, cap = terms
        total, power = self._at(position + 1)
        own, heads, size = query.shape
        key_heads = total.shape[1]
        low = self._low(position + 1)
        s = scores[..., low:].reshape(own, key_heads, heads // key_heads, -1)
        q = query.view(own, key_heads, heads // key_heads, size)
        r = self._of_layers(self.numbers.keys(position + 1))[..., low:].float()
        right = (q.double() @ total) * scaling
        unit = q.float().norm(dim=-1, keepdim=True) * power.sqrt().float()[..., None, None]
        off = (s @ r.transpose(2, 3) - right).abs().amax(-1, keepdim=True)
        score_error = off / (unit * (_RMS * scaling) + _SMALLEST)
        if cap:
            s = cap * torch.tanh(s / cap)
        p = s.softmax(-1)
        mixed = p @ self._values[:, :, low : position + 1].float()
        o = output.view(own, key_heads, heads // key_heads, size).float()
        told = o @ self._of_layers(self.numbers.values)
        spread = (p.square_() @ self._squares[:, :, low : position + 1, None])[..., 0]
        variance = (o.square().sum(-1) + spread) * (UNIT * _RMS) ** 2 + _SMALLEST
        energy = (told - mixed).square().mean(-1) / variance
        return score_error.float().view(own, heads), energy.view(own, heads)

    @property
    def _kept(self) -> int:
        """Keys that are kept: those that may leave the window, come back, or be taken back."""
        return self.window + 2 * TAIL

    def _low(self, length: int) -> int:
        """Return the first position that the last of `length` sees."""
        return max(0, length - self.window) if self.window else 0

    def _append(self, keys: Tensor, values: Tensor) -> None:
        start, rows = self.length, keys.shape[1]
        self._make_room(start, start + rows)
        if start - self._first + rows > self._recent.shape[2]:
            self._shift(start)
        at = start - self._first
        self._recent[:, :, at : at + rows] = keys.transpose(1, 2)
        self.length = start + rows
        found = scores_in_library.available()
        if found is not None and rows == 1:
            own = keys[:, 0], values[:, 0]
            scores_in_library.take_in(found, *own, self._kept_at(self.length), start)
        else:
            self._note_values(start, values)
            self._change(start, self.length, 1)
        self._change(self._low(start), self._low(self.length), -1)

    def _shift(self, length: int) -> None:
        """Let go of keys that are no longer needed."""
        used = length - self._first
        kept = min(used, self._kept)
        tail = self._recent[:, :, used - kept : used].clone()
        self._recent.zero_()
        self._recent[:, :, :kept] = tail
        self._first = length - kept

    def _make_room(self, used: int, stop: int) -> None:
        if stop > self._values.shape[2]:
            for name in ("_values", "_squares"):
                self._grow(name, used, _room(stop))

    def _note_values(self, start: int, values: Tensor) -> None:
        stop = start + values.shape[1]
        v = values.transpose(1, 2).float()
        self._values[:, :, start:stop] = (v @ self._of_layers(self.numbers.values)).bfloat16()
        self._squares[:, :, start:stop] = v.square().sum(-1)

    def _grow(self, name: str, used: int, room: int) -> None:
        old: Tensor = getattr(self, name)
        grown = old.new_zeros(*old.shape[:2], room, *old.shape[3:])
        grown[:, :, :used] = old[:, :, :used]
        old.zero_()
        setattr(self, name, grown)

    def _change(self, start: int, stop: int, sign: int) -> None:
        """Add positions to the sums, or take them off; their keys are among the recent."""
        if stop > start:
            keys = self._recent[:, :, start - self._first : stop - self._first]
            total, power = self._part(start, keys)
            self._sum += sign * total
            self._power += sign * power

    def _add(self, start: int, keys: Tensor, first: int) -> None:
        """Add positions from `start` on, of keys [layers, rows, key heads, size] from `first`."""
        total, power = self._part(start, keys[:, start - first :].transpose(1, 2))
        self._sum += total
        self._power += power

    def _part(self, start: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return what keys, [layers, key heads, rows, size] from `start` on, add to the sums."""
        k = keys.double()
        r = self._of_layers(self.numbers.keys(start + k.shape[2]))[..., start:].double()
        return k.transpose(2, 3) @ r.transpose(2, 3), k.square().sum((2, 3))

    def _at(self, length: int) -> tuple[Tensor, Tensor]:
        """Return the sums as they were at `length`, of the last `TAIL`."""
        if length == self.length:
            return self._sum, self._power
        total, power = self._sum.clone(), self._power.clone()
        for start, stop, sign in (
            (length, self.length, -1),
            (self._low(length), self._low(self.length), 1),
        ):
            if stop > start:
                keys = self._recent[:, :, start - self._first : stop - self._first]
                part, more = self._part(start, keys)
                total, power = total + sign * part, power + sign * more
        return total, power

    def _of_layers(self, tensor: Tensor) -> Tensor:
        return tensor if self.layers is None else tensor[self.layers]


def windows(model: TrustedModel) -> list[tuple[int, Tensor | None]]:
    """Return each window that layers have, and which layers; None for all."""
    found: dict[int, list[int]] = {}
    for layer, window in enumerate(model.windows):
        found.setdefault(window, []).append(layer)
    if len(found) == 1:
        return [(next(iter(found)), None)]
    return [(window, torch.tensor(layers)) for window, layers in found.items()]


def _room(length: int) -> int:
    """Return positions to take memory for."""
    return max(256, 1 << (length - 1).bit_length()) if length else 256


def flat(parts: Sequence[tuple[Tensor | None, Tensor]], layers: int) -> Tensor:
    """Put parts of layers together, [layers, ...]."""
    if parts[0][0] is None:
        return parts[0][1]
    whole = parts[0][1].new_empty(layers, *parts[0][1].shape[1:])
    for index, part in parts:
        whole[index] = part
    return whole
