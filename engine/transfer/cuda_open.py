"""Opening on the device: ChaCha20-Poly1305 (RFC 8439) as Triton kernels.

ChaCha20 is additions, exclusive ors and rotations of 32-bit words, a block of 64 bytes a lane: what
a GPU does best, and without tables whose access times would tell of the key. Poly1305 is a
polynomial over 2^130 - 5: each of `lanes` evaluates its share of the blocks in powers of r^lanes,
in five limbs of 26 bits. Tags are compared before anything is decrypted; what is not authentic
becomes zeros. AES-256-GCM has no instruction on a GPU.

A batch is frames of one length, a multiple of 64 bytes: KV blocks and units of weights are.
"""

# A kernel's parameters are what its launch passes; the compiler types them, not we.
# ruff: noqa: ANN001, ANN201, PLR0915, PLR0917
# mypy: disable-error-code="import-not-found,no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.aead import TAG

_UNIT = 64
"""Bytes of a block of ChaCha20."""
_LANES = 128


@triton.jit
def rotated(x, by: tl.constexpr):
    """Each 32-bit word, rotated to the left."""
    return (x << by) | (x >> (32 - by))


@triton.jit
def quarter(a, b, c, d):
    """RFC 8439, section 2.1."""
    a += b
    d = rotated(d ^ a, 16)
    c += d
    b = rotated(b ^ c, 12)
    a += b
    d = rotated(d ^ a, 8)
    c += d
    b = rotated(b ^ c, 7)
    return a, b, c, d


@triton.jit
def word(pointer):
    """A 32-bit word as it lies in memory."""
    return tl.load(pointer).to(tl.uint32, bitcast=True)


@triton.jit
def key_stream(key, nonce, counters):
    """The 16 words of each counter's block: RFC 8439, section 2.3."""
    none = counters ^ counters
    k0, k1, k2, k3 = (
        none + word(key),
        none + word(key + 1),
        none + word(key + 2),
        none + word(key + 3),
    )
    k4, k5 = none + word(key + 4), none + word(key + 5)
    k6, k7 = none + word(key + 6), none + word(key + 7)
    n0, n1, n2 = none + word(nonce), none + word(nonce + 1), none + word(nonce + 2)
    c0, c1, c2, c3 = none + 0x61707865, none + 0x3320646E, none + 0x79622D32, none + 0x6B206574
    x0, x1, x2, x3, x4, x5, x6, x7 = c0, c1, c2, c3, k0, k1, k2, k3
    x8, x9, x10, x11, x12, x13, x14, x15 = k4, k5, k6, k7, counters, n0, n1, n2
    for _ in range(10):
        x0, x4, x8, x12 = quarter(x0, x4, x8, x12)
        x1, x5, x9, x13 = quarter(x1, x5, x9, x13)
        x2, x6, x10, x14 = quarter(x2, x6, x10, x14)
        x3, x7, x11, x15 = quarter(x3, x7, x11, x15)
        x0, x5, x10, x15 = quarter(x0, x5, x10, x15)
        x1, x6, x11, x12 = quarter(x1, x6, x11, x12)
        x2, x7, x8, x13 = quarter(x2, x7, x8, x13)
        x3, x4, x9, x14 = quarter(x3, x4, x9, x14)
    return (
        x0 + c0, x1 + c1, x2 + c2, x3 + c3, x4 + k0, x5 + k1, x6 + k2, x7 + k3,
        x8 + k4, x9 + k5, x10 + k6, x11 + k7, x12 + counters, x13 + n0, x14 + n1, x15 + n2,
    )  # fmt: skip


@triton.jit
def exchange(source, target, stream, good, inside):
    """One word of each block: ciphertext to content, or to zero."""
    content = tl.load(source, mask=inside, other=0) ^ stream.to(tl.int32, bitcast=True)
    tl.store(target, tl.where(good, content, 0), mask=inside)


