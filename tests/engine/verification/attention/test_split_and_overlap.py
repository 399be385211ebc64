"""A cache in two parts gives what one gives; stages overlap, in order, and fail whole."""

import threading
import time

import pytest
import torch

from engine.verification.attention.overlap import overlapped
from engine.verification.attention.split import merged, part


@pytest.mark.parametrize("cold", [1, 37, 99])
@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_a_cache_in_two_parts_is_one_cache(cold, cap):
    noise = torch.Generator().manual_seed(3)
    keys, values = torch.randn(2, 100, 2, 32, generator=noise)
    query = 3 * torch.randn(6, 32, generator=noise)
    terms = {"scaling": 32**-0.5, "cap": cap}
    whole = part(query, keys, values, **terms)
    in_t = part(query, keys[:cold], values[:cold], **terms)
    on_device = part(query, keys[cold:], values[cold:], **terms)
    both = merged(in_t, on_device)
    for one, other in ((both.output, whole.output), (both.total, whole.total)):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    # as softmax over everything gives it
    k = keys.repeat_interleave(3, 1).transpose(0, 1)
    scores = (query[:, None] @ k.transpose(1, 2))[:, 0] * terms["scaling"]
    scores = cap * torch.tanh(scores / cap) if cap else scores
    right = scores.softmax(-1)[:, None] @ values.repeat_interleave(3, 1).transpose(0, 1)
    assert torch.allclose(both.output, right[:, 0], atol=1e-5)


def test_a_context_larger_than_the_device_decodes_like_a_whole_one():
    """The device has room for 16 positions; what is older is T's."""
    noise = torch.Generator().manual_seed(4)
    keys, values = torch.randn(2, 80, 2, 32, generator=noise).bfloat16()
    for length in range(20, 80):
        query = torch.randn(6, 32, generator=noise)
        old = length - 16
        in_t = part(query, keys[:old], values[:old], 0.2)
        on_device = part(query, keys[old:length], values[old:length], 0.2)
        whole = part(query, keys[:length], values[:length], 0.2)
        assert torch.allclose(merged(in_t, on_device).output, whole.output, atol=1e-5)


def test_blocks_go_through_all_stages_in_order_and_at_the_same_time():
    together = threading.Barrier(3, timeout=10)

    def stage(add):
        def work(block):
            if block[0] >= 2:  # by now every stage has something to do
                with_others = block[0] + len(block) == 6
                if with_others:
                    together.wait()
            return (*block, add)

        return work

    found = overlapped([(n,) for n in range(8)], [stage("sent"), stage("computed"), stage("seen")])
    assert found == [(n, "sent", "computed", "seen") for n in range(8)]


def test_no_stage_runs_further_ahead_than_it_may():
    begun, most = [], []

    def first(block):
        begun.append(block)
        return block

    def last(block):
        time.sleep(0.002)
        most.append(len(begun) - block)
        return block

    overlapped(range(20), [first, last], ahead=2)
    assert max(most) <= 5


def test_a_stage_that_fails_ends_everything():
    begun = []

    def fails(block):
        if block == 3:
            raise RuntimeError("a lie")
        return block

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="a lie"):
        overlapped(range(1000), [lambda b: begun.append(b) or b, fails, lambda b: b])
    assert len(begun) < 20
    assert threading.active_count() == before


def test_a_block_that_cannot_be_made_leaves_no_thread():
    def blocks():
        yield 1
        raise RuntimeError("no block")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no block"):
        overlapped(blocks(), [lambda b: b, lambda b: b])
    assert threading.active_count() == before
