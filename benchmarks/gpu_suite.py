"""Everything that only a GPU can show, in one run: correctness first, then speed.

    python3 benchmarks/gpu_suite.py             # a table, and a line of JSON a case before it
    python3 benchmarks/gpu_suite.py --dry       # the same on a CPU, tiny: shows that it runs

Needs torch, transformers and (for our kernels) Triton; run it from a checkout. What is measured is
measured beside what it is compared with, in this process: bandwidth by a large copy, arithmetic by
a large product, transformers on a second copy of the same weights, taken in turns with ours.
Without a GPU and without `--dry` it says so and ends with status 2. A check that fails is printed
and makes the status 1; speeds are printed whatever they are.
"""
# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu.kernels import check_kernels, time_kernels
from benchmarks.gpu.model import whole_model
from benchmarks.gpu.suite import DRY, FULL, Suite, ceilings
from benchmarks.gpu.truncation import truncation

PARTS: dict[str, Callable[[Suite], None]] = {
    "ceilings": ceilings,
    "kernels": check_kernels,
    "kernel speed": time_kernels,
    "truncation": truncation,
    "model": whole_model,
}


def main() -> int:
    """Run the parts asked for; the table comes last."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dry", action="store_true", help="on a CPU, tiny, to see that it runs")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part or several")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        print("no GPU here; --dry shows that the suite runs", file=sys.stderr)
        return 2
    device = torch.device("cpu" if arguments.dry else "cuda")
    suite = Suite(device, DRY if arguments.dry else FULL)
    for name, part in PARTS.items():
        if name == "ceilings" or not arguments.only or name in arguments.only:
            part(suite)
    width = max(len(line.case) for line in suite.lines)
    for line in suite.lines:
        low, high = line.spread
        print(f"{line.case:<{width}}  {line.value:>10g} {line.unit:<10} {low:g} .. {high:g}")
    for failure in suite.failures:
        print(f"FAILED {failure}")
    return 1 if suite.failures else 0


if __name__ == "__main__":
    sys.exit(main())
