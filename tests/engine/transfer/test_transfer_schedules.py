"""Random schedules with faults: what must hold of a channel, whatever happens.

A model of both sides runs along. It knows the content of every version that was sent, and the
counters that were released; the link between the ends drops, repeats, swaps and changes frames.
"""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.transfer.blocks import BlockStore, State
from engine.transfer.buffers import Buffers
from engine.transfer.channel import open_channel
from engine.transfer.errors import BlockUnusable, FrameRefused
from engine.transfer.frame import NOP, Frame
from engine.transfer.link import MemoryLink

COUNT, SIZE, LIMIT = 6, 48, 37
"""Blocks, their bytes, and frames a key: few, so that keys follow each other all the time."""
BLOCKS = st.integers(1, COUNT)


class Watched(Buffers):
    """Buffers that are known, so that the machine can look into all of them."""

    def __init__(self):
        self.made = []
        super().__init__(self._make)

    def _make(self, size):
        self.made.append(memoryview(bytearray(size)))
        return self.made[-1]


class Schedules(RuleBasedStateMachine):
    """Host and device, a link between them, and what should be."""

    def __init__(self):
        super().__init__()
        self.random = random.Random(1)
        self.secrets = 0
        self.stores = BlockStore(), BlockStore()
        self.links = MemoryLink(), MemoryLink()
        self.buffers = Watched()
        both = {"secret": self.fresh(), "limit": LIMIT}
        self.host, self.device = (
            open_channel("sealed", store, link, side=side, buffers=buffers, depth=5, gap=1, **both)
            for store, link, side, buffers in zip(
                self.stores, self.links, ("host", "device"), (self.buffers, None), strict=True
            )
        )
        self.sent = []
        self.batches = []
        self.released = set()
        self.next = 0
        self.moment = 0
        for block in range(1, COUNT + 1):
            self.stores[0].add(block, self.content(block))
            self.stores[1].reserve(block, bytearray(SIZE))

    def fresh(self):
        self.secrets += 1
        return self.secrets.to_bytes(32)

    def content(self, block):
        self.moment += 1
        return bytearray(f"block {block} at {self.moment}".encode().ljust(SIZE))

    def usable(self, block):
        return self.stores[0].state(block) is State.CLEAN

    @rule(block=BLOCKS)
    def write(self, block):
        if self.usable(block):
            with self.stores[0].write(block) as memory:
                memory[:] = self.content(block)

    @rule(blocks=st.lists(BLOCKS, max_size=5))
    def stage(self, blocks):
        self.host.stage(blocks)

    @rule(blocks=st.lists(BLOCKS, min_size=1, max_size=COUNT, unique=True))
    def send(self, blocks):
        """What is sent has to be the content of this moment."""
        for block in blocks:
            if self.usable(block) and block not in [each[0] for each in self.sent]:
                frame = self.host.send(block)
                assert frame.version == self.stores[0].version(block)
                self.sent.append((block, frame.version, bytes(self.stores[0].read(block))))

    @rule()
    def go_round(self):
        """The cycle that weights make, so that there are hits."""
        self.send(range(1, COUNT + 1))
        self.deliver()

    @rule(block=BLOCKS)
    def forget(self, block):
        self.host.forget([block])

    @rule()
    def deliver(self):
        """An honest link: everything arrives as it was sent, nothing is lost."""
        for frame in self.release():
            assert self.device.receive(frame).exception() is None
        for block, version, content in self.sent:
            assert bytes(self.stores[1].read(block)) == content
            assert self.stores[1].version(block) == version
        self.sent = []

    @precondition(lambda self: self.sent)
    @rule(fault=st.sampled_from(["change", "repeat", "swap", "drop"]), at=st.integers(0, 99))
    def deliver_with_a_fault(self, fault, at):
        """A link that lies is noticed at the frame in question; both ends restart and go on."""
        frames = [frame.encode() for frame in self.release()]
        at %= len(frames)
        data = bytearray(frames[at])
        if fault == "change":
            data[at * 31 % len(data)] ^= 1 << at % 8
            frames[at] = bytes(data)
        elif fault == "repeat":
            frames.insert(at, frames[at])
        elif fault == "swap":
            frames.append(frames.pop(at))
        else:
            del frames[at]
        refused = self.refusals(frames)
        assert refused or (fault in {"drop", "swap"} and at == len(frames) - (fault == "swap"))
        self.check_nothing_forged()
        self.restart()

    @rule(block=BLOCKS, restarts=st.booleans())
    def swap_out(self, block, restarts):
        """The device writes a block and sends it back; it comes asynchronously."""
        if self.stores[1].state(block) is not State.CLEAN or not self.usable(block):
            return
        on_the_way = block in [each[0] for each in self.sent]
        if on_the_way or self.stores[1].version(block) < self.stores[0].version(block):
            return
        with self.stores[1].write(block) as memory:
            memory[:] = content = self.content(block)
        self.device.send(block)
        self.device.sync()
        (frame,) = [each for each in self.links[1].take() if each.flags != NOP]
        if restarts:
            forged = bytearray(frame.encode())
            forged[40] ^= 1
            with pytest.raises(FrameRefused):
                self.host.receive(Frame.decode(forged)).result()
            assert self.stores[0].state(block) is State.POISONED
            self.restart()
        else:
            self.host.receive(frame).result()
            assert bytes(self.stores[0].read(block)) == content

    @invariant()
    def nothing_staged_outlives_its_use(self):
        """A buffer that nobody owns holds zeros or what was released; never anything staged."""
        idle = [buffer for spare in self.buffers._spare.values() for buffer in spare]
        for buffer in idle:
            assert not any(buffer) or bytes(buffer) in self.released

    def release(self):
        """One batch, which has to go on where the last one ended."""
        self.host.sync()
        frames = self.links[0].take()
        for frame in frames:
            assert frame.counter == self.next % LIMIT, "released twice, or left out"
            self.next += 1
            self.released.add(bytes(frame.body))
        real = sorted(frame.block for frame in frames if frame.flags != NOP)
        assert real == sorted(block for block, _, _ in self.sent), "lost, or sent twice"
        return frames

    def refusals(self, frames):
        refused = 0
        for data in frames:
            try:
                self.device.receive(Frame.decode(data)).result()
            except FrameRefused:
                refused += 1
        return refused

    def check_nothing_forged(self):
        """Whatever can be read on the device was sent, with this content."""
        sent = {(block, version): content for block, version, content in self.sent}
        for block in range(1, COUNT + 1):
            try:
                content = bytes(self.stores[1].read(block))
            except BlockUnusable:
                continue
            version = self.stores[1].version(block)
            if (block, version) in sent:
                assert content == sent[block, version]

    def restart(self):
        """Requests whose blocks were lost have failed; theirs are made anew."""
        secrets = self.fresh(), self.fresh()
        self.host.restart(*secrets, side="host")
        self.device.restart(*secrets, side="device")
        self.sent, self.next = [], 0
        for number, store in enumerate(self.stores):
            for block in range(1, COUNT + 1):
                if store.state(block) is State.POISONED:
                    store.remove(block)
                    memory = self.content(block)
                    store.reserve(block, memory) if number else store.add(block, memory)
                    self.stores[1].remove(block)
                    self.stores[1].reserve(block, bytearray(SIZE))


COMMON = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


class TestSchedules(Schedules.TestCase):
    """About 2,000 steps."""

    settings = settings(max_examples=40, stateful_step_count=50, **COMMON)


@pytest.mark.soak
class TestManySchedules(Schedules.TestCase):
    """100,000 steps and more."""

    settings = settings(max_examples=1250, stateful_step_count=100, **COMMON)
