"""A slice of `bench engine`, on a model of two small layers."""

import dataclasses
import json
import os
import statistics
import struct
import sys

import pytest
from typer.testing import CliRunner

from sottovoce.bench.random_model import HALF_B, TINY_10M, Shape, write_random_model
from sottovoce.commands.bench import app
from sottovoce.models import choose_model

torch = pytest.importorskip("torch")

from engine.config import EngineConfig  # noqa: E402 - loads torch, like all that follow
from engine.loader import load  # noqa: E402
from engine.native import draws  # noqa: E402
from sottovoce.bench import engine as bench  # noqa: E402
from sottovoce.bench import engine_latency as latency  # noqa: E402
from sottovoce.bench.engine_cases import QUICK, EngineSizes  # noqa: E402
from sottovoce.bench.engine_grammar import Grammar  # noqa: E402
from sottovoce.bench.engine_llama import running_llama  # noqa: E402
from sottovoce.bench.engine_ours import Ours, greedy, held_bytes, read_bytes  # noqa: E402
from sottovoce.bench.engine_roofline import ReadBandwidth  # noqa: E402
from sottovoce.bench.engine_rounds import (  # noqa: E402
    BenchFailed,
    LeftOut,
    Run,
    check_agreement,
    in_turns,
    ratio_line,
    settle,
)

LLAMA = os.environ.get("SOTTOVOCE_BENCH_LLAMA")
SHAPE = Shape(2, 128, 192, 2, 1, 4096, context=1024)
SIZES = EngineSizes(
    rounds=1,
    batches=(1, 8),
    context=8,
    count=3,
    prompts=(16,),
    arriving=520,
    clients=2,
    requests=3,
    load_prompt=24,
    repetitive=6,
    buffer=1 << 24,
)
MEMBERS = {"case", "value", "unit", "samples", "spread", "machine", "commit", "emulated"}
NAMED = {
    *(f"decode b{b} vs transformers" for b in (1, 8, 32)),
    *(f"decode b{b} vs generate_batch" for b in (1, 8, 32)),
    *(f"decode b{b} vs llama.cpp bf16" for b in (1, 8, 32)),
    *(f"decode b{b} int8 vs llama.cpp q8_0" for b in (1, 8, 32)),
    "prefill vs transformers",
    "prefill vs llama.cpp q8_0",
    "bandwidth share b1",
    "int8 vs bf16",
    "stall",
}
"""Cases that goals name; each has ` @ ` and its parameters behind it."""

