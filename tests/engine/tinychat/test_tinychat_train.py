from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.tinychat.chat import PAD
from engine.tinychat.errors import NothingTrained, WrongCheckpoint
from engine.tinychat.export import export
from engine.tinychat.model import CONTEXT, Size
from engine.tinychat.packing import IGNORED, Packer, Shape
from engine.tinychat.train import Run, Settings, rate

SETTINGS = Settings(
    seed=3,
    size=Size(hidden=64, layers=2, heads=2, inner=128),
    steps=20,
    short=Shape(rows=4, length=128),
    long=Shape(rows=2, length=256, long=True),
    long_every=5,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prepared(folder, tokenizer):
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    return folder


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "loss.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, small_tokenizer):
    torch.set_num_threads(1)
    folder = prepared(tmp_path_factory.mktemp("runs") / "unbroken", small_tokenizer)
    run = Run(folder, SETTINGS, compiled=False)
    for _ in range(20):
        run.advance()
    run.save()
    return folder


def test_twenty_steps_lower_the_loss(unbroken):
    values = losses(unbroken)
    assert len(values) == 20
    assert sum(values[-4:]) / 4 < sum(values[:4]) / 4 - 1.0


def test_equal_seeds_give_equal_losses(unbroken, tmp_path, small_tokenizer):
    run = Run(prepared(tmp_path / "again", small_tokenizer), SETTINGS, compiled=False)
    assert [round(run.advance(), 5) for _ in range(8)] == losses(unbroken)[:8]


def test_another_seed_gives_other_losses(unbroken, tmp_path, small_tokenizer):
    folder = prepared(tmp_path / "other", small_tokenizer)
    run = Run(folder, replace(SETTINGS, seed=4), compiled=False)
    assert [round(run.advance(), 5) for _ in range(3)] != losses(unbroken)[:3]


def test_a_draft_learns_from_its_teacher(unbroken, tmp_path):
    settings = replace(SETTINGS, size=Size(hidden=64, layers=1, heads=2, inner=64))
    run = Run(tmp_path / "draft", settings, compiled=False, teacher=unbroken)
    values = [run.advance() for _ in range(20)]
    run.save()
    assert sum(values[-4:]) / 4 < sum(values[:4]) / 4 - 0.5
    assert (tmp_path / "draft/tokenizer.json").read_text() == (
        unbroken / "tokenizer.json"
    ).read_text()
    export(tmp_path / "draft", tmp_path / "model")
    assert json.loads((tmp_path / "model/config.json").read_text())["num_hidden_layers"] == 1


def test_a_draft_needs_a_trained_teacher(tmp_path):
    with pytest.raises(FileNotFoundError):
        Run(tmp_path / "draft", SETTINGS, compiled=False, teacher=tmp_path / "nothing")


def test_each_seventh_step_of_the_shipped_run_trains_late_positions():
    settings = Settings(seed=1)
    assert settings.short.rows * settings.short.length == settings.long.rows * settings.long.length
    assert (settings.long.length, settings.long_every) == (CONTEXT, 7)


def test_a_resumed_run_equals_an_unbroken_one(unbroken, tmp_path, small_tokenizer):
    folder = prepared(tmp_path / "resumed", small_tokenizer)
    first = Run(folder, SETTINGS, compiled=False)
    for _ in range(7):
        first.advance()
    first.save()
    first.advance()  # lost with the crash: not saved
    second = Run(folder, SETTINGS, compiled=False)
    while second.progressed.step < 12:
        second.advance()
    second.save()
    assert losses(folder) == losses(unbroken)[:12]


def test_a_run_is_not_resumed_under_other_settings(unbroken):
    with pytest.raises(WrongCheckpoint):
        Run(unbroken, replace(SETTINGS, seed=4), compiled=False)


def test_a_crash_while_saving_leaves_the_old_checkpoint(unbroken, monkeypatch):
    before = (unbroken / "checkpoint.pt").read_bytes()
    run = Run(unbroken, SETTINGS, compiled=False)

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        run.save()
    assert (unbroken / "checkpoint.pt").read_bytes() == before


def test_nothing_is_exported_from_an_empty_folder(tmp_path):
    with pytest.raises(NothingTrained):
        export(tmp_path, tmp_path / "model")


def test_equal_runs_export_equal_bytes(unbroken, tmp_path):
    for name in ("a", "b"):
        export(unbroken, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_rate_rises_stays_and_falls_to_nothing():
    settings = replace(SETTINGS, steps=100)
    assert rate(settings, 0) < rate(settings, 1) < rate(settings, 2) == settings.peak_rate
    assert rate(settings, 49) == settings.peak_rate
    assert rate(settings, 99) == pytest.approx(settings.peak_rate * 0.02)


def test_a_batch_depends_on_seed_and_step_alone(small_tokenizer):
    shape = Shape(rows=2, length=128)
    one, two = (Packer(small_tokenizer, 5).batch(9, shape) for _ in range(2))
    assert torch.equal(one.ids, two.ids)
    assert not torch.equal(one.ids, Packer(small_tokenizer, 5).batch(10, shape).ids)


def test_a_token_never_looks_into_another_dialogue(small_tokenizer):
    batch = Packer(small_tokenizer, 5).batch(1, Shape(rows=2, length=128))
    begins = batch.positions == 0
    number = begins.cumsum(dim=1)
    same = number[:, :, None] == number[:, None, :]
    assert torch.equal(batch.mask[:, 0], same & torch.ones(128, 128, dtype=torch.bool).tril())


def test_padding_is_not_trained(small_tokenizer):
    batch = Packer(small_tokenizer, 5).batch(1, Shape(rows=2, length=128))
    pad = small_tokenizer.token_to_id(PAD)
    assert not (batch.targets == pad).any()
    assert (batch.targets != IGNORED).any()


def test_a_twentieth_of_the_tokens_stands_beyond_position_1024(small_tokenizer):
    packer, settings = Packer(small_tokenizer, 1), Settings(seed=1)
    batches = [packer.batch(step, settings.long) for step in range(30)]
    late = sum(int((batch.positions >= 1024).sum()) for batch in batches)
    assert late / sum(batch.ids.numel() for batch in batches) >= 0.05 * settings.long_every


def test_long_rows_are_full(small_tokenizer):
    batch = Packer(small_tokenizer, 1).batch(1, Settings(seed=1).long)
    assert (batch.ids == small_tokenizer.token_to_id(PAD)).float().mean() < 0.05
