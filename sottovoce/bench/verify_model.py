"""What is not here: an accelerator and the link to it, computed from their figures.

T's work is done and timed on this machine's cores; U's time and the crossings are arithmetic. A
result that uses them is labelled emulated.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.verification.transcript import Matrix

_BF16 = 2
_FP32 = 4


@dataclass(frozen=True)
class Shape:
    """A dense decoder's sizes."""

    hidden: int
    heads: int
    key_heads: int
    size: int
    intermediate: int
    layers: int
    vocabulary: int

    @property
    def products(self) -> dict[Matrix, tuple[int, int]]:
        """Outputs and inputs of a layer's products."""
        attended = self.heads * self.size
        return {
            Matrix.QKV: (attended + 2 * self.key_heads * self.size, self.hidden),
            Matrix.OUTPUT: (self.hidden, attended),
            Matrix.GATE_UP: (2 * self.intermediate, self.hidden),
            Matrix.DOWN: (self.hidden, self.intermediate),
        }

    @property
    def weights(self) -> int:
        """Weights of one layer's products."""
        return sum(outputs * inputs for outputs, inputs in self.products.values())

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        return 2 * self.key_heads * self.size * _BF16

    @property
    def output_bytes(self) -> int:
        """Bytes of one token's outputs of a layer's products."""
        return sum(outputs for outputs, _ in self.products.values()) * _BF16

    @property
    def opened_bytes(self) -> int:
        """Bytes of one opened row of a layer: outputs, inputs, queries."""
        inputs = sum(inputs for _, inputs in self.products.values())
        return self.output_bytes + (inputs + self.heads * self.size) * _BF16

    def score_bytes(self, rows: int, context: int) -> int:
        """Bytes of a layer's scores in float32."""
        return self.heads * rows * context * _FP32


SHAPES = {
    "8b": Shape(4096, 32, 8, 128, 14336, 32, 128256),
    "0.5b": Shape(896, 14, 2, 64, 4864, 24, 151936),
}


@dataclass(frozen=True)
class Accelerator:
    """A GPU, by what it sustains: an H100's order of magnitude."""

    flops: float = 4e14
    """Products of bfloat16, a second."""
    bandwidth: float = 2.5e12
    """Bytes of its own memory, a second."""

    def prefill_s(self, shape: Shape, rows: int) -> float:
        """Return a layer's time over a prompt."""
        linear = 2 * rows * shape.weights
        attention = 4 * shape.heads * shape.size * rows * rows / 2
        return (linear + attention) / self.flops

    def decode_s(self, shape: Shape, context: int, rows: int = 1) -> float:
        """Return a layer's time over one row of so many sequences."""
        return (shape.weights * _BF16 + rows * context * shape.kv_bytes) / self.bandwidth


@dataclass(frozen=True)
class Link:
    """The way between T and U, encrypted."""

    bandwidth: float = 8e9
    """Bytes a second."""
    crossing_s: float = 0.33e-3
    """What each crossing costs before its first byte."""

    def s(self, size: float, crossings: float = 1) -> float:
        """Return the time of so many bytes in so many crossings."""
        return size / self.bandwidth + crossings * self.crossing_s


@dataclass(frozen=True)
class Split:
    """Where a scheme's time goes, in seconds."""

    check: float
    """T's own work: checking, or computing what U is not trusted with."""
    transfer: float
    device: float

    @property
    def in_turn(self) -> float:
        """How long it takes where each waits for the other."""
        return self.check + self.transfer + self.device

    @property
    def overlapped(self) -> float:
        """How long it takes where all three work at once, long enough."""
        return max(self.check, self.transfer, self.device)

    def times(self, factor: float) -> Split:
        """Return the split of so many times the work."""
        return Split(self.check * factor, self.transfer * factor, self.device * factor)

    def plus(self, other: Split) -> Split:
        """Return both together."""
        return Split(
            self.check + other.check,
            self.transfer + other.transfer,
            self.device + other.device,
        )
