"""Sketches of a cache: honest attention passes, whatever context, window and cap; lies do not."""

from types import SimpleNamespace

import pytest
import torch

from engine.native import scores as scores_in_library
from engine.verification.attention.running import Numbers, Running, flat, windows
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS

LAYERS, HEADS, KEY_HEADS, SIZE = 2, 6, 2, 32
SCALING = SIZE**-0.5


class Talk:
    """One sequence's cache, an honest device over it, and T's sketches."""

    def __init__(self, context, *, window=0, cap=0.0, seed=0, spread=1.0):
        self.noise = torch.Generator().manual_seed(seed)
        model = SimpleNamespace(
            layers=LAYERS, key_heads=KEY_HEADS, heads=HEADS, size=SIZE, windows=(window,) * LAYERS
        )
        self.window, self.cap, self.spread = window, cap, spread
        self.keys, self.values = self.rows(context), self.rows(context)
        self.shipped = self.keys, self.values
        numbers = Numbers(model, Secrets(bytes))
        self.running = Running.of(numbers, None, window, self.keys, self.values)

    def rows(self, count, heads=KEY_HEADS):
        shape = LAYERS, count, heads, SIZE
        return (self.spread * torch.randn(shape, generator=self.noise)).bfloat16()

    def append(self, count=1):
        keys, values = self.rows(count), self.rows(count)
        self.keys = torch.cat([self.keys, keys], 1)
        self.values = torch.cat([self.values, values], 1)
        self.running.append(keys, values)

    def attend(self, query, position, *, keys=None, values=None, hidden=()):
        """Return scores as shipped and the output of a device over some cache."""
        shared = HEADS // KEY_HEADS
        keys = self.keys if keys is None else keys
        values = self.values if values is None else values
        k, v = (
            each[:, : position + 1].float().transpose(1, 2).repeat_interleave(shared, 1)
            for each in (keys, values)
        )
        scores = (query.float()[:, :, None] @ k.transpose(2, 3))[:, :, 0] * SCALING
        seen = scores.clone()
        if self.cap:
            seen = self.cap * torch.tanh(seen / self.cap)
        if self.window:
            seen[..., : max(0, position + 1 - self.window)] = -torch.inf
        seen[..., list(hidden)] = -torch.inf
        weights = seen.softmax(-1).bfloat16().float()
        return scores, (weights[:, :, None] @ v)[:, :, 0].bfloat16()

    def judge(self, scores, output, query, position):
        terms = SCALING, self.cap
        off, energy = self.running.residuals(position, query, scores, output, terms)
        return bool((off <= BOUNDS.scores).all() and (energy <= BOUNDS.mixed).all())

    def passes(self, position=None, **lies):
        position = self.running.length - 1 if position is None else position
        query = self.rows(1, HEADS)[:, 0]
        return self.judge(*self.attend(query, position, **lies), query, position)


@pytest.mark.parametrize("context", [1, 7, 100, 1500])
@pytest.mark.parametrize(("window", "cap"), [(0, 0.0), (60, 0.0), (0, 4.0), (60, 4.0)])
def test_honest_attention_passes_as_the_context_grows(context, window, cap):
    talk = Talk(context, window=window, cap=cap)
    for _ in range(150):
        talk.append()
        assert talk.passes()


@pytest.fixture
def without_library(monkeypatch):
    monkeypatch.setattr("engine.native.scores.available", lambda: None)


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("window", [0, 60])
def test_torch_judges_where_there_is_no_library(window):
    talk = Talk(100, window=window)
    assert talk.passes()
    assert not talk.passes(keys=talk.keys.roll(1, 1))


@pytest.mark.skipif(scores_in_library.available() is None, reason="the library is not built")
@pytest.mark.parametrize("context", [1, 15, 16, 255, 256, 700])
@pytest.mark.parametrize("window", [0, 60])
@pytest.mark.parametrize("heads", [2, 4, 6, 14])  # 1, 2, 3 and 7 share a key head
def test_the_library_finds_what_torch_finds(context, window, heads):
    noise = torch.Generator().manual_seed(context)
    model = SimpleNamespace(layers=4, key_heads=KEY_HEADS, size=SIZE)
    keys, values = torch.randn(2, 2, context, KEY_HEADS, SIZE, generator=noise).bfloat16()
    some = torch.tensor([1, 3])
    running = Running.of(Numbers(model, Secrets(bytes)), some, window, keys, values)
    query, output = torch.randn(2, 2, heads, SIZE, generator=noise).bfloat16()
    row = query, 5 * torch.randn(2, heads, context, generator=noise), output
    position = context - 1
    told = running.residuals(position, row[0], row[1], row[2], (SCALING, 0.0))
    right = running._by_torch(position, (query, output, row[1]), (SCALING, 0.0))
    for one, other in zip(told, right, strict=True):
        assert torch.allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_no_false_alarm_among_many_heads(spread):
    talk = Talk(200, spread=spread)
    for _ in range(400):
        talk.append()
        assert talk.passes()


