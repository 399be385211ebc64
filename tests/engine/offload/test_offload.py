"""Preempted sequences go outside sealed, come back uncomputed, and leave nothing there."""

import errno
import os
import random

import pytest
import torch

from engine.kv_cache import KVPool, LayerShape
from engine.offload.device_memory import DeviceMemory
from engine.offload.offload import Offload
from engine.offload.units import Units
from engine.transfer import store as store_module
from engine.transfer.errors import BlockPoisoned, FrameRefused, TransferError
from engine.transfer.sealer import WorkerSealer
from engine.transfer.store import SealedStore
from engine.types import EngineState, ErrorCode

SECRET = bytes(range(32))
SHAPES = [LayerShape(2, 4, 4), LayerShape(2, 4, 8), LayerShape(1, 4, 4)]


class Ends:
    """A pool of random content, and both ends over it."""

    def __init__(self, *, capacity=1 << 20, limit=600, folder=None, kind="sealed", **host):
        torch.manual_seed(3)
        self.pool = KVPool(
            SHAPES, blocks=32, block_size=4, dtype=torch.bfloat16, device=torch.device("cpu")
        )
        both = {"kind": kind, "secret": SECRET, "attested": kind != "plain"}
        self.device = DeviceMemory(self.pool, limit=limit, **both)
        self.room = SealedStore(capacity, folder=folder)
        self.host = Offload(self.device, self.room, **both, **host)

    def fill(self, blocks):
        for layer in range(len(SHAPES)):
            for block in blocks:
                for part in self.pool.parts(layer, block):
                    part.copy_(torch.randn(part.shape))

    def content(self, blocks):
        parts = (
            part
            for block in blocks
            for i in range(len(SHAPES))
            for part in self.pool.parts(i, block)
        )
        return torch.cat([part.flatten() for part in parts]).clone()

    def leave(self, key, blocks):
        self.fill(blocks)
        before = self.content(blocks)
        self.host.leave(key, blocks)
        self.pool.zero(blocks)
        return before


def private(ends):
    """What either end still holds in clear."""
    return [*ends.host._store._blocks, *ends.device._store._blocks, *ends.device._held]


@pytest.mark.parametrize("kind", ["sealed", "cc", "plain"])
@pytest.mark.parametrize("limit", [1, 600, 1 << 20])
def test_blocks_come_back_into_other_places(kind, limit):
    ends = Ends(kind=kind, limit=limit)
    before = ends.leave("a", [3, 4, 9])
    assert not private(ends)
    assert ends.host.come_back("a", [20, 1, 2]) == 3
    assert torch.equal(ends.content([20, 1, 2]), before)
    assert not private(ends)
    assert ends.room.used == 0
    units = 3 * ends.device.units.count
    assert ends.host.crossings("a").sent == 2 * units


def test_a_unit_has_as_many_layers_as_its_limit_allows():
    pool = Ends().pool
    assert Units(pool, 1).sizes == [128, 192, 64]
    assert Units(pool, 256).sizes == [128, 256]
    assert Units(pool).sizes == [384]


def test_what_is_expected_is_sealed_ahead():
    ends = Ends(limit=1)
    blocks = {"a": [0, 1], "b": [2, 3], "c": [4, 5]}
    before = {key: ends.leave(key, own) for key, own in blocks.items()}
    for key in reversed(blocks):
        ends.host.expect(list(ends.host._stays)[::-1])
        assert ends.host.come_back(key, blocks[key]) == 2
        assert torch.equal(ends.content(blocks[key]), before[key])
        crossings = ends.host.crossings(key)
        assert (crossings.hits, crossings.misses) == (6, 0)
    assert ends.host.transfers.relinquishes == 0


def test_a_request_that_ends_before_its_turn_costs_a_miss_at_most():
    ends = Ends(limit=1)
    before = {key: ends.leave(key, [i]) for i, key in enumerate("abc")}
    ends.host.expect("abc")
    ends.host.forget("a")
    assert ends.host.come_back("c", [10]) == 1  # not the order that was announced, either
    assert ends.host.come_back("b", [11]) == 1
    assert torch.equal(ends.content([10]), before["c"])
    assert torch.equal(ends.content([11]), before["b"])
    assert not private(ends)