@triton.jit
def decrypt(key, nonces, bodies, out, authentic, body_words, out_words, lanes: tl.constexpr):
    """Programs: frames, and parts of `lanes` blocks each."""
    frame = tl.program_id(0).to(tl.int64)
    blocks = tl.program_id(1) * lanes + tl.arange(0, lanes)
    inside = blocks * 16 < out_words
    good = tl.load(authentic + frame) != 0
    counters = (blocks + 1).to(tl.uint32)  # block 0 is Poly1305's key
    s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15 = key_stream(
        key, nonces + frame * 3, counters
    )
    at = bodies + frame * body_words + blocks * 16
    to = out + frame * out_words + blocks * 16
    exchange(at, to, s0, good, inside)
    exchange(at + 1, to + 1, s1, good, inside)
    exchange(at + 2, to + 2, s2, good, inside)
    exchange(at + 3, to + 3, s3, good, inside)
    exchange(at + 4, to + 4, s4, good, inside)
    exchange(at + 5, to + 5, s5, good, inside)
    exchange(at + 6, to + 6, s6, good, inside)
    exchange(at + 7, to + 7, s7, good, inside)
    exchange(at + 8, to + 8, s8, good, inside)
    exchange(at + 9, to + 9, s9, good, inside)
    exchange(at + 10, to + 10, s10, good, inside)
    exchange(at + 11, to + 11, s11, good, inside)
    exchange(at + 12, to + 12, s12, good, inside)
    exchange(at + 13, to + 13, s13, good, inside)
    exchange(at + 14, to + 14, s14, good, inside)
    exchange(at + 15, to + 15, s15, good, inside)


@triton.jit
def limbs(w0, w1, w2, w3):
    """128 bits as five limbs of 26."""
    return (
        w0 & 0x3FFFFFF,
        ((w0 >> 26) | (w1 << 6)) & 0x3FFFFFF,
        ((w1 >> 20) | (w2 << 12)) & 0x3FFFFFF,
        ((w2 >> 14) | (w3 << 18)) & 0x3FFFFFF,
        w3 >> 8,
    )


@triton.jit
def carried(h0, h1, h2, h3, h4):
    """Limbs of 26 bits, the first perhaps a little more; 2^130 is 5."""
    h1 += h0 >> 26
    h2 += h1 >> 26
    h3 += h2 >> 26
    h4 += h3 >> 26
    h0 = (h0 & 0x3FFFFFF) + 5 * (h4 >> 26)
    h1 = (h1 & 0x3FFFFFF) + (h0 >> 26)
    return h0 & 0x3FFFFFF, h1, h2 & 0x3FFFFFF, h3 & 0x3FFFFFF, h4 & 0x3FFFFFF


@triton.jit
def product(h0, h1, h2, h3, h4, r0, r1, r2, r3, r4):
    """Return h * r mod 2^130 - 5. No sum of five products reaches 2^59."""
    s1, s2, s3, s4 = 5 * r1, 5 * r2, 5 * r3, 5 * r4
    return carried(
        h0 * r0 + h1 * s4 + h2 * s3 + h3 * s2 + h4 * s1,
        h0 * r1 + h1 * r0 + h2 * s4 + h3 * s3 + h4 * s2,
        h0 * r2 + h1 * r1 + h2 * r0 + h3 * s4 + h4 * s3,
        h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + h4 * s4,
        h0 * r4 + h1 * r3 + h2 * r2 + h3 * r1 + h4 * r0,
    )


@triton.jit
def wide(x):
    """A 32-bit word, in 64 bits."""
    return x.to(tl.uint32, bitcast=True).to(tl.int64)


