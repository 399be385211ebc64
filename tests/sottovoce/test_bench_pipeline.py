"""`bench pipeline`: the emulated device adds up, and the cases have the names of the goals."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sottovoce.bench.pipeline import QUICK, LinkFigures, Mistaken, overhead, run
from sottovoce.bench.pipeline_patterns import PATTERNS
from sottovoce.bench.pipeline_study import CONCURRENCIES, LENGTHS, MODES, cell
from sottovoce.bench.pipeline_world import Core, World
from sottovoce.commands.bench import app

LOAD = replace(QUICK.load, size=256 << 10, computes_s=0.0)
WIDE = LinkFigures(bandwidth=1e9, crossing_s=0.01)
"""So slow that the host's own time counts for nothing."""


@pytest.mark.parametrize("name", PATTERNS)
def test_plain_transfers_take_the_link_s_time(name):
    outcome = run(PATTERNS[name], "plain", LOAD, WIDE)
    batch = 0.01 + LOAD.blocks * (LOAD.size + 45) / 1e9
    assert outcome.rate == pytest.approx(LOAD.bytes / batch, rel=0.15)


@pytest.mark.parametrize("name", PATTERNS)
def test_what_is_expected_is_sealed_ahead(name):
    fast = LinkFigures(bandwidth=4e9, crossing_s=1e-3)
    plain, ahead = (run(PATTERNS[name], mode, LOAD, fast) for mode in ("plain", "pipelined"))
    assert ahead.hit_rate > 0.9
    assert overhead(plain, ahead) < 60


def test_a_predictor_that_is_always_wrong_hits_by_chance_only():
    blocks = list(range(1, 1 + LOAD.layers * LOAD.blocks))
    mistaken = run(PATTERNS["weight cycling"], "pipelined", LOAD, WIDE, Mistaken(1, blocks))
    assert mistaken.hit_rate < 0.9


def test_a_core_works_in_its_own_time():
    now = [0.0]
    core = Core(lambda: now[0])
    done = []
    core.submit(lambda: done.append(1))
    core.until(0.0)
    assert not done
    now[0] = 1.0
    core.submit(lambda: done.append(2))
    core.until(0.5)
    assert done == [1]
    core.until(2.0)
    assert done == [1, 2]
    assert 1.0 <= core.free_at < 1.5


def test_a_naive_sender_waits_for_its_own_sealing():
    worlds = [World(mode, WIDE, size=1 << 20) for mode in ("plain", "naive")]
    for world in worlds:
        world.add([1])
        world.load([1])
    assert worlds[1].now > worlds[0].now


def test_cases_have_the_names_of_the_goals():
    result = CliRunner().invoke(app, ["pipeline", "--json", "--quick"])
    assert result.exit_code == 0, result.output
    lines = [json.loads(text) for text in result.stdout.splitlines()]
    named = {line["case"].partition(" @ ")[0] for line in lines if line["emulated"]}
    goals = {f"{kind} overhead {name}" for kind in ("pipelined", "naive") for name in PATTERNS}
    assert goals | {"hit rate cyclic", "hit rate mixed"} <= named
    assert {line["case"] for line in lines if not line["emulated"]} == {
        f"sealing @ {size} KiB units, one core" for size in (64, 256, 1024)
    }
    (streamed,) = (line for line in lines if line["case"].startswith("streamed weights @ 3 x"))
    assert 0 < streamed["value"] <= 100
    cells = {
        f"sweep study {metric} {length} @ {concurrency} at a time, {mode}"
        for metric in ("TPS", "QPS", "TTFT", "ITL")
        for length in LENGTHS
        for concurrency in CONCURRENCIES
        for mode in MODES
    }
    assert cells == {line["case"] for line in lines if line["case"].startswith("sweep study")}
    assert all(line["emulated"] for line in lines if line["case"] in cells)


def test_what_a_transcript_adds_is_paid_for():
    sealed, verified = (cell("short", 8, mode, 1) for mode in list(MODES)[2:])
    assert verified.itl_s > sealed.itl_s
    assert verified.tps < sealed.tps
    assert sealed.qps == pytest.approx(sealed.tps / LENGTHS["short"][1])


def test_a_task_of_a_core_submits_in_the_core_s_own_time():
    now = [0.0]
    core = Core(lambda: now[0])
    core.submit(lambda: core.submit(lambda: None))
    now[0] = 5.0
    core.until(5.0)
    assert core.free_at < 1.0


def test_nothing_is_opened_before_it_has_arrived():
    core = Core(lambda: 0.0)
    core.not_before = 2.0
    core.submit(lambda: None)
    core.until(3.0)
    assert core.free_at >= 2.0
