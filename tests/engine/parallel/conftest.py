"""Groups of ranks, each a program of its own: forking a process that has computed is not safe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("ranks_main.py")


def run_cases(folder, cases, *launcher):
    """Run the program over cases; what each computed, or why its model was refused."""
    (folder / "cases").write_text("\n".join(map(json.dumps, cases)))
    command = [*(launcher or [sys.executable]), PROGRAM, folder / "cases", folder / "results"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return torch.load(folder / "results")


@pytest.fixture(scope="session")
def steps(prompt_ids):
    """Prefill of two sequences, one going on in a chunk, decoding, a batch across blocks."""
    long, short = [5, 6, 7, 8, 20], [1, 0]
    return [
        [(long, 0, prompt_ids(40)), (short, 0, prompt_ids(7, 1))],
        [(long, 40, prompt_ids(31, 2)), (short, 7, [5])],
        [(long, 71, [6]), (short, 8, [7])],
        [(short, 9, [9])],
    ]


@pytest.fixture(scope="session")
def in_groups(tmp_path_factory, model_folder):
    """A function ([(architecture, steps, config), ...], *launcher) -> a result for each."""

    def run(cases, *launcher):
        return run_cases(
            tmp_path_factory.mktemp("ranks"),
            [
                {"model": str(model_folder(name)), "config": config, "steps": steps}
                for name, steps, config in cases
            ],
            *launcher,
        )

    return run


@pytest.fixture(scope="session")
def alone(lab):
    """A function (architecture, steps, dtype) -> logits of each step, of one rank."""

    def compute(name, steps, dtype="float32"):
        device, _ = lab.device(lab.load(name, dtype))
        results = []
        for step in steps:
            spans = [lab.span(blocks, start, len(ids)) for blocks, start, ids in step]
            known = [[0] * start + list(ids) for _, start, ids in step]
            results.append(torch.cat(lab.step(device, spans, known)))
        return results

    return compute