native = pytest.mark.skipif(not draws.available(), reason="no compiled library on this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "model"
    write_random_model(path, SHAPE, choose_model(None).folder)
    return path


@pytest.fixture(scope="module")
def ours(folder):
    config = EngineConfig(folder, kv_bytes=1 << 22)
    return Ours(config, load(config))


def names(lines):
    return [each.case.partition(" @ ")[0] for each in lines]


def test_every_case_that_goals_name_is_an_experiment_and_no_other():
    for sizes in (EngineSizes(), QUICK, bench.TINY):
        cases = {name for each in bench.experiments(sizes) for name in each.cases}
        assert {name for name in cases if not name.startswith("sweep ")} == NAMED


@native
def test_a_slice_yields_lines_of_the_schema_and_says_what_is_left_out(capsys):
    lines = list(bench.measure(SIZES, "small", SHAPE, threads=1))
    for each in lines:
        found = json.loads(each.encode())
        assert found.keys() == MEMBERS
        low, high = found["spread"]
        assert low <= found["value"] <= high
        assert "small shape, 1 threads" in found["case"] or found["case"].startswith("sweep ")
    measured = set(names(lines))
    wanted = {name for name in NAMED if "llama.cpp" not in name and "b32" not in name}
    assert wanted <= measured
    assert not any("llama.cpp" in name for name in measured)
    left_out = capsys.readouterr().err
    for name in ("decode b8 vs llama.cpp bf16", "prefill vs llama.cpp q8_0"):
        assert f"left out: {name}: no interpreter with llama_cpp was named" in left_out
    for sweep in ("time to first token int8", "grammar overhead", "n-gram speculation"):
        assert f"sweep {sweep}" in measured


def test_only_measures_nothing_else(capsys):
    lines = list(bench.measure(SIZES, "small", SHAPE, threads=1, only="decode b8 vs transformers"))
    assert names(lines) == [
        "decode b8 vs transformers",
        "sweep decode b8 bf16",
        "sweep decode b8 transformers",
    ]
    assert not capsys.readouterr().err


def test_a_name_that_no_case_begins_with_is_refused():
    done = CliRunner().invoke(app, ["engine", "--quick", "--only", "decode b2 "])
    assert done.exit_code == 2


def test_an_interpreter_without_llama_is_left_out_with_the_reason(folder):
    for interpreter, reason in (
        (sys.executable, "has no llama_cpp"),
        ("/nowhere/python", "cannot be run"),
        (None, "--llama"),
    ):
        with pytest.raises(LeftOut, match=reason), running_llama(interpreter, folder, "bf16", 1):
            pass


@pytest.mark.skipif(not LLAMA, reason="SOTTOVOCE_BENCH_LLAMA names no interpreter")
@pytest.mark.parametrize("precision", ["bf16", "q8_0"])
def test_llama_computes_the_same_model(ours, folder, precision):
    prompts = [[3 * i + 5, 7 * i + 2, i + 9, 11] for i in range(8)]
    first_ids = ours.decoders(prompts, 2)[""]().first_ids
    with running_llama(LLAMA, folder, precision, 1) as llama:
        for ways in (llama.decoders(prompts, 3), llama.decoders(prompts, 5)):
            for way in ways.values():
                check_agreement(first_ids, way().first_ids, precision)
        for way in llama.prefills(prompts[0]).values():
            assert way().first_ids == first_ids[:1]


def test_contestants_take_turns_in_either_order():
    seen = []
    ways = {name: lambda name=name: seen.append(name) or Run(1.0) for name in "ab"}
    assert in_turns(ways, 3) == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert seen == ["a", "b", "b", "a", "a", "b"]


def test_the_fastest_way_takes_part():
    rates = {"slow": iter((9.0, 1.0, 1.0)), "fast": iter((1.0, 2.0, 3.0))}
    ways = {name: lambda name=name: Run(next(rates[name]), (7,)) for name in rates}
    best = settle(ways)
    assert (best.name, best.first_ids) == ("fast", (7,))


def test_a_peer_that_computes_another_model_is_no_peer():
    check_agreement((1, 2, 3, 4), (1, 2, 9, 9), "a peer")
    with pytest.raises(BenchFailed, match="1 of 4"):
        check_agreement((1, 2, 3, 4), (1, 9, 9, 9), "a peer")


def test_a_ratio_is_that_of_the_medians_and_lies_within_its_spread():
    found = ratio_line("x", [4.0, 4.0, 40.0], [1.0, 2.0, 2.0])
    assert found.value == statistics.median([4.0, 4.0, 40.0]) / 2.0
    assert found.spread == (2.0, 12.0)
    assert found.unit == "x"


def test_our_engine_decodes_what_it_was_asked_for(ours):
    prompts = [[5, 6, 7], [8, 9, 10]]
    run = ours.decoders(prompts, 4)[""]()
    assert run.rate > 0
    assert len(run.first_ids) == 2
    assert ours.prefills([5, 6, 7])[""]().first_ids == run.first_ids[:1]


def test_nothing_to_do_is_a_failure_and_no_figure(ours):
    with pytest.raises(BenchFailed):
        ours.step()


def test_a_sequence_that_the_engine_gives_up_is_a_failure(ours):
    def spoil():
        with ours.streams([[5]], greedy(2)) as (slot,):
            struct.pack_into("<i", slot.prompt_buffer(), 0, -1)  # outside the vocabulary
            ours.step()

    with pytest.raises(BenchFailed, match="gave up"):
        spoil()


def test_all_requests_of_a_mixed_load_are_answered(ours):
    prompts = [[5 + i, 6, 7] for i in range(5)]
    found = latency.mixed_load(ours, 2, prompts, 3)
    assert (len(found.first), len(found.between), len(found.longest)) == (5, 10, 5)
    assert max(found.longest) == max(found.between)


def test_a_stall_is_longer_than_nothing(ours):
    found = latency.stall(ours, latency.in_chunks(ours), [5, 6], [7] * 520)
    assert found.gap > 0
    assert found.chunk > 0


def test_masks_go_through_the_slot_and_an_answer_that_ends_begins_anew(ours, folder):
    grammar = Grammar(folder, ours.geometry.vocab_size)
    run = grammar.decode(ours, [[5, 6, 7]], 40, constrained=True)
    assert run.rate > 0


@native
def test_bytes_read_are_the_weights_and_bytes_held_the_embeddings_too(folder):
    sizes = {}
    for weights in ("as stored", "int8"):
        loaded = load(EngineConfig(folder, weights=weights))
        sizes[weights] = read_bytes(loaded)
        assert held_bytes(loaded) > sizes[weights] + 2 * SHAPE.vocabulary * SHAPE.hidden
    assert sizes["as stored"] == 2 * (SHAPE.body + SHAPE.head)
    assert sizes["int8"] == (SHAPE.body + SHAPE.head) * (1 + 2 / 64)


@pytest.mark.parametrize(("shape", "total"), [(HALF_B, 494e6), (TINY_10M, 11.5e6)])
def test_shapes_have_the_weights_they_are_named_for(shape, total):
    assert shape.body + shape.head == pytest.approx(total, rel=0.01)
    assert dataclasses.replace(shape, layers=2 * shape.layers).body == 2 * shape.body


def test_bandwidth_is_positive_however_many_threads():
    assert ReadBandwidth(3, 1 << 24).measure() > 0
