"""The suite for GPUs runs: here dry, on the CPU, tiny. Speeds mean nothing; checks do."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "benchmarks" / "gpu_suite.py"


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=100, check=False
    )


def test_a_dry_run_measures_every_case_and_fails_no_check():
    done = run("--dry")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    cases = [line for line in lines if "case" in line]
    names = [line["case"].partition(" @ ")[0] for line in cases]
    for name in ("decode b1 vs transformers", "bandwidth share b1", "prefill vs transformers"):
        assert name in names
    for name in (
        "copy bandwidth",
        "matmul rate",
        "truncation bytes saved",
        "graphs on against off",
    ):
        assert any(case.startswith(f"sweep {name}") for case in names), name
    assert sum(case.startswith("sweep error") for case in names) >= 50
    assert all(line["emulated"] for line in cases), "a dry run is no measurement"
    assert all(line["value"] >= 0 for line in cases)
    assert "FAILED" not in done.stdout


def test_without_a_gpu_it_says_so():
    done = run()
    if done.returncode != 2:  # there is a GPU here, after all
        assert '"emulated":false' in done.stdout
        return
    assert "no GPU" in done.stderr
