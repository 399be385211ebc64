"""A tree that is read from a log's tiles, as few of them as a question needs.

A proof in a tree of n leaves takes two tiles a level at most, and there are log256(n) levels: five
reads where the log has ten million leaves. Nothing read is believed for its own sake; a proof that
was made here is verified against a signed root like any other.
"""

from __future__ import annotations

from collections.abc import Callable

from transparency.errors import Malformed
from transparency.merkle import Subtrees, verify_consistency
from transparency.tiles import TILE_HEIGHT, WIDTH, Tile, split_hashes
from wire.merkle import root

Fetch = Callable[[str], bytes | None]
"""Returns the bytes at a path under the log's URL, None where the log has none."""


class TileTree(Subtrees):
    """The tree of `size` leaves behind `fetch`. Each tile is read once.

    Every question raises Malformed if a tile is missing, or of another width than asked for.
    """

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size = size
        self._fetch = fetch
        self._tiles: dict[tuple[int, int], tuple[bytes, ...]] = {}

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def hash(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree; raises ValueError if it is not complete."""
        if level < 0 or not 0 <= index < self._size >> level:
            raise ValueError("no such complete subtree")
        height = level % TILE_HEIGHT
        first = index << height
        hashes = self._tile(level // TILE_HEIGHT, first // WIDTH)
        return root(hashes[first % WIDTH : first % WIDTH + (1 << height)])

    def _tile(self, level: int, index: int) -> tuple[bytes, ...]:
        """The tile's hashes, at least as many of them as this tree has."""
        if (level, index) not in self._tiles:
            hashes = self._size >> TILE_HEIGHT * level
            tile = Tile(level, index, min(WIDTH, hashes - index * WIDTH))
            self._tiles[level, index] = fetch_hashes(tile, self._fetch)
        return self._tiles[level, index]


def fetch_hashes(tile: Tile, fetch: Fetch) -> tuple[bytes, ...]:
    """Return a tile's hashes; a partial one that is gone is read from its full one.

    Raises:
        Malformed: it is missing, or of another width than its path says.
    """
    data = fetch(tile.path)
    asked = tile if data is not None else tile.full
    hashes = split_hashes(data if data is not None else fetch(asked.path) or b"")
    if len(hashes) != asked.width:
        raise Malformed("a tile of another width than its path says")
    return hashes[: tile.width]


def consistency_from_tiles(
    old: tuple[int, bytes], new: tuple[int, bytes], fetch: Fetch
) -> tuple[bytes, ...]:
    """Make the consistency proof between two (size, root) from a log's tiles.

    For a client that was away for longer than the proofs in the nodes document reach back.

    Raises:
        Malformed: a tile that is missing, or of another width than asked for.
        Inconsistent: the tiles lead to other roots, which convicts the log or the cache.
    """
    proof = TileTree(new[0], fetch).consistency_proof(old[0], new[0])
    verify_consistency(*old, *new, proof)
    return proof