@triton.jit
def authenticate(
    key,
    nonces,
    messages,
    tags,
    authentic,
    blocks: tl.constexpr,
    lanes: tl.constexpr,
    lanes_log: tl.constexpr,
):
    """A program a frame: whether the tag is that of the message, in blocks of 16 bytes."""
    frame = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, lanes)
    zero = lane.to(tl.int64) * 0
    k0, k1, k2, k3, k4, k5, k6, k7, _a, _b, _c, _d, _e, _f, _g, _h = key_stream(
        key, nonces + frame * 3, lane.to(tl.uint32) * 0
    )
    r0, r1, r2, r3, r4 = limbs(
        k0.to(tl.int64) & 0x0FFFFFFF,
        k1.to(tl.int64) & 0x0FFFFFFC,
        k2.to(tl.int64) & 0x0FFFFFFC,
        k3.to(tl.int64) & 0x0FFFFFFC,
    )
    # Lane l ends with r^(lanes - l); b becomes r^lanes on the way.
    b0, b1, b2, b3, b4 = r0, r1, r2, r3, r4
    p0, p1, p2, p3, p4 = zero + 1, zero, zero, zero, zero
    for bit in tl.static_range(lanes_log):
        q0, q1, q2, q3, q4 = product(p0, p1, p2, p3, p4, b0, b1, b2, b3, b4)
        chosen = (((lanes - lane) >> bit) & 1) == 1
        p0, p1 = tl.where(chosen, q0, p0), tl.where(chosen, q1, p1)
        p2, p3 = tl.where(chosen, q2, p2), tl.where(chosen, q3, p3)
        p4 = tl.where(chosen, q4, p4)
        b0, b1, b2, b3, b4 = product(b0, b1, b2, b3, b4, b0, b1, b2, b3, b4)
    whole = lane == 0  # the bit of r^lanes itself
    p0, p1 = tl.where(whole, b0, p0), tl.where(whole, b1, p1)
    p2, p3 = tl.where(whole, b2, p2), tl.where(whole, b3, p3)
    p4 = tl.where(whole, b4, p4)
    h0, h1, h2, h3, h4 = zero, zero, zero, zero, zero
    turns: tl.constexpr = (blocks + lanes - 1) // lanes
    for turn in range(turns):
        # What lacks to whole turns lacks at the front, where zeros change nothing.
        block = turn * lanes + lane - (turns * lanes - blocks)
        inside = block >= 0
        at = messages + frame * blocks * 4 + block * 4
        h0, h1, h2, h3, h4 = product(h0, h1, h2, h3, h4, b0, b1, b2, b3, b4)
        m0, m1, m2, m3, m4 = limbs(
            wide(tl.load(at, mask=inside, other=0)),
            wide(tl.load(at + 1, mask=inside, other=0)),
            wide(tl.load(at + 2, mask=inside, other=0)),
            wide(tl.load(at + 3, mask=inside, other=0)),
        )
        h0, h1, h2, h3 = h0 + m0, h1 + m1, h2 + m2, h3 + m3
        h4 += m4 + tl.where(inside, 1 << 24, 0)
    h0, h1, h2, h3, h4 = product(h0, h1, h2, h3, h4, p0, p1, p2, p3, p4)
    h0, h1, h2, h3, h4 = carried(
        tl.sum(h0, 0), tl.sum(h1, 0), tl.sum(h2, 0), tl.sum(h3, 0), tl.sum(h4, 0)
    )
    h0, h1, h2, h3, h4 = carried(h0, h1, h2, h3, h4)
    h0, h1, h2, h3, h4 = carried(h0, h1, h2, h3, h4)
    # The residue itself: subtract 2^130 - 5 if that leaves nothing negative.
    g0 = h0 + 5
    g1 = h1 + (g0 >> 26)
    g2 = h2 + (g1 >> 26)
    g3 = h3 + (g2 >> 26)
    g4 = h4 + (g3 >> 26) - (1 << 26)
    over = g4 >= 0
    h0, h1 = tl.where(over, g0 & 0x3FFFFFF, h0), tl.where(over, g1 & 0x3FFFFFF, h1)
    h2, h3 = tl.where(over, g2 & 0x3FFFFFF, h2), tl.where(over, g3 & 0x3FFFFFF, h3)
    h4 = tl.where(over, g4, h4)
    # The second half of the key is added, mod 2^128.
    pad = lane == 0
    t0 = ((h0 | (h1 << 26)) & 0xFFFFFFFF) + tl.sum(tl.where(pad, k4.to(tl.int64), 0), 0)
    t1 = (((h1 >> 6) | (h2 << 20)) & 0xFFFFFFFF) + tl.sum(tl.where(pad, k5.to(tl.int64), 0), 0)
    t2 = (((h2 >> 12) | (h3 << 14)) & 0xFFFFFFFF) + tl.sum(tl.where(pad, k6.to(tl.int64), 0), 0)
    t3 = (((h3 >> 18) | (h4 << 8)) & 0xFFFFFFFF) + tl.sum(tl.where(pad, k7.to(tl.int64), 0), 0)
    t1 += t0 >> 32
    t2 += t1 >> 32
    t3 += t2 >> 32
    tag = tags + frame * 4
    wrong = ((t0 ^ wide(tl.load(tag))) | (t1 ^ wide(tl.load(tag + 1)))) & 0xFFFFFFFF
    wrong |= ((t2 ^ wide(tl.load(tag + 2))) | (t3 ^ wide(tl.load(tag + 3)))) & 0xFFFFFFFF
    tl.store(authentic + frame, (wrong == 0).to(tl.int32))


