"""c2sp.org/tlog-tiles: names, partial tiles, entry bundles, and proofs made from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transparency.errors import Inconsistent, Malformed, NotIncluded
from transparency.merkle import Tree
from transparency.tile_tree import consistency_from_tiles
from transparency.tiles import (
    Tile,
    changed_tiles,
    check_entries,
    decode_entries,
    encode_entries,
    split_hashes,
    tile_bytes,
)
from wire.merkle import leaf_hash, root


def grown(size, prefix=b"leaf"):
    tree = Tree()
    for i in range(size):
        tree.append(leaf_hash(prefix + b"%d" % i))
    return tree


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(1, 999, 255), "tile/1/999.p/255"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(63, 1234067), "tile/63/x001/x234/067"),
        (Tile(None, 1234067, 8), "tile/entries/x001/x234/067.p/8"),
    ],
)
def test_paths_are_those_of_the_specification(tile, path):
    assert tile.path == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/1000",
        "tile/0/x001",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "tile/0/../000",
        "tile/0/\u0660\u0660\u0660",
        "/tile/0/000",
        "tile/0/000\n",
    ],
)
def test_other_paths_are_refused(path):
    with pytest.raises(Malformed):
        Tile.parse(path)


def test_the_specifications_example_of_70000_leaves():
    tiles = list(changed_tiles(0, 70_000))
    hashes = [tile for tile in tiles if tile.level is not None]
    full = [tile for tile in hashes if tile.width == 256]
    assert [tile.level for tile in full].count(0) == 273
    assert [tile.level for tile in full].count(1) == 1
    partial = {tile.level: tile.width for tile in hashes if tile.width < 256}
    assert partial == {0: 112, 1: 17, 2: 1}
    assert len(tiles) - len(hashes) == 274


def test_256_leaves_are_a_full_tile_and_one_hash_above():
    tiles = {tile for tile in changed_tiles(255, 256) if tile.level is not None}
    assert tiles == {Tile(0, 0), Tile(1, 0, 1)}


def test_what_grew_bit_by_bit_is_what_grew_at_once():
    def existing(size, step):
        tiles, before = set(), 0
        for now in [*range(step, size, step), size]:
            tiles |= set(changed_tiles(before, now))
            before = now
        return {tile for tile in tiles if tile.width == 256 or tile.exists_at(size)}

    at_once = set(changed_tiles(0, 1000))
    assert at_once <= existing(1000, 7)
    assert all(tile.exists_at(1000) for tile in at_once)


def test_a_tiles_hashes_are_the_roots_below_it():
    tree = grown(600)
    hashes = [leaf_hash(b"leaf%d" % i) for i in range(600)]
    assert split_hashes(tile_bytes(tree, Tile(0, 1))) == tuple(hashes[256:512])
    above = split_hashes(tile_bytes(tree, Tile(1, 0, 2)))
    assert above == (root(hashes[:256]), root(hashes[256:512]))
    for tile in (Tile(1, 0, 3), Tile(0, 2), Tile(None, 0)):
        with pytest.raises(ValueError, match=r"no such|no hashes"):
            tile_bytes(tree, tile)


def test_a_tile_exists_only_as_far_as_the_tree():
    assert Tile(0, 0, 5).exists_at(5)
    assert not Tile(0, 0, 6).exists_at(5)
    assert not Tile(0, 0).exists_at(255)
    assert Tile(1, 0, 1).exists_at(256)
    assert not Tile(1, 0, 2).exists_at(511)
    assert Tile(None, 0, 5).exists_at(5)


@given(entries=st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_entries_are_framed_by_their_lengths(entries):
    data = encode_entries(entries)
    assert data[:2] == len(entries[0]).to_bytes(2, "big")
    assert decode_entries(data) == tuple(entries)
    with pytest.raises(Malformed):
        decode_entries(data + b"\0")
    if entries[-1]:
        with pytest.raises(Malformed):
            decode_entries(data[:-1])


def test_bundles_beyond_their_limits_are_refused():
    with pytest.raises(ValueError, match="more than"):
        encode_entries([b""] * 257)
    with pytest.raises(ValueError, match="more than"):
        encode_entries([bytes(65536)])
    assert len(decode_entries(encode_entries([bytes(65535)]))[0]) == 65535
    for data in (b"", b"\0\0" * 257, b"\0"):
        with pytest.raises(Malformed):
            decode_entries(data)
    for data in (b"", bytes(31), bytes(32 * 257)):
        with pytest.raises(Malformed):
            split_hashes(data)


def test_a_bundle_that_contradicts_its_tile_is_refused():
    check_entries([b"a", b"b"], [leaf_hash(b"a"), leaf_hash(b"b")])
    for entries in ([b"a"], [b"b", b"a"], [b"a", b"b", b"c"]):
        with pytest.raises(NotIncluded):
            check_entries(entries, [leaf_hash(b"a"), leaf_hash(b"b")])


class Served:
    """A log's static files; `gone` ones are answered with nothing."""

    def __init__(self, tree, size, gone=()):
        self.files = {
            tile.path: tile_bytes(tree, tile)
            for tile in changed_tiles(0, size)
            if tile.level is not None
        }
        for path in gone:
            del self.files[path]

    def fetch(self, path):
        return self.files.get(path)


def test_a_consistency_proof_can_be_made_from_tiles():
    tree = grown(700)
    old, new = (100, tree.root(100)), (600, tree.root(600))
    assert consistency_from_tiles(old, new, Served(tree, 600).fetch) == tree.consistency_proof(
        100, 600
    )


def test_a_partial_tile_that_is_gone_is_read_from_the_full_one():
    tree = grown(700)
    new = (500, tree.root(500))
    assert consistency_from_tiles((1, tree.root(1)), new, Served(tree, 700).fetch)


def test_tiles_of_a_forked_tree_convict():
    tree, fork = grown(300), grown(300, b"fork")
    old = (100, tree.root(100))
    with pytest.raises(Inconsistent):
        consistency_from_tiles(old, (300, fork.root(300)), Served(fork, 300).fetch)
    with pytest.raises(Inconsistent):
        consistency_from_tiles(old, (300, tree.root(300)), Served(fork, 300).fetch)


def test_missing_and_misshapen_tiles_are_refused():
    tree = grown(300)
    points = (100, tree.root(100)), (300, tree.root(300))
    with pytest.raises(Malformed):
        consistency_from_tiles(*points, Served(tree, 300, ["tile/0/000"]).fetch)
    served = Served(tree, 300)
    served.files["tile/0/000"] = served.files["tile/0/000"][:32]
    with pytest.raises(Malformed):
        consistency_from_tiles(*points, served.fetch)
