import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import varint
from wire.chunks import MAX_CHUNK, ChunkOpener, ChunkSealer
from wire.errors import Malformed, OpenFailed, Truncated, WireError

TAG = bytes(16)


def seal(aad, plaintext):
    """No cipher: framing is what is tested here. The tag carries the additional data."""
    return plaintext + aad.ljust(16, b"\0")


def open_(aad, ciphertext):
    if ciphertext[-16:] != aad.ljust(16, b"\0"):
        raise OpenFailed("the chunk does not open")
    return ciphertext[:-16]


def chunk(plaintext, aad=b""):
    ciphertext = seal(aad, plaintext)
    return varint.encode(len(ciphertext)) + ciphertext


def opened(data, cuts=()):
    opener = ChunkOpener(open_)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    return [plaintext for piece in pieces for plaintext in opener.feed(piece)] + [opener.finish()]


def test_chunks_come_back_split_at_every_byte():
    sealer = ChunkSealer(seal)
    data = sealer.chunk(b"one") + sealer.chunk(b"two") + sealer.final(b"three")
    for at in range(len(data)):
        assert opened(data, (at,)) == [b"one", b"two", b"three"]
    assert opened(data, range(1, len(data))) == [b"one", b"two", b"three"]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), st.binary(max_size=40))
def test_any_plaintexts_come_back(plaintexts, last):
    sealer = ChunkSealer(seal)
    data = b"".join([sealer.chunk(plaintext) for plaintext in plaintexts]) + sealer.final(last)
    assert opened(data) == [*plaintexts, last]


@pytest.mark.parametrize(
    ("length", "lengths"),
    [
        (0, [0]),
        (1, [1]),
        (MAX_CHUNK, [MAX_CHUNK]),
        (MAX_CHUNK + 1, [MAX_CHUNK, 1]),
        (3 * MAX_CHUNK, [MAX_CHUNK] * 3),
    ],
)
def test_long_plaintexts_are_cut_at_the_largest_chunk(length, lengths):
    data = ChunkSealer(seal).final(bytes(length))
    assert [len(plaintext) for plaintext in opened(data)] == lengths


def test_a_long_chunk_is_cut_and_an_empty_one_is_none():
    sealer = ChunkSealer(seal)
    assert sealer.chunk(b"") == b""
    data = sealer.chunk(bytes(MAX_CHUNK + 1)) + sealer.final()
    assert [len(plaintext) for plaintext in opened(data)] == [MAX_CHUNK, 1, 0]


def test_a_stream_cut_anywhere_is_never_complete():
    sealer = ChunkSealer(seal)
    data = sealer.chunk(b"one") + sealer.final(b"two")
    for end in range(len(data)):
        with pytest.raises((Truncated, OpenFailed)):
            opened(data[:end])


def test_a_longer_encoding_of_a_length_is_read():
    data = b"\x40\x13" + seal(b"", b"one") + b"\x40\x00" + seal(b"final", b"")
    assert opened(data) == [b"one", b""]


@pytest.mark.parametrize("length", range(1, 17))
def test_an_empty_chunk_that_is_not_the_final_one_is_refused(length):
    with pytest.raises(OpenFailed, match="empty"):
        ChunkOpener(open_).feed(varint.encode(length) + bytes(length))


@pytest.mark.parametrize("length", [MAX_CHUNK + 17, 2**62 - 1])
def test_an_oversize_length_is_refused_before_its_bytes_come(length):
    with pytest.raises(Malformed, match="too long"):
        ChunkOpener(open_).feed(varint.encode(length))


def test_an_oversize_final_chunk_is_refused_as_it_grows():
    opener = ChunkOpener(open_)
    opener.feed(b"\0" + bytes(MAX_CHUNK + 16))
    with pytest.raises(Malformed, match="final chunk is too long"):
        opener.feed(b"\0")


def test_a_final_chunk_is_not_a_chunk_and_the_other_way_round():
    with pytest.raises(OpenFailed):
        opened(chunk(b"one", b"final"))
    with pytest.raises(OpenFailed):
        opened(b"\0" + seal(b"", b"one"))


def test_one_failure_ends_a_stream():
    opener = ChunkOpener(open_)
    with pytest.raises(OpenFailed):
        opener.feed(chunk(b"one", b"forged"))
    for call in (lambda: opener.feed(chunk(b"one")), opener.finish):
        with pytest.raises(OpenFailed, match="ended or failed"):
            call()


def test_a_stream_is_finished_once():
    opener = ChunkOpener(open_)
    opener.feed(ChunkSealer(seal).final(b"last"))
    assert opener.finish() == b"last"
    with pytest.raises(OpenFailed, match="ended or failed"):
        opener.finish()


def test_nothing_is_sealed_after_the_final_chunk():
    sealer = ChunkSealer(seal)
    sealer.final()
    for call in (lambda: sealer.chunk(b"late"), sealer.final):
        with pytest.raises(ValueError, match="final chunk"):
            call()


@given(st.binary(max_size=60))
def test_any_bytes_are_chunks_or_our_error(data):
    try:
        opened(data)
    except WireError:
        return
    assert data.endswith(b"final".ljust(16, b"\0"))
