import random

import pytest

from engine.blocks import BlockAllocator
from engine.errors import OutOfBlocks


def is_run(blocks):
    return blocks == list(range(blocks[0], blocks[0] + len(blocks)))


def test_a_run_is_found_where_one_fits_best():
    allocator = BlockAllocator(10)
    first, second, third = (allocator.allocate(n, n) for n in (3, 2, 5))
    allocator.release(first)
    allocator.release(third)
    assert allocator.allocate(3, 3) == first  # the smaller of two fitting holes
    assert second == [3, 4]


def test_less_than_wanted_is_given_but_never_less_than_needed():
    allocator = BlockAllocator(8)
    assert allocator.allocate(2, 20) == list(range(8))
    with pytest.raises(OutOfBlocks):
        allocator.allocate(1, 1)
    allocator.release([1, 4, 7])
    assert sorted(allocator.allocate(3, 5)) == [1, 4, 7]


def test_extension_prefers_the_adjacent_blocks():
    allocator = BlockAllocator(8)
    blocks = allocator.allocate(2, 2)
    allocator.extend(blocks, 2)
    assert blocks == [0, 1, 2, 3]
    other = allocator.allocate(1, 1)
    allocator.extend(blocks, 2)
    assert (blocks, other) == ([0, 1, 2, 3, 5, 6], [4])
    with pytest.raises(OutOfBlocks):
        allocator.extend(blocks, 2)
    assert allocator.free == 1


def test_release_of_what_is_free_is_an_error():
    allocator = BlockAllocator(4)
    blocks = allocator.allocate(2, 2)
    allocator.release(blocks)
    for wrong in ([0], [3], [-1], [4]):
        with pytest.raises(ValueError, match="nobody owns"):
            allocator.release(wrong)
    assert allocator.free == 4


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_and_nothing_overlaps(seed):
    rng = random.Random(seed)
    allocator = BlockAllocator(50)
    owned = []
    for _ in range(600):
        action = rng.random()
        try:
            if action < 0.45:
                needed = rng.randint(1, 8)
                blocks = allocator.allocate(needed, needed + rng.randint(0, 8))
                assert len(blocks) >= needed
                owned.append(blocks)
            elif action < 0.6 and owned:
                allocator.extend(rng.choice(owned), rng.randint(1, 4))
            elif owned:
                blocks = owned.pop(rng.randrange(len(owned)))
                keep = rng.randint(0, len(blocks) - 1)
                allocator.release(blocks[keep:])
                if keep:
                    owned.append(blocks[:keep])
        except OutOfBlocks:
            pass
        flat = [block for blocks in owned for block in blocks]
        assert len(flat) == len(set(flat))
        assert set(flat) <= set(range(50))
        assert allocator.free == 50 - len(flat)
        free = {block for start, stop in allocator._runs for block in range(start, stop)}
        assert free == set(range(50)) - set(flat)
        assert all(a[1] < b[0] for a, b in zip(allocator._runs, allocator._runs[1:], strict=False))
    for blocks in owned:
        allocator.release(blocks)
    assert is_run(allocator.allocate(50, 50))
