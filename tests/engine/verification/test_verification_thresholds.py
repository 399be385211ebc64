"""Thresholds: what a folder says, what the digest makes of it, and what calibration finds."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from verified_models import native_model, trusted

from engine.config import EngineConfig
from engine.digest import model_root
from engine.errors import ModelFiles, ModelRefused
from engine.native import checks
from engine.verification import calibrate, thresholds
from engine.verification.thresholds import BOUNDS, FILE, Thresholds, loosest, parse, read, write

TIGHTER = replace(BOUNDS, steps=1.5, head=3e-6)


def test_a_folder_without_thresholds_has_the_bounds(tmp_path):
    assert read(tmp_path) == BOUNDS
    assert thresholds.declared(tmp_path) == {}


def test_what_is_written_is_read(tmp_path):
    (tmp_path / FILE).write_bytes(write(TIGHTER))
    assert read(tmp_path) == TIGHTER
    assert thresholds.declared(tmp_path) == asdict(TIGHTER)


@pytest.mark.parametrize("name", asdict(BOUNDS))
def test_every_threshold_is_bounded(name):
    looser = replace(BOUNDS, **{name: getattr(BOUNDS, name) * 1.01})
    with pytest.raises(ModelFiles, match="looser than any verifier allows"):
        parse(write(looser))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps(asdict(BOUNDS) | {"more": 1}).encode(),
        json.dumps(asdict(BOUNDS) | {"row": True}).encode(),
        json.dumps(asdict(BOUNDS) | {"row": -1}).encode(),
        json.dumps(asdict(BOUNDS) | {"row": "5"}).encode(),
        json.dumps(asdict(BOUNDS)).replace("5.0", "NaN").encode(),
        json.dumps(asdict(BOUNDS)).encode()[:-1],
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(ModelFiles):
        parse(content)


def test_the_model_digest_covers_thresholds(tmp_path):
    config = EngineConfig(model=tmp_path)
    roots = [model_root([b"leaf"], config, [])]
    for each in (BOUNDS, TIGHTER):
        (tmp_path / FILE).write_bytes(write(each))
        roots.append(model_root([b"leaf"], config, []))
    assert len(set(roots)) == 3


needs_library = pytest.mark.skipif(checks.available() is None, reason="compiled kernels: not here")


@needs_library
def test_calibration_sets_thresholds_above_what_it_saw_and_within_the_bounds():
    found = calibrate.calibrate(native_model("qwen3"), trusted("qwen3"), runs=1)
    assert loosest(found.thresholds, BOUNDS) == BOUNDS
    assert loosest(found.seen, found.thresholds) == found.thresholds
    assert found.thresholds.steps < 1.6
    assert found.thresholds.head < BOUNDS.head
    assert found.rows == (192 + 64) * 4 * 3


@needs_library
def test_a_device_that_rounds_otherwise_is_not_calibrated():
    model = trusted("qwen3")
    off = replace(model, final_norm=model.final_norm * 1.02)
    with pytest.raises(ModelRefused, match="larger than any verifier allows"):
        calibrate.calibrate(native_model("qwen3"), off, runs=1)


def test_a_threshold_is_a_positive_number_everywhere():
    assert all(value > 0 for value in asdict(Thresholds()).values())
    assert torch.tensor(list(asdict(BOUNDS).values())).isfinite().all()
