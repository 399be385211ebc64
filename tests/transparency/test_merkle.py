"""Proofs, against an implementation that follows RFC 6962's recursive definitions to the letter."""

import hashlib

import pytest

from transparency.errors import Inconsistent, NotIncluded
from transparency.merkle import Tree, verify_consistency, verify_inclusion
from wire.merkle import EMPTY_ROOT, leaf_hash, root

# The eight leaves that certificate-transparency's own test suite uses, and RFC 6962 roots of 1..8.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = naive_split(len(leaves))
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def naive_path(m, leaves):
    if len(leaves) == 1:
        return []
    k = naive_split(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = naive_split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def entry(i):
    return b"leaf %d" % i


def grown(size, make=entry):
    tree = Tree()
    for i in range(size):
        tree.append(leaf_hash(make(i)))
    return tree


@pytest.fixture(scope="module")
def tree():
    return grown(300)


def test_roots_are_those_of_the_published_eight_leaf_tree():
    tree = grown(8, LEAVES.__getitem__)
    assert [tree.root(size).hex() for size in range(1, 9)] == ROOTS
    assert tree.root(0) == root([]) == EMPTY_ROOT
    assert root([leaf_hash(leaf) for leaf in LEAVES]).hex() == ROOTS[-1]


def test_published_proofs_of_the_eight_leaf_tree():
    tree = grown(8, LEAVES.__getitem__)
    assert [h.hex() for h in tree.inclusion_proof(0, 8)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [h.hex() for h in tree.consistency_proof(6, 8)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_roots_of_sizes_up_to_300_agree_with_the_definition(tree):
    leaves = [entry(i) for i in range(300)]
    for size in range(301):
        assert tree.root(size) == naive_root(leaves[:size])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100, 255, 256, 257, 300])
def test_inclusion_proofs_agree_with_the_definition(tree, size):
    leaves = [entry(i) for i in range(size)]
    for index in sorted({0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size))):
        assert list(tree.inclusion_proof(index, size)) == naive_path(index, leaves)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 33, 64, 100, 255, 256, 257, 300])
def test_consistency_proofs_agree_with_the_definition(tree, size):
    leaves = [entry(i) for i in range(size)]
    for old in sorted({1, 2, 3, size // 3, size // 2, size - 1, size} & set(range(1, size + 1))):
        assert list(tree.consistency_proof(old, size)) == naive_subproof(old, leaves, True)


def test_every_inclusion_proof_verifies_for_every_size_up_to_300(tree):
    for size in range(1, 301):
        root = tree.root(size)
        for index in {0, 1, size // 2, size // 3, size - 1} & set(range(size)):
            proof = tree.inclusion_proof(index, size)
            verify_inclusion(leaf_hash(entry(index)), index, size, proof, root)


def test_every_consistency_proof_verifies_for_every_size_up_to_300(tree):
    for size in range(1, 301):
        for old in {0, 1, 2, size // 3, size // 2, size - 1, size} & set(range(size + 1)):
            proof = tree.consistency_proof(old, size)
            verify_consistency(old, tree.root(old), size, tree.root(size), proof)


class Definition:
    """RFC 6962, section 2.1, to the letter, over ranges of one list; each root is made once."""

    def __init__(self, size):
        self.leaves = [entry(i) for i in range(size)]
        self.roots = {}

    def root(self, start, end):
        if (start, end) not in self.roots:
            if end - start == 1:
                made = hashlib.sha256(b"\0" + self.leaves[start])
            else:
                k = start + naive_split(end - start)
                made = hashlib.sha256(b"\1" + self.root(start, k) + self.root(k, end))
            self.roots[start, end] = made.digest()
        return self.roots[start, end]

    def path(self, m, start, end):
        if end - start == 1:
            return []
        k = start + naive_split(end - start)
        if m < k:
            return [*self.path(m, start, k), self.root(k, end)]
        return [*self.path(m, k, end), self.root(start, k)]

    def subproof(self, m, start, end, whole):
        if m == end:
            return [] if whole else [self.root(start, end)]
        k = start + naive_split(end - start)
        if m <= k:
            return [*self.subproof(m, start, k, whole), self.root(k, end)]
        return [*self.subproof(m, k, end, False), self.root(start, k)]


def test_every_proof_of_every_size_up_to_300_agrees_with_the_definition(tree):
    """45,150 inclusion and as many consistency proofs, none left out."""
    said = Definition(300)
    for size in range(1, 301):
        assert tree.root(size) == said.root(0, size)
        for m in range(size):
            assert list(tree.inclusion_proof(m, size)) == said.path(m, 0, size)
            assert list(tree.consistency_proof(m + 1, size)) == said.subproof(m + 1, 0, size, True)


@pytest.mark.parametrize("size", [2, 3, 7, 8, 13])
def test_an_inclusion_proof_proves_one_leaf_at_one_place_of_one_tree(tree, size):
    root = tree.root(size)
    for index in range(size):
        proof = tree.inclusion_proof(index, size)
        leaf = leaf_hash(entry(index))
        forgeries = [
            (leaf_hash(b"another"), index, size, proof, root),
            (leaf, index, size, proof, tree.root(size + 1)),
            (leaf, index, size, proof[:-1], root),
            (leaf, index, size, (*proof, root), root),
            (leaf, index, size, (*proof[:-1], bytes(32)), root),
            (leaf, size, size, proof, root),
            (leaf, -1, size, proof, root),
            (leaf, index, 0, proof, root),
        ]
        forgeries += [(leaf, other, size, proof, root) for other in range(size) if other != index]
        for forgery in forgeries:
            with pytest.raises(NotIncluded):
                verify_inclusion(*forgery)


@pytest.mark.parametrize(("old", "size"), [(1, 2), (2, 3), (4, 7), (5, 8), (6, 13), (8, 13)])
def test_a_consistency_proof_connects_two_trees_only(tree, old, size):
    roots, proof = (tree.root(old), tree.root(size)), tree.consistency_proof(old, size)
    fork = grown(size, lambda i: b"fork %d" % i)
    forgeries = [
        (old, fork.root(old), size, roots[1], proof),
        (old, roots[0], size, fork.root(size), proof),
        (old, roots[0], size, fork.root(size), fork.consistency_proof(old, size)),
        (old, roots[0], size, roots[1], proof[:-1]),
        (old, roots[0], size, roots[1], (*proof, bytes(32))),
        (old, roots[0], size, roots[1], (bytes(32), *proof[1:])),
        (old, roots[0], size, roots[1], ()),
        (size, roots[1], old, roots[0], proof),
        (0, roots[0], size, roots[1], ()),
        (0, EMPTY_ROOT, size, roots[1], proof),
        (size, roots[1], size, roots[1], proof),
        (size, roots[0], size, roots[1], ()),
    ]
    for forgery in forgeries:
        with pytest.raises(Inconsistent):
            verify_consistency(*forgery)


def test_a_tree_refuses_questions_beyond_itself(tree):
    for question in (
        lambda: tree.root(301),
        lambda: tree.inclusion_proof(300, 300),
        lambda: tree.inclusion_proof(0, 301),
        lambda: tree.consistency_proof(2, 1),
        lambda: tree.consistency_proof(1, 301),
        lambda: tree.hash(9, 0),
        lambda: tree.hash(0, 300),
    ):
        with pytest.raises(ValueError, match=r"no such|smaller"):
            question()
