"""Every kind of lie, told once at a drawn place in a drawn step, is caught in that very step."""

import pytest
from verified_models import native_model, products, trusted

from sottovoce.bench import verify_detection
from sottovoce.bench.verify_detection import Subject, inject, wilson
from sottovoce.bench.verify_lies import Lie, lies

MODELS = ["llama", "qwen3"]
KINDS = list(lies(None))


def subject(name):
    return Subject(native_model(name), products(name), trusted(name))


def missed(name, kind, seeds):
    trials = [inject(subject(name), kind, seed) for seed in seeds]
    return [trial for trial in trials if not trial.detected]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_lie_is_caught_in_its_step(name, kind):
    assert missed(name, kind, range(3)) == []


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_lies_are_caught(kind):
    for name in MODELS:
        assert missed(name, kind, range(3, 24)) == []


def test_there_are_enough_kinds():
    assert len(KINDS) >= 24


def test_an_interval_holds_what_was_found():
    low, high = wilson(42, 42)
    assert 0.91 < low < 0.92
    assert high == 1.0
    assert wilson(0, 42)[0] == 0.0


def test_a_device_that_does_not_lie_is_not_accused(monkeypatch):
    monkeypatch.setattr(verify_detection, "lies", lambda _model: {"none": lambda _drawing: Lie()})
    trials = [inject(subject("llama"), "none", seed) for seed in range(6)]
    assert [trial.caught for trial in trials] == [None] * 6
