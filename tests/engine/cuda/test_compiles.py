"""Triton's compiler makes H200 code of every kernel, with no GPU needed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compile_kernels.py")
SHARED_MEMORY = 227 << 10
"""What a block of threads may have of it on Hopper, in bytes."""


@pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed")
def test_every_kernel_compiles_for_an_h200(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {line["kernel"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert len(made) == 10
    assert all(line["cubin"] > 0 and line["shared"] <= SHARED_MEMORY for line in made.values())
    assert made["prefill_tile"]["wgmma"]
    for name in ("decode_split", "aligned_scores", "aligned_values"):
        assert made[name]["mma"]
        assert made[name]["narrow"] == 0, "the cache is read in wide loads"
