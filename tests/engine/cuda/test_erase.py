"""Zeroing: whole blocks in every layer at once, and the allocator's free memory by address."""

import random

import pytest
import torch

from engine.cuda import erase
from engine.cuda.erase import CudaEraser, free_ranges
from engine.kv_cache import KVPool, LayerShape


def block(size, state="active_allocated"):
    return {"size": size, "state": state}


def test_free_ranges_are_found_and_joined():
    segments = [
        {"device": 0, "address": 1000, "blocks": [
            block(100), block(50, "inactive"), block(50, "active_pending_free"), block(8)]},
        {"device": 1, "address": 5000, "blocks": [block(64, "inactive")]},
        {"device": 0, "address": 1208, "blocks": [block(16, "inactive")]},
        {"device": 0, "address": 1224, "blocks": [block(6, "inactive"), block(10)]},
    ]  # fmt: skip
    assert free_ranges(segments, 0) == [(1100, 100), (1208, 22)]
    assert free_ranges(segments, 1) == [(5000, 64)]
    assert free_ranges([], 0) == []


def test_the_eraser_waits_zeroes_each_range_and_waits(monkeypatch):
    happened = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: happened.append("wait"))
    segments = [{"device": 2, "address": 64, "blocks": [block(32, "inactive")]}]
    eraser = CudaEraser(
        torch.device("cuda", 2),
        zero=lambda address, size: happened.append((address, size)),
        snapshot=lambda: segments,
    )
    eraser.erase()
    assert happened == ["wait", (64, 32), "wait"]


@pytest.mark.usefixtures("triton_kernels")
def test_a_range_is_zeroed_by_its_address_and_nothing_beside_it():
    memory = torch.ones(20_000, dtype=torch.uint8)
    erase.zero_range(memory.data_ptr() + 100, 9_000)
    assert not bool(memory[100:9_100].any())
    assert bool(memory[:100].all())
    assert bool(memory[9_100:].all())


@pytest.mark.parametrize("seed", range(3))
def test_triton_zeroes_the_blocks_asked_for_in_every_layer(seed, triton_kernels):
    rng = random.Random(seed)
    shapes = [LayerShape(2, 16, 8), LayerShape(1, 80, 80), LayerShape(3, 5, 7)]
    cpu = torch.device("cpu")
    pool, other = (
        KVPool(shapes, blocks=9, block_size=16, dtype=torch.float32, device=cpu) for _ in range(2)
    )
    for tensor in (*pool.keys, *pool.values, *other.keys, *other.values):
        tensor.fill_(1)
    blocks = rng.sample(range(9), 4)
    triton_kernels().zero(pool, blocks)
    other.zero(blocks)
    for one, two in zip((*pool.keys, *pool.values), (*other.keys, *other.values), strict=True):
        assert torch.equal(one, two)