def open_batch(
    key: Tensor,
    nonces: Sequence[bytes],
    headers: Sequence[bytes],
    bodies: Tensor,
    out: Tensor,
    *,
    lanes: int = _LANES,
) -> Tensor:
    """Open frames of one length on their device.

    Args:
        key: 32 bytes, uint8, on the device.
        nonces: 12 bytes a frame.
        headers: the associated data of each, of one length.
        bodies: (frames, length + 16) uint8, contiguous: ciphertexts and tags.
        out: (frames, length) uint8, contiguous: the contents, or zeros.
        lanes: of one program; a power of two.

    Returns:
        (frames,) int32 on the device: 1 where the frame is authentic, else 0.

    Raises:
        ValueError: the length is no multiple of 64 bytes, or shapes do not agree.
    """
    frames, length = out.shape
    if length % _UNIT or bodies.shape != (frames, length + TAG) or len(nonces) != frames:
        raise ValueError("a batch has frames of one length, a multiple of 64 bytes")
    device = bodies.device
    places = _words(b"".join(nonces), device)
    messages = _messages(headers, bodies, length)
    authentic = torch.zeros(frames, dtype=torch.int32, device=device)
    words, body_words = key.view(torch.int32), bodies.view(torch.int32)
    tags = body_words[:, length // 4 :].contiguous()
    blocks = messages.shape[1] // 4
    authenticate[(frames,)](
        words, places, messages, tags, authentic, blocks, lanes, lanes.bit_length() - 1
    )
    grid = (frames, triton.cdiv(length // _UNIT, lanes))
    contents = out.view(torch.int32)
    sizes = body_words.shape[1], contents.shape[1]
    decrypt[grid](words, places, body_words, contents, authentic, *sizes, lanes)
    return authentic


def _messages(headers: Sequence[bytes], bodies: Tensor, length: int) -> Tensor:
    """What a tag is over: header and ciphertext, each padded to 16 bytes, and their lengths."""
    size = len(headers[0])
    padded = b"".join(header.ljust(-(-size // TAG) * TAG, b"\0") for header in headers)
    first = _words(padded, bodies.device).view(len(headers), -1)
    last = _words(struct.pack("<QQ", size, length), bodies.device).expand(len(headers), -1)
    return torch.cat((first, bodies.view(torch.int32)[:, : length // 4], last), dim=1)


def _words(data: bytes, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.int32).to(device)
