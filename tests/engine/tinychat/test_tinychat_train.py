from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.tinychat.chat import PAD
from engine.tinychat.errors import NothingTrained, WrongCheckpoint
from engine.tinychat.export import export
from engine.tinychat.packing import IGNORED, Packer, Shape
from engine.tinychat.train import Progressed, Run, Settings, rate, share_done

SETTINGS = Settings(
    seed=3,
    tokens=20 * 512,
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


def test_the_rate_rises_and_falls_to_nothing():
    assert rate(SETTINGS, 0.0) < rate(SETTINGS, 0.01) < rate(SETTINGS, 0.02)
    assert rate(SETTINGS, 0.5) < SETTINGS.peak_rate
    assert rate(SETTINGS, 1.0) == pytest.approx(0.0)


def test_a_run_by_the_clock_ends_when_the_time_is_used():
    settings = Settings(seed=1, minutes=2)
    assert share_done(settings, Progressed(seconds=60)) == 0.5
    assert share_done(settings, Progressed(seconds=500)) == 1.0


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
