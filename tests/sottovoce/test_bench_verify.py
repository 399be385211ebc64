"""`bench verify`: the emulated figures add up, and the cases have the names of the goals."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from sottovoce.bench.verify_lies import lies
from sottovoce.bench.verify_model import SHAPES, Accelerator, Link, Split
from sottovoce.bench.verify_schemes import Scheme, integrated
from sottovoce.commands.bench import app

GOALS = {
    "linear d64", "decode attention", "audit prefill",
    "ttft vs tsdp", "tpot vs tsdp", "ttft vs full_tee", "tpot vs full_tee", "overhead",
}  # fmt: skip


def test_an_8b_layer_has_the_weights_of_one():
    shape = SHAPES["8b"]
    assert shape.weights == 4096 * (6144 + 4096 + 2 * 14336) + 14336 * 4096
    assert shape.kv_bytes == 4096
    assert shape.output_bytes == 2 * (6144 + 4096 + 2 * 14336 + 4096)
    assert shape.score_bytes(2, 10) == 32 * 2 * 10 * 4


def test_a_device_computes_prompts_and_reads_weights():
    shape, device = SHAPES["8b"], Accelerator(flops=1e12, bandwidth=1e9)
    linear = device.prefill_s(shape, 2) - 4 * 4096 * 2 * 2 / 2 / 1e12
    assert linear == pytest.approx(2 * 2 * shape.weights / 1e12)
    assert device.decode_s(shape, 0) == shape.weights * 2 / 1e9
    assert device.decode_s(shape, 10) - device.decode_s(shape, 0) == pytest.approx(40960 / 1e9)


def test_a_crossing_costs_before_its_first_byte():
    link = Link(bandwidth=1e9, crossing_s=1e-3)
    assert link.s(1e6) == pytest.approx(2e-3)
    assert link.s(0, 7) == pytest.approx(7e-3)


def test_what_overlaps_takes_as_long_as_the_longest():
    split = Split(1, 2, 4)
    assert Scheme(split, split, overlaps=True).s(split) == 4
    assert Scheme(split, split, overlaps=False).s(split) == 7
    assert split.plus(split) == split.times(2) == Split(2, 4, 8)


def test_outputs_are_integrated_over_contexts():
    linear = {context: Split(context, 0, 1) for context in (4, 8, 10)}
    # 4 for each of the first four; then (4 + 8) / 2 for four, and (8 + 10) / 2 for two.
    assert integrated(linear).check == pytest.approx((16 + 24 + 18) / 10)
    assert integrated(linear).device == pytest.approx(1)


def test_cases_have_the_names_of_the_goals():
    result = CliRunner().invoke(app, ["verify", "--json", "--quick"])
    assert result.exit_code == 0, result.output
    lines = [json.loads(text) for text in result.stdout.splitlines()]
    named = {line["case"].partition(" @ ")[0] for line in lines}
    assert {name for name in named if not name.startswith("sweep ")} == GOALS
    assert {f"sweep detection {kind}" for kind in lies(None)} <= named
    for line in lines:
        what = line["case"].removeprefix("sweep ")
        assert line["emulated"] == what.startswith(("ttft", "tpot")), what
    assert {"overhead @ b1", "overhead @ b8"} <= {line["case"] for line in lines}
    caught = [line["value"] for line in lines if line["case"].startswith("sweep detection")]
    assert caught == [1.0] * len(caught)
