"""Tiles (c2sp.org/tlog-tiles): the tree as static files of up to 256 hashes.

    tile/<L>/<N>[.p/<W>]          hashes of level 8 L, 32 bytes each
    tile/entries/<N>[.p/<W>]      entries, each behind its length (u16, big-endian)

<N> is written in groups of three digits, all but the last behind an "x".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transparency.errors import Malformed, NotIncluded
from transparency.merkle import HASH_LENGTH, Tree
from transparency.text import decode_decimal
from wire.merkle import leaf_hash

WIDTH = 256
"""Hashes in a full tile, entries in a full bundle."""

TILE_HEIGHT = 8
MAX_LEVEL = 63
MAX_ENTRY_LENGTH = 65535
_PATH = re.compile(r"tile/([^/]+)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


@dataclass(frozen=True)
class Tile:
    """The name of one tile (`level` 0 to 63) or of one entry bundle (`level` None)."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """The path under the log's URL and in its directory."""
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_digits(self.index)}{partial}"

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Parse a path.

        Raises:
            Malformed: not the one spelling of a tile's path.
        """
        match = _PATH.fullmatch(path)
        if match is None:
            raise Malformed("not a tile's path")
        level = None if match[1] == "entries" else decode_decimal(match[1])
        index = int(match[2].replace("x", "").replace("/", ""))
        tile = cls(level, index, int(match[3]) if match[3] else WIDTH)
        if tile.path != path or (level or 0) > MAX_LEVEL:
            raise Malformed("not a tile's path in its one spelling")
        return tile

    @property
    def full(self) -> Tile:
        """The full tile that this one grows into."""
        return Tile(self.level, self.index)

    def exists_at(self, size: int) -> bool:
        """Whether a tree of `size` leaves has at least this part of the tile."""
        hashes = size >> TILE_HEIGHT * (self.level or 0)
        return self.index * WIDTH + self.width <= hashes


def changed_tiles(old_size: int, size: int) -> Iterator[Tile]:
    """Yield the tiles and bundles that a log must write to grow from one size to another.

    The full ones that were completed, and the partial ones at `size`.
    """
    levels = -(-size.bit_length() // TILE_HEIGHT)
    for level in (None, *range(levels)):
        before, now = (n >> TILE_HEIGHT * (level or 0) for n in (old_size, size))
        for index in range(before // WIDTH, now // WIDTH):
            yield Tile(level, index)
        if now % WIDTH and now != before:
            yield Tile(level, now // WIDTH, now % WIDTH)


def tile_bytes(tree: Tree, tile: Tile) -> bytes:
    """Return the hashes of a tile.

    Raises:
        ValueError: an entry bundle, or the tree has not grown so far.
    """
    if tile.level is None:
        raise ValueError("an entry bundle has no hashes")
    start, level = tile.index * WIDTH, TILE_HEIGHT * tile.level
    return b"".join(tree.hash(level, start + i) for i in range(tile.width))


def split_hashes(data: bytes) -> tuple[bytes, ...]:
    """Split a tile into its hashes.

    Raises:
        Malformed: not 1 to 256 hashes.
    """
    if not data or len(data) % HASH_LENGTH or len(data) > WIDTH * HASH_LENGTH:
        raise Malformed("a tile is 1 to 256 hashes")
    return tuple(data[i : i + HASH_LENGTH] for i in range(0, len(data), HASH_LENGTH))


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Frame up to 256 entries as a bundle.

    Raises:
        ValueError: too many entries, or one that is longer than 65535 bytes.
    """
    if len(entries) > WIDTH or any(len(entry) > MAX_ENTRY_LENGTH for entry in entries):
        raise ValueError("more than a bundle holds")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_entries(data: bytes) -> tuple[bytes, ...]:
    """Split a bundle into its entries.

    Raises:
        Malformed: it ends inside an entry, or holds none or more than 256.
    """
    entries, offset = [], 0
    while offset < len(data):
        start = offset + 2
        offset = start + int.from_bytes(data[offset:start], "big")
        if start > len(data) or offset > len(data):
            raise Malformed("an entry bundle ends inside an entry")
        entries.append(data[start:offset])
    if not 1 <= len(entries) <= WIDTH:
        raise Malformed("an entry bundle holds 1 to 256 entries")
    return tuple(entries)


def check_entries(entries: Sequence[bytes], hashes: Sequence[bytes]) -> None:
    """Check a bundle against the level 0 tile over it.

    Raises:
        NotIncluded: an entry's hash is not the tile's.
    """
    if [leaf_hash(entry) for entry in entries] != list(hashes):
        raise NotIncluded("an entry bundle contradicts its tile")


def _digits(index: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
