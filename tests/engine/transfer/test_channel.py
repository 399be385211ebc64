"""What a channel promises, one statement at a time."""

import threading

import pytest

from engine.transfer.blocks import State
from engine.transfer.buffers import Buffers
from engine.transfer.counts import TransferCounts
from engine.transfer.errors import (
    BlockBusy,
    BlockEmpty,
    BlockPoisoned,
    BlockUnusable,
    ChannelClosed,
    FrameRefused,
    SecretReused,
    SessionFaulted,
    UnknownBlock,
)
from engine.transfer.frame import NOP, Frame
from engine.transfer.link import MemoryLink, ModelledLink
from engine.transfer.predict import Lifo, Never
from engine.transfer.sealer import WorkerSealer
from engine.transfer.sender import Trust


def crossed(made):
    return [future.result() for future in made.cross()]


@pytest.mark.parametrize("kind", ["sealed", "cc", "plain"])
def test_what_is_sent_arrives(ends, kind):
    made = ends(kind)
    for _ in range(5):
        for block in range(1, 9):
            made.host.send(block)
        crossed(made)
    for block in range(1, 9):
        assert bytes(made.stores[1].read(block)) == bytes([block]) * 64
    assert made.host.stats().hits == (0 if kind == "plain" else 31)


def test_only_the_plain_form_shows_its_content_to_the_link(ends):
    seen = {}
    for kind in ("sealed", "plain"):
        made = ends(kind)
        made.host.send(3)
        made.host.sync()
        seen[kind] = bytes([3]) * 64 in made.host_link.arrived[0]
    assert seen == {"sealed": False, "plain": True}


def test_a_batch_may_be_asked_for_in_another_order_than_it_was_staged(ends):
    made = ends(depth=4, predictor=Never())
    made.host.stage([1, 2, 3, 4])
    for block in (3, 1, 4, 2):
        made.host.send(block)
    made.host.sync()
    frames = made.host_link.take()
    assert [frame.counter for frame in frames] == [0, 1, 2, 3]
    assert [frame.block for frame in frames] == [1, 2, 3, 4]
    assert made.host.stats() == TransferCounts(hits=4, bytes_sealed=256) + TransferCounts(
        hidden_s=made.host.stats().hidden_s
    )


def test_what_a_batch_passes_over_becomes_nops(ends):
    made = ends(depth=4, predictor=Never())
    made.host.stage([1, 2, 3, 4])
    made.host.send(3)
    made.host.sync()
    frames = made.host_link.take()
    assert [frame.flags for frame in frames] == [NOP, NOP, 0]
    assert made.host.stats().nops == 2
    made.host.send(4)
    assert made.host.stats().hits == 2
    for frame in frames:
        assert made.device.receive(frame).exception() is None


def test_a_miss_relinquishes_and_what_was_staged_is_zeroised(ends):
    made_buffers = []

    def allocate(size):
        made_buffers.append(memoryview(bytearray(size)))
        return made_buffers[-1]

    made = ends(depth=4, predictor=Never(), buffers=Buffers(allocate))
    made.host.stage([1, 2, 3, 4])
    assert all(any(buffer) for buffer in made_buffers)
    frame = made.host.send(5)
    assert frame.counter == 0
    assert made.host.stats().relinquishes == 1
    assert [any(buffer) for buffer in made_buffers].count(True) == 1
    crossed(made)
    assert bytes(made.stores[1].read(5)) == bytes([5]) * 64


def test_a_gap_saves_what_is_staged_from_a_miss(ends):
    made = ends(depth=4, gap=1, predictor=Never())
    made.host.stage([1])
    made.host.send(5)  # no gap yet: it is left once something was missed
    made.host.stage([1, 2])
    made.host.send(6)
    made.host.send(1)
    made.host.send(2)
    crossed(made)
    counts = made.host.stats()
    assert (counts.hits, counts.misses, counts.relinquishes, counts.nops) == (2, 2, 1, 0)


def test_a_write_makes_what_is_staged_stale(ends):
    made = ends(depth=4, predictor=Never())
    made.host.stage([1, 2])
    with made.stores[0].write(1) as memory:
        memory[:] = b"n" * 64
        with pytest.raises(BlockBusy):
            made.host.send(1)
    made.host.send(1)
    crossed(made)
    assert bytes(made.stores[1].read(1)) == b"n" * 64
    assert made.host.stats().misses == 1


