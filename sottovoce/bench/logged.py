"""`bench wire`, the log: how fast leaves are appended, and what a proof costs as the log grows.

The large trees are read from tiles, of which every hash is right: all their leaves are equal, so
that one hash a level is the whole tree, and ten million leaves take no longer to make than ten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sottovoce.bench.line import Line, line
from transparency import signing
from transparency.leaf import Leaf as SignedLeaf
from transparency.leaf import ModelLeaf, RoleKeys, sign_leaf
from transparency.log import Log
from transparency.merkle import verify_consistency, verify_inclusion
from transparency.note import KeyType, Signer
from transparency.tile_tree import TileTree
from transparency.tiles import TILE_HEIGHT, Tile
from wire.merkle import leaf_hash, node_hash

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
"""Leaves; each tenfold adds three or four hashes to a proof, not ten times as many."""

_BATCH = 250
_MICROSECONDS = 1e6
_LEAF = leaf_hash(b"the same leaf everywhere")


class EqualLeaves:
    """The files of a log whose leaves are all equal, and how many of them were read."""

    def __init__(self) -> None:
        self.reads = 0
        self._hashes = [_LEAF]
        while len(self._hashes) <= 4 * TILE_HEIGHT:
            self._hashes.append(node_hash(self._hashes[-1], self._hashes[-1]))

    def fetch(self, path: str) -> bytes:
        """Return a tile."""
        self.reads += 1
        tile = Tile.parse(path)
        return self._hashes[TILE_HEIGHT * (tile.level or 0)] * tile.width


def measure(batches: int, proofs: int) -> Iterator[Line]:
    """Yield the lines: appends over so many batches, proofs of so many leaves a size."""
    yield line(f"sweep log appends @ {_BATCH} leaves a batch, on disk", "/s", _appends(batches))
    for size in SIZES:
        yield from _proofs(size, proofs)


def _appends(batches: int) -> list[float]:
    """Return rates of decoding, verifying, writing and signing, one rate a batch."""
    key = signing.private_key(bytes(31) + b"\x01")
    roles = RoleKeys(signing.public_bytes(key), b"issuer key".ljust(32), b"list key".ljust(32))
    rates = []
    with TemporaryDirectory() as folder:
        signer = Signer.from_seed("log.invalid", KeyType.ED25519, bytes(32))
        with Log(Path(folder), signer) as log:
            for batch in range(batches):
                leaves = [
                    sign_leaf(ModelLeaf(f"{batch}.{number}", bytes(32)), key).encode()
                    for number in range(_BATCH)
                ]
                started = time.perf_counter()
                for leaf in leaves:
                    SignedLeaf.decode(leaf).verify(roles)
                log.append(leaves)
                log.publish(log.signed_note.encode())
                rates.append(_BATCH / (time.perf_counter() - started))
    return rates


def _proofs(size: int, count: int) -> Iterator[Line]:
    files = EqualLeaves()
    root = TileTree(size, files.fetch).root()
    made, checked, reads = [], [], []
    for number in range(count):
        index = size * number // count
        files.reads, started = 0, time.perf_counter()
        proof = TileTree(size, files.fetch).inclusion_proof(index, size)
        made.append((time.perf_counter() - started) * _MICROSECONDS)
        reads.append(float(files.reads))
        started = time.perf_counter()
        verify_inclusion(_LEAF, index, size, proof, root)
        checked.append((time.perf_counter() - started) * _MICROSECONDS)
    yield line(f"sweep inclusion proof @ n={_named(size)}", "us", made)
    yield line(f"sweep inclusion proof, tiles read @ n={_named(size)}", "tiles", reads)
    yield line(f"sweep inclusion proof verified @ n={_named(size)}", "us", checked)
    yield line(f"sweep consistency proof @ n={_named(size)}", "us", _consistency(size, count, root))


def _consistency(size: int, count: int, root: bytes) -> list[float]:
    """Return the microseconds to make and verify a proof from an older size."""
    took = []
    for number in range(count):
        old, files = 1 + (size - 1) * number // count, EqualLeaves()
        tree = TileTree(size, files.fetch)
        started = time.perf_counter()
        verify_consistency(old, tree.root(old), size, root, tree.consistency_proof(old, size))
        took.append((time.perf_counter() - started) * _MICROSECONDS)
    return took


def _named(size: int) -> str:
    return f"{size // 1_000_000}M" if size >= 1_000_000 else f"{size // 1_000}k"
