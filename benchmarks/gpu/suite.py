"""The machine, how large everything is on it, what has been measured, and its ceilings."""
# ruff: noqa: T201

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.cuda.backend import Kernels, choose
from sottovoce.bench.line import Line, line

BLOCK = 64


@dataclass(frozen=True)
class Sizes:
    """How large everything is: for a GPU, or for a dry run."""

    model: dict[str, int]
    batches: tuple[int, ...]
    prompt: int
    long_prompt: int
    new: int
    contexts: tuple[int, ...]
    copied: int
    product: int
    repeats: int


FULL = Sizes(
    {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    batches=(1, 8, 32, 128),
    prompt=128,
    long_prompt=4096,
    new=32,
    contexts=(4096, 16384),
    copied=4 << 30,
    product=8192,
    repeats=5,
)
DRY = Sizes(
    {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 211,
    },
    batches=(1, 3),
    prompt=12,
    long_prompt=70,
    new=4,
    contexts=(130,),
    copied=1 << 16,
    product=64,
    repeats=2,
)


class Suite:
    """The machine, and what has been measured on it."""

    def __init__(self, device: torch.device, sizes: Sizes) -> None:
        self.device, self.sizes = device, sizes
        self.on_gpu = device.type == "cuda"
        self.machine = torch.cuda.get_device_name(device) if self.on_gpu else "no GPU, a dry run"
        self.lines: list[Line] = []
        self.failures: list[str] = []
        self.bandwidth = self.rate = 0.0
        self.kernels: Kernels = (
            choose(device, only="triton") if self.on_gpu else choose(device, only="torch")
        )

    def add(self, case: str, unit: str, values: Sequence[float]) -> float:
        """Note and print a result; returns its median."""
        made = line(case, unit, values, emulated=not self.on_gpu, device=self.machine)
        self.lines.append(made)
        print(made.encode(), flush=True)
        return statistics.median(values)

    def check(self, case: str, error: float, limit: float) -> None:
        """Note an error that must stay below a limit. NaN never does."""
        self.add(f"sweep error {case} @ at most {limit:g}", "relative", [error])
        if not error < limit:
            self.failures.append(f"{case}: {error:g}, not below {limit:g}")

    def seconds(self, work: Callable[[], object], *, repeats: int | None = None) -> list[float]:
        """Return how long `work` takes on the device, after a run that is not counted."""
        work()
        times = []
        for _ in range(repeats or self.sizes.repeats):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started)
        return times

    def wait(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


def ceilings(suite: Suite) -> None:
    """Measure what the machine can do at most: bytes read and written, and bf16 products."""
    _copy_bandwidth(suite)
    _matmul_rate(suite)


def _copy_bandwidth(suite: Suite) -> None:
    count = suite.sizes.copied // 2
    source = torch.randn(count, device=suite.device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    times = suite.seconds(lambda: target.copy_(source), repeats=20)
    rates = [4 * count / one / 1e9 for one in times]
    suite.bandwidth = suite.add("sweep copy bandwidth @ bytes read and written", "GB/s", rates)


def _matmul_rate(suite: Suite) -> None:
    n = suite.sizes.product
    a, b = (torch.randn(n, n, device=suite.device, dtype=torch.bfloat16) for _ in range(2))
    times = suite.seconds(lambda: a @ b, repeats=20)
    rates = [2 * n**3 / one / 1e12 for one in times]
    suite.rate = suite.add(f"sweep matmul rate @ bf16 {n}", "TFLOP/s", rates)


def relative_error(got: Tensor, want: Tensor) -> float:
    """Return the norm of the difference over the norm of what is wanted."""
    got, want = got.double().cpu(), want.double().cpu()
    return float((got - want).norm() / want.norm())
