"""The opening kernels against RFC 8439 and the CPU's AEAD, by Triton's interpreter.

`TRITON_INTERPRET=1 PYTHONPATH=(a folder with triton 3.6) python -m pytest tests/engine/transfer`.
"""

import os
import random
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from engine.aead import chacha20_poly1305
from engine.transfer.frame import Frame, header, nonce


@pytest.fixture(scope="session")
def kernels():
    if not find_spec("triton"):
        pytest.skip("Triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET=1 is not set, and must be from the interpreter's start")
    return import_module("engine.transfer.cuda_open")


def tensor(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def opened(kernels, key, nonces, headers, sealed, *, lanes=8):
    bodies = torch.stack([tensor(body) for body in sealed])
    out = torch.full((len(sealed), bodies.shape[1] - 16), 0x55, dtype=torch.uint8)
    authentic = kernels.open_batch(tensor(key), nonces, headers, bodies, out, lanes=lanes)
    return authentic.tolist(), [bytes(row.tolist()) for row in out]


def make(length, count, seed):
    rng = random.Random(seed)
    key = rng.randbytes(32)
    places = [nonce(1, rng.randrange(2**64)) for _ in range(count)]
    headers = [header(rng.randrange(2**64), 0, rng.randrange(2**64), 5, length)] * count
    contents = [rng.randbytes(length) for _ in range(count)]
    aead = chacha20_poly1305(key)
    sealed = [aead.seal(*each) for each in zip(places, contents, headers, strict=True)]
    return key, places, headers, contents, sealed


@pytest.mark.parametrize(("length", "lanes"), [(64, 4), (512, 8), (4096, 64)])
def test_frames_open_as_on_the_cpu(kernels, length, lanes):
    key, places, headers, contents, sealed = make(length, 3, seed=length + lanes)
    assert opened(kernels, key, places, headers, sealed, lanes=lanes) == ([1, 1, 1], contents)


def test_tags_of_many_keys_are_right(kernels):
    """Carries that seldom happen would show here."""
    for seed in range(6):
        key, places, headers, contents, sealed = make(64, 2, seed)
        assert opened(kernels, key, places, headers, sealed) == ([1, 1], contents)


def test_extreme_contents_open(kernels):
    for byte in (0, 255):
        key, place, associated = bytes([byte]) * 32, bytes([byte]) * 12, bytes([byte]) * 29
        content = bytes([byte]) * 256
        sealed = chacha20_poly1305(key).seal(place, content, associated)
        assert opened(kernels, key, [place], [associated], [sealed]) == ([1], [content])


@pytest.mark.parametrize("bit", [0, 511, 639])
def test_one_changed_bit_is_noticed_and_nothing_comes_out(kernels, bit):
    key, places, headers, contents, sealed = make(64, 2, seed=bit)
    sealed[1][bit // 8] ^= 1 << bit % 8
    assert opened(kernels, key, places, headers, sealed) == ([1, 0], [contents[0], bytes(64)])


def test_another_header_or_nonce_is_noticed(kernels):
    key, places, headers, _, sealed = make(64, 1, seed=1)
    other = headers[0][:-1] + b"\xff"
    assert opened(kernels, key, places, [other], sealed) == ([0], [bytes(64)])
    assert opened(kernels, key, [bytes(12)], headers, sealed) == ([0], [bytes(64)])


def test_the_block_of_rfc_8439_section_2_4_2(kernels):
    """The key stream, seen through a content of zeros: its counter begins at 1, as in the RFC."""
    key, place = bytes(range(32)), bytes.fromhex("000000000000004a00000000")
    sealed = chacha20_poly1305(key).seal(place, bytes(64), b"header")
    _, (content,) = opened(kernels, key, [place], [b"header"], [sealed])
    assert content == bytes(64)
    assert sealed[:64].hex() == (
        "224f51f3401bd9e12fde276fb8631ded8c131f823d2c06e27e4fcaec9ef3cf78"
        "8a3b0aa372600a92b57974cded2b9334794cba40c63e34cdea212c4cf07d41b7"
    )


def test_lengths_that_are_no_blocks_are_refused(kernels):
    with pytest.raises(ValueError, match="multiple of 64"):
        opened(kernels, bytes(32), [bytes(12)], [b""], [bytes(63 + 16)])


def test_a_frame_of_the_wire_opens(kernels):
    key, places, headers, contents, sealed = make(128, 1, seed=9)
    frame = Frame.decode(headers[0] + bytes(sealed[0]))
    assert opened(kernels, key, places, [frame.header], [frame.body]) == ([1], contents)