def test_only_ciphertext_is_at_rest_and_on_the_link():
    ends = Ends()
    seen = []
    take = ends.device.to_host.take
    ends.device.to_host.take = lambda: seen.extend(ends.device.to_host.arrived) or take()
    before = bytes(ends.leave("a", [0, 1]).view(torch.uint8).numpy())
    rest = ends.host._stays["a"]._rest
    kept = b"".join(bytes(each) for each in rest._shelf.kept.values())
    for place in (kept, b"".join(seen)):
        assert len(place) > len(before)
        assert not any(before[at : at + 8] in place for at in range(0, len(before) - 8, 8))


def test_a_key_dies_with_its_request():
    ends = Ends()
    ends.leave("a", [0, 1])
    rest = ends.host._stays["a"]._rest
    ends.host.forget("a")
    assert rest._aead._cipher is None
    assert ends.room.used == 0
    assert ends.host.come_back("a", [0, 1]) == 0


def test_a_full_pool_keeps_the_first_blocks():
    ends = Ends(capacity=1000)  # two blocks of 384 bytes and their tags
    before = ends.leave("a", [0, 1, 2, 3])
    ends.leave("b", [4])
    assert ends.host.come_back("b", [4]) == 0
    assert ends.host.come_back("a", [4, 5, 6, 7]) == 2
    assert torch.equal(ends.content([4, 5]), before[: 2 * 192])
    assert (ends.host.counts.shortened, ends.host.counts.without) == (1, 1)


def test_a_pool_that_fills_meanwhile_keeps_the_first_blocks():
    ends = Ends(capacity=1000)
    ends.host._fitting = lambda blocks: blocks
    before = ends.leave("a", [0, 1, 2, 3])
    assert ends.host.come_back("a", [4, 5, 6, 7]) == 2
    assert torch.equal(ends.content([4, 5]), before[: 2 * 192])


def test_a_full_disk_keeps_the_first_blocks(tmp_path, monkeypatch):
    ends = Ends(folder=tmp_path)
    written, pwrite = [], os.pwrite

    def write(file, data, at):
        written.append(at)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(file, data, at)

    monkeypatch.setattr(store_module.os, "pwrite", write)
    before = ends.leave("a", [0, 1, 2, 3, 5])
    monkeypatch.undo()
    assert ends.host.come_back("a", [4, 5, 6, 7, 8]) == 3
    assert torch.equal(ends.content([4, 5, 6]), before[: 3 * 192])


def test_a_folder_that_takes_no_file_means_computing(tmp_path):
    ends = Ends(folder=tmp_path / "gone")
    ends.leave("a", [0])
    assert ends.host.come_back("a", [0]) == 0
    assert ends.host.counts.without == 1


def bend(link, which, change):
    """Let a link change the frame of this index."""
    take = link.take

    def lying():
        if len(link.arrived) > which:
            link.arrived[which] = change(bytearray(link.arrived[which]))
        return take()

    link.take = lying
    return lambda: setattr(link, "take", take)


def flip(frame):
    frame[-20] ^= 1
    return bytes(frame)


@pytest.mark.parametrize("change", [flip, lambda frame: bytes(frame[:-1]), lambda _: b""])
@pytest.mark.parametrize("way", ["to_host", "to_device"])
def test_a_refusal_in_a_batch_fails_its_sequence_alone(way, change):
    ends = Ends(limit=1)
    if way == "to_host":
        mend = bend(ends.device.to_host, 3, change)
    before = ends.leave("a", [0, 1]), ends.leave("b", [2, 3]) if way == "to_device" else None
    if way == "to_device":
        mend = bend(ends.device.to_device, 3, change)
    with pytest.raises(TransferError):
        ends.host.come_back("a", [0, 1])
    mend()
    assert before
    assert ends.host.counts.failed == 1
    ends.pool.zero([0, 1])
    if way == "to_device":
        assert ends.host.come_back("b", [8, 9]) == 2
        assert torch.equal(ends.content([8, 9]), before[1])
    again = ends.leave("c", [5])
    assert ends.host.come_back("c", [6]) == 1
    assert torch.equal(ends.content([6]), again)
    assert not private(ends)
    assert ends.host.counts.restarts == 1