def test_an_older_version_is_refused(ends):
    made = ends()
    made.host.send(1)
    crossed(made)
    with made.stores[1].write(1) as memory:
        memory[:] = bytes(64)
    made.host.send(1)
    with pytest.raises(FrameRefused):
        made.cross()[0].result()


def test_a_refused_frame_in_the_middle_of_a_batch_fails_what_follows_too(ends):
    made = ends()
    for block in range(1, 6):
        made.host.send(block)
    made.host.sync()
    frames = list(made.host_link.arrived)
    frames[2] = frames[2][:-1] + bytes([frames[2][-1] ^ 1])
    futures = [made.device.receive(Frame.decode(data)) for data in frames]
    kinds = [type(future.exception()) for future in futures]
    assert kinds == [type(None), type(None), FrameRefused, SessionFaulted, SessionFaulted]
    assert made.device.faulted
    assert bytes(made.stores[1].read(2)) == bytes([2]) * 64
    with pytest.raises(BlockPoisoned):
        made.stores[1].read(3)


def test_after_a_restart_both_ends_go_on_and_old_frames_are_refused(ends):
    made = ends(count=4)
    made.host.send(1)
    made.host.sync()
    old = made.host_link.take()
    secrets = b"a" * 32, b"b" * 32
    made.host.restart(*secrets, side="host")
    made.device.restart(*secrets, side="device")
    made.host.send(2)
    crossed(made)
    with pytest.raises(FrameRefused):
        made.device.receive(old[0]).result()
    with pytest.raises(SecretReused):
        made.host.restart(*secrets, side="host")


def test_nothing_that_was_not_released_crosses_after_a_restart(ends):
    made = ends()
    made.host.send(1)
    made.host.restart(b"a" * 32, b"b" * 32, side="host")
    made.host.sync()
    assert not made.host_link.arrived


def test_blocks_of_a_request_that_ended_are_staged_no_more(ends):
    made = ends(depth=4, predictor=Never())
    made.host.stage([1, 2])
    made.host.forget([1])
    made.host.send(1)
    made.host.send(2)
    assert (made.host.stats().hits, made.host.stats().misses) == (1, 1)


def test_a_closed_channel_sends_nothing(ends):
    made = ends()
    made.host.send(1)
    made.host.close()
    with pytest.raises(ChannelClosed):
        made.host.send(1)
    assert not made.host_link.arrived


def test_blocks_say_why_they_are_not_usable(ends):
    made = ends()
    store = made.stores[1]
    with pytest.raises(BlockEmpty):
        store.read(1)
    with pytest.raises(UnknownBlock):
        store.version(99)
    with pytest.raises(BlockUnusable):
        store.add(1, bytearray(1))
    store.poison(1)
    assert store.state(1) is State.POISONED
    with pytest.raises(BlockPoisoned):
        made.device.send(1)


def test_whoever_reads_waits_for_the_opening_and_nobody_else(ends):
    held = threading.Event()

    class Held(WorkerSealer):
        def submit(self, task):
            return super().submit(lambda: (held.wait(10), task())[1])

    made = ends(device={"opener": Held()}.items())
    made.host.send(1)
    (future,) = made.cross()
    assert made.stores[1].state(1) is State.PENDING
    assert not future.done()
    with pytest.raises(TimeoutError):
        made.stores[1].read(1, timeout=0.01)
    held.set()
    assert bytes(made.stores[1].read(1)) == bytes([1]) * 64
    made.device.close()


def test_a_thread_seals_ahead_and_everything_arrives(ends):
    made = ends(
        count=20,
        size=4096,
        depth=8,
        sealer=WorkerSealer(),
        device={"opener": WorkerSealer()}.items(),
    )
    for turn in range(40):
        for block in range(1, 21):
            if (turn + block) % 17 == 0:
                with made.stores[0].write(block) as memory:
                    memory[:8] = bytes([turn]) * 8
            made.host.send(block)
            if block % 3 == 0:
                made.cross()
        futures = made.cross()
        assert all(future.exception(10) is None for future in futures)
    for block in range(1, 21):
        assert made.stores[1].read(block) == made.stores[0].read(block)
    counts = made.host.stats()
    assert counts.hits + counts.misses == 800
    assert counts.hits > 0
    for end in (made.host, made.device):
        end.close()


