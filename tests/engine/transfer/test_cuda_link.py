"""The GPU's link on a CPU: streams and events that the test moves, a kernel's stand-in."""

from contextlib import contextmanager

import pytest
import torch

from engine.aead import TagMismatch, chacha20_poly1305
from engine.transfer.blocks import BlockStore
from engine.transfer.channel import open_channel
from engine.transfer.cuda_link import Arrived, CudaLink, DeviceReceiver, device_session
from engine.transfer.errors import FrameRefused, SessionFaulted

SECRET = bytes(range(32))
CPU = torch.device("cpu")


class Cuda:
    """Stands for `torch.cuda`: copies are done when the test says so."""

    def __init__(self):
        self.done = False
        self.current = None

    def Stream(self, device):  # noqa: N802 - torch's name
        return f"stream of {device}"

    def Event(self):  # noqa: N802 - torch's name
        cuda = self

        class Event:
            def record(self, stream):
                assert stream == cuda.current

            def query(self):
                return cuda.done

        return Event()

    @contextmanager
    def stream(self, stream):
        self.current = stream
        yield
        self.current = None


def opening(key, nonces, headers, bodies, out):
    """What `open_batch` promises, by the CPU's AEAD."""
    whole = torch.zeros(len(nonces), dtype=torch.int32)
    for row, place in enumerate(nonces):
        aead = chacha20_poly1305(bytes(key.tolist()))
        try:
            content = aead.open_(place, bytes(bodies[row].tolist()), headers[row])
        except TagMismatch:
            out[row].zero_()
        else:
            out[row] = torch.frombuffer(content, dtype=torch.uint8)
            whole[row] = 1
    return whole


@pytest.fixture
def gpu():
    class Made:
        def __init__(self):
            self.cuda = Cuda()
            self.link = CudaLink(CPU, self.cuda)
            self.store = BlockStore()
            self.blocks = {block: torch.zeros(64, dtype=torch.uint8) for block in range(1, 7)}
            for block in self.blocks:
                self.store.add(block, bytearray([block]) * 64)
            self.host = open_channel(
                "sealed", self.store, self.link, side="host", secret=SECRET, limit=5,
                aead=chacha20_poly1305, depth=4,
            )  # fmt: skip
            session = device_session(SECRET, CPU, opening, limit=5)
            self.device = DeviceReceiver(session, self.blocks.__getitem__)

        def sent(self, *blocks):
            for block in blocks:
                self.host.send(block)
            self.host.sync()
            return self.link.take()

    return Made()


def test_blocks_arrive_on_the_device_through_many_keys(gpu):
    for _ in range(5):
        for arrived in gpu.sent(*gpu.blocks):
            gpu.device.receive(arrived)
    for block, memory in gpu.blocks.items():
        assert memory.tolist() == [block] * 64
    assert gpu.host.stats().hits > 20


def test_buffers_come_back_when_the_copies_are_done(gpu):
    returned = []
    frames = [arrived.frame for arrived in gpu.sent(1)]
    body = memoryview(bytearray(80))
    gpu.link.send([type(frames[0])(0, 0, 1, 1, 64, body)], lambda: returned.append(1))
    assert returned == []
    gpu.cuda.done = True
    gpu.link.reclaim()
    assert returned == [1]


def test_a_changed_body_leaves_zeros_and_ends_the_session(gpu):
    first, second = gpu.sent(1, 2)
    body = first.body.clone()
    body[5] ^= 1
    with pytest.raises(FrameRefused, match="authentic"):
        gpu.device.receive(Arrived(first.frame, body))
    assert not gpu.blocks[1].any()
    with pytest.raises(SessionFaulted):
        gpu.device.receive(second)


def test_a_replayed_or_reordered_frame_is_refused(gpu):
    first, second = gpu.sent(1, 2)
    with pytest.raises(FrameRefused, match="next"):
        gpu.device.receive(second)
    other = DeviceReceiver(device_session(SECRET, CPU, opening, limit=5), gpu.blocks.__getitem__)
    other.receive(first)
    with pytest.raises(FrameRefused, match="next"):
        other.receive(first)


def test_a_frame_of_another_length_is_refused(gpu):
    (first,) = gpu.sent(1)
    with pytest.raises(FrameRefused, match="take"):
        gpu.device.receive(Arrived(first.frame, first.body[:-1]))
