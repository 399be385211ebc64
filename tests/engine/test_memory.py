"""Memory in large pages: tensors that do not touch each other, and mappings without such pages."""

import mmap

import pytest
import torch

from engine import memory


def test_copies_are_equal_contiguous_and_apart():
    arena = memory.Arena()
    tensors = [
        torch.randn(3, 5).T,
        torch.arange(7, dtype=torch.uint8),
        torch.randn(2, 2).bfloat16(),
    ]
    copies = [arena.copy(tensor) for tensor in tensors]
    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor, copy)
        assert copy.is_contiguous()
        assert copy.data_ptr() % 64 == 0
    copies[1].fill_(255)
    assert torch.equal(copies[2], tensors[2])


def test_what_does_not_fit_gets_a_region_of_its_own(monkeypatch):
    monkeypatch.setattr(memory, "_REGION", 1 << 12)
    arena = memory.Arena()
    first, large, last = (arena.copy(torch.ones(n)) for n in (1000, 5000, 10))
    assert first.sum() + large.sum() + last.sum() == 6010


@pytest.mark.parametrize("size", [0, 1, 1 << 22])
def test_a_kernel_without_large_pages_gives_small_ones(monkeypatch, size):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert len(memory.region(size)) >= size