def test_a_thousand_preemptions_leave_the_channel_as_it_was(ends):
    made = ends(count=8, depth=8)
    for turn in range(1000):
        block = 1 + turn % 8
        made.host.send(block)
        crossed(made)
        with made.stores[1].write(block) as memory:
            memory[:8] = turn.to_bytes(8)
        made.device.send(block)
        made.device.sync()
        for frame in made.device_link.take():
            made.host.receive(frame).result()
        assert made.stores[0].read(block)[:8] == turn.to_bytes(8)
    assert made.host.stats().hit_rate > 0.95


def test_what_stands_out_of_the_expected_order_is_sealed_again_behind_it(ends):
    """Or else every batch would pass over what the next one wants, and NOPs take its numbers."""
    expected = []
    predictor = Never()
    predictor.predict = lambda count: expected[:count]
    made = ends(depth=4, predictor=predictor)
    made.host.stage([5, 6, 1, 2])
    expected[:] = [1, 2, 5, 6]
    made.host.sync()
    for block in (1, 2):
        made.host.send(block)
    expected[:] = [5, 6]
    made.host.sync()
    for block in (5, 6):
        made.host.send(block)
    made.host.sync()
    frames = made.host_link.take()
    assert [frame.block for frame in frames if not frame.flags] == [1, 2, 5, 6]
    assert made.host.stats().hits == 4
    assert made.host.stats().nops == 2  # the numbers that 5 and 6 had; not once more after that
    assert all(made.device.receive(frame).exception() is None for frame in frames)


def test_what_arrived_is_staged_before_it_is_asked_for(ends):
    made = ends(depth=4)
    for block in (1, 2, 3, 4):
        made.host.send(block)
    crossed(made)
    for block in (3, 4):
        made.device.send(block)
    made.device.sync()
    for frame in made.device_link.take():
        made.host.receive(frame)
    made.host.received()
    before = made.host.stats()
    for block in (3, 4):
        made.host.send(block)
    assert (made.host.stats() - before).hits == 2


def test_staging_rests_when_guesses_fail_and_longer_each_time():
    trust = Trust(window=4, rest=3)
    for rest in (3, 6, 12):
        for _ in range(2):  # more than a quarter of four
            assert trust.staging
            trust.judge(hit=False, guessed=True)
        for _ in range(rest):
            assert not trust.staging
            trust.judge(hit=False, guessed=False)
    assert trust.staging


def test_the_modelled_link_adds_up():
    now = [0.0]
    link = ModelledLink(1000.0, 0.5, lambda: now[0], behind=MemoryLink())
    frame = Frame(0, 0, 0, 0, 455, memoryview(bytes(471)))
    link.send([frame], lambda: None)
    assert (link.free_at, link.bytes) == (1.0, 500)
    now[0] = 4.0
    link.send([frame, frame], lambda: None)
    assert (link.free_at, link.busy_s, link.batches) == (5.5, 2.5, 2)


def test_counts_of_a_request_are_the_difference():
    before, after = TransferCounts(hits=1, misses=3), TransferCounts(hits=4, misses=3, nops=2)
    assert after - before == TransferCounts(hits=3, nops=2)
    assert before.hit_rate == 0.25


def test_blocks_sealed_ahead_cross_the_end_of_a_counter_and_keep_their_places(ends):
    made = ends(depth=8, limit=5, device={"limit": 5})
    counters = []
    for _ in range(6):
        for block in range(1, 9):
            made.host.send(block)
        made.host.sync()
        frames = made.host_link.take()
        counters += [frame.counter for frame in frames]
        for frame in frames:
            made.device.receive(frame).result()
    assert counters == [number % 5 for number in range(len(counters))]
    assert made.host.stats().hits > 24
    assert not made.device.faulted


def test_a_burst_that_comes_back_newest_first_needs_no_nops(ends):
    made = ends(count=24, depth=12, predictor=Lifo())
    batches = [list(range(first, first + 6)) for first in (1, 7, 13, 19)]
    for block in range(1, 25):
        made.host.send(block)
    for taken in made.cross():
        taken.result()
    before = made.host.stats()
    for batch in batches:
        for block in batch:
            made.device.send(block)
        made.device.sync()
        for frame in made.device_link.take():
            made.host.receive(frame).result()
        made.host.received()
    for batch in reversed(batches):
        for block in batch:
            made.host.send(block)
        for taken in made.cross():
            taken.result()
    counts = made.host.stats() - before
    assert (counts.hits, counts.misses, counts.nops, counts.relinquishes) == (24, 0, 0, 0)
