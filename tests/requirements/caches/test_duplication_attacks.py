"""Copies of K and V outside the pool, attacked by who holds the memory that they lie in.

The engine makes no copy for another node (`kv_duplication` is refused). The one copy there is, of a
preempted sequence with `--kv-offload`, is sealed on its way and at rest, also beside another copy
of the same. The unsafe engines of these tests duplicate every sequence in clear.
"""

import pytest

from tests.engine.offload.conftest import join

PROMPT = 60


class Host:
    """What a strong attacker has of a node's host: all that stood in it, one copy after another."""

    def __init__(self, local):
        self.local = local
        self.copies = []

    def copy_of(self, prompt):
        """The bytes outside of a sequence of `prompt` that left the pool once; then it ends."""
        scheduler = self.local.engine._scheduler
        slot = self.local.submit(prompt, max_new_tokens=40)
        while not slot.sampled:
            assert self.local.engine.step()
        [sequence] = scheduler.running
        self.rows = [part.clone() for part in self.local.pool.parts(0, sequence.blocks[0])]
        scheduler._preempt(sequence)
        copy = self.bytes(sequence)
        self.local.cancel(slot)
        return copy

    def bytes(self, sequence):
        """Sealed at rest, by the engine's own store."""
        kept = self.local.ends.host._stays[sequence]._rest._shelf.kept
        return b"".join(bytes(each) for each in kept.values())


class Duplicating(Host):
    """Unsafe: a second host keeps the blocks as they are."""

    def __init__(self, local):
        super().__init__(local)
        local.engine._scheduler._outside = self

    def leave(self, _, blocks):
        pool = self.local.pool
        parts = [part for block in blocks for i in range(2) for part in pool.parts(i, block)]
        self.kept = b"".join(part.contiguous().numpy().tobytes() for part in parts)

    def bytes(self, _):
        return self.kept

    def expect(self, _):
        pass

    def forget(self, _):
        pass


@pytest.fixture
def ours(offloading):
    return Host(offloading())


@pytest.fixture
def unsafe(local_engine):
    return Duplicating(local_engine())


def leaked(host, prompt):
    """Whether the copy holds a row of keys: what one who knows the prompt can compute."""
    copy = host.copy_of(prompt)
    return [host.rows[0][i].numpy().tobytes() in copy for i in range(4)]


def test_leak_from_a_copy_fails(ours, prompt_ids):
    assert not any(leaked(ours, prompt_ids(PROMPT)))


def test_leak_from_a_duplicate_in_clear_succeeds(unsafe, prompt_ids):
    assert all(leaked(unsafe, prompt_ids(PROMPT)))


def same_bytes(left, right):
    """The share of places at which two copies agree; by chance 1 in 256."""
    assert len(left) == len(right)
    return sum(x == y for x, y in zip(left, right, strict=True)) / len(left)


def differential(host, prompt_ids):
    """Agreement of two copies of one prompt, and of two prompts that differ in their 50th id."""
    prompt = prompt_ids(PROMPT)
    other = [*prompt[:49], (prompt[49] + 1) % 100 + 3, *prompt[50:]]
    first, again, changed = (host.copy_of(each) for each in (prompt, prompt, other))
    return same_bytes(first, again), same_bytes(first, changed)


def test_a_differential_of_two_copies_tells_nothing(ours, prompt_ids, report):
    equal, changed = differential(ours, prompt_ids)
    report(f"two sealed copies agree in {equal:.4f} of bytes, of two prompts in {changed:.4f}")
    assert max(equal, changed) < 1 / 256 + 0.005


def test_a_differential_of_two_duplicates_tells_where_prompts_differ(unsafe, prompt_ids, report):
    equal, changed = differential(unsafe, prompt_ids)
    report(f"two duplicates in clear (unsafe) agree in {equal:.4f}, of two prompts {changed:.4f}")
    assert equal == 1.0
    assert 0.5 < changed < 1.0


def test_the_way_to_the_copy_is_sealed_too(local_engine, prompt_ids):
    """What crosses between device and host, by a channel in clear (unsafe) and by ours."""
    found = {}
    for kind in ("plain", "sealed"):
        local = local_engine()
        local.ends = join(local.pool, kind=kind)
        local.engine._scheduler._outside = local.ends.host
        crossed = []
        link = local.ends.device.to_host
        send = link.send
        link.send = lambda frames, done, send=send, crossed=crossed: (
            crossed.extend(bytes(frame.ciphertext) for frame in frames),
            send(frames, done),
        )
        host = Host(local)
        host.copy_of(prompt_ids(PROMPT))
        found[kind] = host.rows[0][0].numpy().tobytes() in b"".join(crossed)
        local.ends.host.close()
    assert found == {"plain": True, "sealed": False}
