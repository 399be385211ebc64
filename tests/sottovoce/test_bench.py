"""The lines of a benchmark, and a slice of each benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sottovoce.bench.cost import processor_time
from sottovoce.bench.line import line
from sottovoce.bench.random_model import Shape, write_random_model
from sottovoce.models import choose_model

MEMBERS = {
    "case": str,
    "value": (int, float),
    "unit": str,
    "samples": int,
    "spread": list,
    "machine": str,
    "commit": str,
    "emulated": bool,
}

NAMED = ("gateway open x25519", "gateway open xwing", "chunk", "blind signatures")
"""Cases of `bench wire` that goals name; each has ` @ ` and its parameters behind it."""

RESULTS = Path(__file__).parents[2] / "benchmarks"


def check(text):
    """Check one line against the schema; return its case."""
    found = json.loads(text)
    assert found.keys() == MEMBERS.keys()
    for name, kind in MEMBERS.items():
        assert isinstance(found[name], kind), name
    low, high = found["spread"]
    assert low <= found["value"] <= high
    assert found["samples"] >= 1
    return found["case"]


def test_a_line_is_one_json_object_with_median_and_quartiles():
    text = line("sweep nothing", "ms", [4.0, 1.0, 2.0, 3.0, 5.0]).encode()
    assert "\n" not in text
    found = json.loads(text)
    assert (found["value"], found["spread"], found["samples"]) == (3.0, [2.0, 4.0], 5)
    check(text)


def test_one_measurement_is_its_own_spread():
    check(line("sweep nothing", "ms", [4.0]).encode())


def test_processor_time_counts_this_process():
    before = processor_time(1).own
    assert before >= 0
    with pytest.raises(FileNotFoundError):
        processor_time(2**22 + 1)


def test_bench_wire_has_the_cases_that_goals_name():
    command = [sys.executable, "-m", "sottovoce", "bench", "wire", "--json", "--quick"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [check(text) for text in done.stdout.splitlines()]
    assert [case.partition(" @ ")[0] for case in cases[:4]] == list(NAMED)
    assert all(case.startswith("sweep ") for case in cases[4:])
    assert any(case.startswith("sweep redemption @ SQLite") for case in cases)
    for checked in ("sweep verify TDX + GPU bundle @ ", "sweep verify receipt @ "):
        assert any(case.startswith(checked) for case in cases)


def test_a_random_model_is_served_like_any_other(tmp_path):
    torch = pytest.importorskip("torch")
    from engine.config import EngineConfig  # noqa: PLC0415 - loads torch
    from engine.loader import load  # noqa: PLC0415

    shape = Shape(2, 64, 128, 2, 1, 4000, context=128)
    write_random_model(tmp_path / "model", shape, choose_model(None).folder)
    loaded = load(EngineConfig(model=tmp_path / "model"))
    assert loaded.dtype is torch.bfloat16
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    ids = {*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"])}
    assert ids == set(range(4000))


@pytest.mark.parametrize("results", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.name)
def test_kept_results_are_lines_of_the_schema(results):
    for text in results.read_text().splitlines():
        check(text)