def test_a_lost_last_frame_fails_its_sequence():
    ends = Ends(limit=1)
    take = ends.device.to_host.take
    ends.device.to_host.take = lambda: take()[:-1]
    ends.leave("a", [0, 1])
    ends.device.to_host.take = take
    with pytest.raises(TransferError):
        ends.host.come_back("a", [0, 1])


def test_what_changed_at_rest_is_never_served():
    ends = Ends(limit=1)
    ends.leave("a", [0, 1])
    ends.host._stays["a"]._rest._shelf.kept[4][5] ^= 1
    with pytest.raises(BlockPoisoned):
        ends.host.come_back("a", [0, 1])
    assert not private(ends)


def test_what_is_at_rest_survives_a_restart_of_the_device():
    ends = Ends(limit=1)
    before = ends.leave("a", [0, 1])
    ends.host.expect("a")
    ends.host.restart()
    assert ends.host.come_back("a", [4, 5]) == 2
    assert torch.equal(ends.content([4, 5]), before)


def test_an_old_session_is_not_continued():
    ends = Ends(limit=1)
    ends.leave("a", [0])
    ends.device.restart(bytes([1]) * 32, bytes([2]) * 32)  # the host does not know
    with pytest.raises(FrameRefused):
        ends.host.come_back("a", [1])
    before = ends.leave("b", [2])
    assert ends.host.come_back("b", [3]) == 1
    assert torch.equal(ends.content([3]), before)


@pytest.mark.parametrize("threads", [False, True])
def test_a_thousand_preemptions_lose_nothing(threads):
    """Leaving, returning, ending in any order, with a pool that is often full."""
    workers = {"sealer": WorkerSealer(), "worker": WorkerSealer()} if threads else {}
    ends = Ends(capacity=6000, limit=1, **workers)
    chance, inside, outside, number = random.Random(5), {}, {}, 0
    free = list(range(32))
    for _ in range(1100):
        if len(inside) < 4:
            number += 1
            own = [free.pop() for _ in range(chance.randint(1, 5))]
            ends.fill(own)
            inside[number] = own
        key = chance.choice(list(inside))
        own = inside.pop(key)
        before = ends.leave(key, own)
        outside[key] = before, len(own)
        free += own
        ends.host.expect(list(outside)[: chance.randint(0, 9)])
        while len(outside) > 2:
            key = chance.choice(list(outside))
            before, count = outside.pop(key)
            if chance.random() < 0.2:
                ends.host.forget(key)
                continue
            own = [free.pop() for _ in range(count)]
            back = ends.host.come_back(key, own)
            assert torch.equal(ends.content(own[:back]), before[: back * 192]), "not what left"
            ends.host.forget(key)
            ends.pool.zero(own)
            free += own
    for key in outside:
        ends.host.forget(key)
    assert ends.host.counts.failed == 0
    assert ends.host.counts.left >= 1000
    assert ends.room.used == 0
    assert not private(ends)
    ends.host.close()


LENGTHS = (50, 61, 37, 70)
PROMPTS = [[3 + (7919 * at + length) % 190 for at in range(length)] for length in LENGTHS]


def ids_of(local):
    slots = [local.submit(prompt, max_new_tokens=40) for prompt in PROMPTS]
    local.run()
    return [slot.ids(0, slot.sampled) for slot in slots if slot.state is EngineState.FINISHED]


def test_preempted_sequences_go_on_without_being_computed_again(local_engine, offloading):
    roomy, tight = local_engine(), offloading(kv_blocks=16)
    assert ids_of(tight) == ids_of(roomy)
    counts = tight.ends.host.counts
    assert counts.left == counts.returned > 0
    assert tight.ends.host.transfers.misses == 0
    tight.assert_clean()
    assert not private(tight.ends)


