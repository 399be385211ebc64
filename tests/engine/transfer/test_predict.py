"""Predictors learn the orders that weights and KV go in."""

import random

import pytest

from engine.transfer.predict import Cyclic, Fifo, Lifo, Mixture, Never


def rate(predictor, blocks, *, learning):
    """Of the blocks after the first `learning`: how many were predicted as the very next."""
    right = 0
    for number, block in enumerate(blocks):
        right += number >= learning and predictor.predict(1) == [block]
        predictor.observe(block)
    return right / (len(blocks) - learning)


@pytest.mark.parametrize("length", [1, 2, 3, 31, 64, 997])
def test_a_cycle_of_any_length_is_known_after_once(length):
    assert rate(Cyclic(), list(range(length)) * 4, learning=length + 1) == 1


def test_blocks_may_repeat_within_a_cycle():
    cycle = [1, 2, 1, 3, 1, 2, 4, 1]
    assert rate(Cyclic(), cycle * 50, learning=4 * len(cycle)) == 1


def test_a_cycle_that_changes_is_learned_anew():
    blocks = list(range(20)) * 5 + [*range(20, 30), *range(5)] * 10
    assert rate(Cyclic(), blocks, learning=0) > 0.8


def test_a_prediction_reaches_beyond_the_cycle():
    cyclic = Cyclic()
    for block in [1, 2, 3, 1]:
        cyclic.observe(block)
    assert cyclic.predict(7) == [2, 3, 1, 2, 3, 1, 2]


def test_the_log_is_bounded(monkeypatch):
    monkeypatch.setattr("engine.transfer.predict._LOG", 64)
    assert rate(Cyclic(), list(range(9)) * 60, learning=100) == 1


@pytest.mark.parametrize(
    ("kind", "order"), [(Lifo, [5, 6, 3, 4, 1, 2]), (Fifo, [1, 2, 3, 4, 5, 6])]
)
def test_batches_come_back_whole_the_last_or_the_first_ahead(kind, order):
    predictor = kind()
    for batch in ([1, 2], [3, 4], [5, 6]):
        predictor.left(batch)
    assert predictor.predict(6) == order
    predictor.forget(order[0])
    assert predictor.predict(9) == order[1:]


def test_a_block_that_leaves_again_is_outside_once():
    fifo = Fifo()
    fifo.left([1, 2])
    fifo.left([1])
    assert fifo.predict(9) == [2, 1]


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_mixture_chooses_the_order_with_fewest_misses(newest_first):
    mixture, outside, right, rng = Mixture(), [], 0, random.Random(1)
    for turn in range(400):
        if len(outside) < 3 or (len(outside) < 12 and rng.random() < 0.5):
            outside.append([10 * turn, 10 * turn + 1])
            mixture.left(outside[-1])
        for block in outside.pop(-1 if newest_first else 0):
            right += turn >= 50 and mixture.predict(1) == [block]
            mixture.observe(block)
    assert right >= 0.95 * 700


def test_the_mixture_learns_when_kv_comes_between_weights():
    mixture, right, asked = Mixture(), 0, 0
    for turn in range(40):
        mixture.left([1000 + 2 * turn, 1001 + 2 * turn])
        for block in [1, 2, 3, 1000 + 2 * turn, 1001 + 2 * turn, 4, 5]:
            if turn >= 2:
                right, asked = right + (mixture.predict(1) == [block]), asked + 1
            mixture.observe(block)
    assert right == asked


def test_what_has_no_rhythm_is_kept_ready_after_what_has():
    mixture = Mixture()
    for block in [1, 2, 3] * 3:
        mixture.observe(block)
    mixture.left([77])
    assert mixture.predict(4) == [1, 2, 3, 77]


def test_never_predicts_nothing():
    never = Never()
    never.observe(1)
    never.left([2])
    never.forget(2)
    assert never.predict(5) == []
