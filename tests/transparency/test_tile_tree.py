"""Proofs from tiles: the same as from the whole tree, by reading next to nothing of it."""

import math

import pytest

from sottovoce.bench.logged import SIZES, EqualLeaves
from transparency.errors import Malformed
from transparency.merkle import Tree, verify_consistency, verify_inclusion
from transparency.tile_tree import TileTree, fetch_hashes
from transparency.tiles import Tile, changed_tiles, tile_bytes
from wire.merkle import leaf_hash


@pytest.fixture(scope="module")
def tree():
    tree = Tree()
    for i in range(66_000):
        tree.append(leaf_hash(b"%d" % i))
    return tree


def files(tree, size):
    tiles = (tile for tile in changed_tiles(0, size) if tile.level is not None)
    return {tile.path: tile_bytes(tree, tile) for tile in tiles}


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 511, 513, 700, 65_535, 65_537, 66_000])
def test_proofs_are_those_of_the_whole_tree(tree, size):
    stored = files(tree, size)
    some = sorted({0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)))
    for index in some:
        read = TileTree(size, stored.get)
        assert read.root() == tree.root(size)
        assert read.inclusion_proof(index, size) == tree.inclusion_proof(index, size)
        assert read.consistency_proof(index, size) == tree.consistency_proof(index, size)
        assert read.root(index) == tree.root(index)


def test_questions_beyond_the_tree_are_refused(tree):
    read = TileTree(300, files(tree, 300).get)
    for question in (lambda: read.hash(0, 300), lambda: read.hash(9, 0), lambda: read.hash(-1, 0)):
        with pytest.raises(ValueError, match="no such"):
            question()
    with pytest.raises(ValueError, match="no such"):
        read.hash(0, -1)


@pytest.mark.parametrize("size", [10, 300, *SIZES])
def test_a_proof_reads_two_tiles_a_level_and_has_log2_hashes(size):
    """O(log n) up to ten million leaves: what is counted is read tiles and hashes, not time."""
    levels = max(1, math.ceil(math.log(size, 256)))
    root = TileTree(size, EqualLeaves().fetch).root()
    for number in range(40):
        served, index = EqualLeaves(), size * number // 40
        proof = TileTree(size, served.fetch).inclusion_proof(index, size)
        assert len(proof) <= math.ceil(math.log2(size))
        assert served.reads <= 2 * levels
        verify_inclusion(leaf_hash(b"the same leaf everywhere"), index, size, proof, root)
        served, old = EqualLeaves(), index + 1
        read = TileTree(size, served.fetch)
        proof = read.consistency_proof(old, size)
        assert len(proof) <= math.ceil(math.log2(size)) + 1
        assert served.reads <= 2 * levels
        verify_consistency(old, TileTree(size, served.fetch).root(old), size, root, proof)


def test_a_tile_that_is_missing_or_of_another_width_is_refused(tree):
    stored = files(tree, 300)
    assert fetch_hashes(Tile(0, 0, 7), stored.get) == tuple(tree.hash(0, i) for i in range(7))
    for data in (None, b"", bytes(31), bytes(64)):
        with pytest.raises(Malformed):
            fetch_hashes(Tile(0, 1, 44), {"tile/0/001.p/44": data}.get)
