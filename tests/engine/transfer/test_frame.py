"""Frames have one encoding, and the header is authenticated field by field."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.transfer.blocks import BlockStore
from engine.transfer.channel import open_channel
from engine.transfer.errors import FrameRefused, PlainRefused, TransferError
from engine.transfer.frame import HEADER, NOP, TO_DEVICE, TO_HOST, Frame, nonce
from engine.transfer.link import MemoryLink

U64 = st.integers(0, 2**64 - 1)


@given(U64, U64, U64, st.binary(max_size=40))
def test_a_frame_comes_back_as_it_was(counter, block, version, content):
    body = memoryview(content + bytes(16))
    frame = Frame(counter, 0, block, version, len(content), body)
    data = frame.encode()
    assert len(data) == frame.wire_bytes
    again = Frame.decode(data)
    assert again == frame
    assert again.tag == bytes(16)
    for cut in {0, 1, HEADER, HEADER + 15, len(data) - 1}:
        with pytest.raises(FrameRefused):
            Frame.decode(data[:cut])
    with pytest.raises(FrameRefused):
        Frame.decode(data + b"\x00")


def test_the_bytes_are_those_of_the_page():
    frame = Frame(1, 0, 2, 3, 1, memoryview(b"c" + b"t" * 16))
    assert frame.encode().hex() == (
        "000000000000000100000000000000000200000000000000030000000163" + "74" * 16
    )
    assert nonce(TO_DEVICE, 5).hex() == "000000010000000000000005"


@pytest.mark.parametrize("flags", [2, 128, 255])
def test_unknown_flags_are_refused(flags):
    data = bytearray(Frame(0, 0, 0, 0, 0, memoryview(bytes(16))).encode())
    data[8] = flags
    with pytest.raises(FrameRefused, match="flag"):
        Frame.decode(data)


@pytest.mark.parametrize("fields", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_nop_has_no_content(fields):
    header = struct.pack(">QBQQI", 0, NOP, *fields)
    with pytest.raises(FrameRefused, match="NOP"):
        Frame.decode(header + bytes(fields[2]) + bytes(16))


CHANGES = {
    "counter": (0, 8),
    "flags": (8, 9),
    "block": (9, 17),
    "version": (17, 25),
    "length": (25, 29),
    "ciphertext": (29, 93),
    "tag": (93, 109),
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_changed_bit_of_every_field_is_refused(ends, field):
    start, stop = CHANGES[field]
    for bit in range(8 * start, 8 * stop, 1 if field != "ciphertext" else 7):
        made = ends()
        made.host.send(1)
        made.host.sync()
        data = bytearray(made.host_link.arrived.popleft())
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameRefused):
            made.device.receive(Frame.decode(data)).result()
        with pytest.raises(TransferError):
            made.stores[1].read(1)


def test_a_frame_of_the_other_direction_is_refused(ends):
    made = ends()
    made.host.send(1)
    made.host.sync()
    (reflected,) = made.host_link.take()
    with pytest.raises(FrameRefused):
        made.host.receive(reflected).result()
    assert nonce(TO_DEVICE, 0) != nonce(TO_HOST, 0)


def test_transfers_in_clear_are_refused_under_an_attested_policy():
    with pytest.raises(PlainRefused):
        open_channel("plain", BlockStore(), MemoryLink(), side="host", secret=bytes(32))
