"""A program that is rank 0 of groups, one after the other, and writes what they computed.

Its argument is a file of cases as JSON lines, and a file to save to; conftest.py starts it.
"""

import json
import os
import sys
from pathlib import Path

import torch
import transformers

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput
from engine.errors import ModelRefused
from engine.kv_cache import KVPool
from engine.loader import load
from engine.parallel.launch import joined, of_rank, run_rank
from engine.parallel.torchrun import Torchrun

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)


def compute(loaded, steps):
    """Run steps, each [[blocks, start, ids], ...]; all rows' logits, a tensor a step.

    A step that is a list of numbers zeroes these blocks.
    """
    pool = KVPool(loaded.shapes, blocks=64, block_size=16, dtype=loaded.dtype, device=loaded.device)
    device = loaded.computation.on(pool, max_rows=1024, max_logit_rows=1024)
    results = []
    for step in steps:
        if isinstance(step[0], int):
            device.zero_blocks(step)
            continue
        spans = [Span(blocks, start, len(ids)) for blocks, start, ids in step]
        ids = torch.tensor([each for _, _, ids in step for each in ids])
        wanted = range(len(ids))
        results.append(device.step(StepInput(ids, spans, wanted)).logits.clone())
        device.finish_step()
    return results


def run(case):
    config = EngineConfig(model=Path(case["model"]), threads=1, **case["config"])
    place = Torchrun.find(os.environ)
    if place is not None and place.rank:
        return run_rank(config, place)
    config = of_rank(config, 0)
    try:
        with joined(config, place) as group:
            return compute(load(config, None, group), case["steps"])
    except ModelRefused as refusal:
        return str(refusal)


def main():
    cases = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    results = [run(case) for case in cases]
    if os.environ.get("RANK", "0") == "0":
        torch.save(results, sys.argv[2])


if __name__ == "__main__":
    main()