@pytest.mark.parametrize("window", [0, 40])
def test_lies_about_the_cache_are_found(window):
    talk = Talk(300, window=window)
    lies = {
        "another key": ("keys", lambda rows: rows[:, -9].add_(2)),
        "another value": ("values", lambda rows: rows[:, -9].mul_(-1)),
        "one key of one head": ("keys", lambda rows: rows[1, -3, 1].mul_(1.1)),
        "int8": ("keys", lambda rows: rows.copy_((rows.float() * 30).round() / 30)),
        "stale": ("keys", lambda rows: rows[:, -1].zero_()),
        "moved by one": ("keys", lambda rows: rows.copy_(rows.roll(1, 1))),
    }
    for name, (part, change) in lies.items():
        changed = getattr(talk, part).clone()
        change(changed)
        assert not talk.passes(**{part: changed}), name
    assert talk.passes()


def test_a_position_that_is_left_out_of_the_softmax_is_found():
    talk = Talk(64)
    assert not talk.passes(hidden=range(32))
    found = sum(not talk.passes(hidden=[position]) for position in range(60))
    assert found > 50  # a position that no head looked at is nobody's loss


def test_scores_and_output_of_another_row_are_found():
    talk = Talk(90)
    query = talk.rows(1, HEADS)[:, 0]
    scores, output = talk.attend(query, 89)
    other, _ = talk.attend(query, 89, keys=talk.rows(90))
    assert talk.judge(scores, output, query, 89)
    assert not talk.judge(other, output, query, 89)
    assert not talk.judge(scores, output.roll(1, 1), query, 89)
    assert not talk.judge(scores, output, query.roll(1, 0), 89)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_does_not_pass(value):
    talk = Talk(30)
    query = talk.rows(1, HEADS)[:, 0]
    for place in range(2):
        told = [tensor.clone() for tensor in talk.attend(query, 29)]
        told[place][0, 0, 3] = value
        assert not talk.judge(*told, query, 29)


def test_an_error_of_3_percent_of_a_head_is_found_and_rounding_is_not():
    talk = Talk(120)
    found = 0
    for _ in range(500):
        query = talk.rows(1, HEADS)[:, 0]
        scores, output = talk.attend(query, 119)
        error = torch.randn(SIZE, generator=talk.noise)
        tampered = output.clone().float()
        tampered[1, 2] += 0.03 * tampered[1, 2].norm() * error / error.norm()
        found += not talk.judge(scores, tampered.bfloat16(), query, 119)
    assert found == 500


@pytest.mark.parametrize("window", [0, 30])
def test_positions_can_be_taken_back(window):
    talk = Talk(100, window=window)
    for back in (1, 5, 64):
        talk.append(8)
        length = talk.running.length - back
        talk.running.truncate(length)
        talk.keys, talk.values = talk.keys[:, :length], talk.values[:, :length]
        assert talk.passes()
    talk.append(64)
    with pytest.raises(ValueError, match="cannot be taken back"):
        talk.running.truncate(talk.running.length - 65)


@pytest.mark.parametrize("window", [0, 30])
def test_rows_before_the_last_are_judged_as_of_their_position(window):
    talk = Talk(100, window=window)
    talk.append(6)
    assert all(talk.passes(position) for position in range(100, 106))


def test_a_copy_goes_its_own_way_and_what_is_erased_is_zero():
    talk = Talk(50, window=20)
    other = talk.running.copy()
    talk.append(3)
    assert talk.passes()
    talk.running.erase()
    state = talk.running
    tensors = [each for each in vars(state).values() if torch.is_tensor(each)]
    assert len(tensors) == 5
    assert not any(each.any() for each in tensors)
    talk.running = other
    talk.keys, talk.values = talk.keys[:, :50], talk.values[:, :50]
    assert talk.passes()


def test_layers_of_one_window_are_judged_together():
    model = SimpleNamespace(windows=(0, 16, 0, 16))
    found = dict(windows(model))
    assert {window: layers.tolist() for window, layers in found.items()} == {0: [0, 2], 16: [1, 3]}
    whole = flat([(found[0], torch.zeros(2)), (found[16], torch.ones(2))], 4)
    assert whole.tolist() == [0, 1, 0, 1]
    assert windows(SimpleNamespace(windows=(8, 8))) == [(8, None)]