def test_a_configured_engine_counts_what_crossed_for_the_receipt(local_engine):
    roomy, tight = local_engine(), local_engine(kv_blocks=16, kv_offload_bytes=1 << 24)
    slots = [tight.submit(prompt, max_new_tokens=40) for prompt in PROMPTS]
    tight.run()
    ids = [slot.ids(0, slot.sampled) for slot in slots if slot.state is EngineState.FINISHED]
    assert ids == ids_of(roomy)
    counts = [slot.counts() for slot in slots]
    assert any(each.sent and each.hits for each in counts)
    assert all(each.sent >= each.hits + each.misses for each in counts)
    assert not any(slot.counts().sent for slot in roomy.slots)


@pytest.mark.parametrize("speculation", ["ngram", "draft"])
def test_proposals_and_their_pool_do_not_come_between(
    local_engine, offloading, model_folder, speculation
):
    model = model_folder("llama")
    draft = model if speculation == "draft" else None
    tight = offloading(model=model, kv_blocks=18, speculation=speculation, draft=draft)
    assert ids_of(tight) == ids_of(local_engine())
    assert tight.ends.host.counts.returned > 0
    tight.assert_clean()


def test_a_thousand_preemptions_of_an_engine_change_no_id(local_engine, offloading):
    tight = offloading()
    scheduler = tight.engine._scheduler
    slots = [tight.submit(prompt, max_new_tokens=300) for prompt in PROMPTS]
    while tight.engine.busy:
        tight.engine.step()
        for sequence in list(scheduler.running):
            if sequence.computed:
                scheduler._preempt(sequence)
    counts = tight.ends.host.counts
    assert counts.left > 1000
    assert counts.failed == counts.without == 0
    roomy = local_engine()
    others = [roomy.submit(prompt, max_new_tokens=300) for prompt in PROMPTS]
    roomy.run()
    assert [s.ids(0, s.sampled) for s in slots] == [s.ids(0, s.sampled) for s in others]
    tight.assert_clean()


def test_offload_saves_rows(local_engine, offloading):
    def rows(local):
        device, count = local.engine._device, [0]
        step = device.step

        def counted(batch):
            count[0] += len(batch.rows)
            return step(batch)

        device.step = counted
        ids_of(local)
        return count[0]

    least, again = rows(local_engine()), rows(local_engine(kv_blocks=16))
    kept = rows(offloading(kv_blocks=16))
    assert least == kept < again


def test_a_full_host_means_computing_again(local_engine, offloading):
    tight = offloading(kv_blocks=16, options={"capacity": 100})
    assert ids_of(tight) == ids_of(local_engine())
    assert tight.ends.host.counts.without > 0


def test_a_refused_block_fails_its_request_and_no_other(local_engine, offloading):
    tight = offloading(kv_blocks=16)
    bend(tight.ends.device.to_device, 0, flip)
    whole = ids_of(local_engine())
    slots = [tight.submit(prompt, max_new_tokens=40) for prompt in PROMPTS]
    tight.run()
    failed = [slot for slot in slots if slot.state is EngineState.FAILED]
    assert failed
    assert {slot.error for slot in failed} == {ErrorCode.STEP_FAILED}
    for slot, ids in zip(slots, whole, strict=True):
        assert slot in failed or slot.ids(0, slot.sampled) == ids
    for slot in slots:
        tight.done(slot)
    tight.assert_clean()


def test_cancelled_outside_leaves_nothing(offloading):
    tight = offloading(kv_blocks=16)
    slots = [tight.submit(prompt, max_new_tokens=40) for prompt in PROMPTS]
    while not tight.ends.host._stays:
        tight.engine.step()
    (sequence,) = tight.ends.host._stays
    tight.cancel(slots[sequence.key])
    assert not tight.ends.host._stays
    assert tight.ends.room.used == 0
    tight.run()
