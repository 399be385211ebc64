"""Inclusion and consistency proofs (RFC 9162, sections 2.1.3 and 2.1.4) on `wire.merkle`.

`Subtrees` makes them from the hashes of complete subtrees, wherever these come from: `Tree` holds
all of them, `tile_tree.TileTree` reads the few that a proof needs. The `verify_*` functions need
nothing but the proof. The log holds a Tree, a client never does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from transparency.errors import Inconsistent, NotIncluded
from wire.merkle import EMPTY_ROOT, node_hash, split_point

HASH_LENGTH = 32
MAX_PROOF_LENGTH = 63
"""No tree below 2^63 leaves needs more hashes."""


class Subtrees(ABC):
    """A Merkle tree as the hashes of its complete subtrees. Any earlier size can be asked for."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of leaves."""

    @abstractmethod
    def hash(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree over leaves [index * 2^level, + 2^level).

        Raises:
            ValueError: the subtree is not complete.
        """

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves (all of them by default).

        Raises:
            ValueError: the tree is smaller.
        """
        size = self.size if size is None else size
        return self._range(0, self._checked(size)) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the audit path of leaf `index` in the tree of `size` leaves, leaf's sibling first.

        Raises:
            ValueError: no such leaf, or the tree is smaller.
        """
        if not 0 <= index < self._checked(size):
            raise ValueError("no such leaf in a tree of this size")
        start, end, path = 0, size, []
        while end - start > 1:
            middle = start + split_point(end - start)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency_proof(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `old_size` leaves begins the one of `size`.

        Empty for equal sizes and for an old size of 0, which needs no proof.

        Raises:
            ValueError: `old_size` is the larger one, or the tree is smaller than `size`.
        """
        if not 0 <= old_size <= self._checked(size):
            raise ValueError("no such older tree")
        if old_size in (0, size):
            return ()
        start, end, path, whole = 0, size, [], True
        while end != old_size:
            middle = start + split_point(end - start)
            if old_size <= middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._range(start, end))
        return tuple(reversed(path))

    def _checked(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError("the tree is smaller")
        return size

    def _range(self, start: int, end: int) -> bytes:
        """The root over [start, end), start a multiple of the next power of two of its length."""
        length = end - start
        if length & (length - 1) == 0:
            level = length.bit_length() - 1
            return self.hash(level, start >> level)
        middle = start + split_point(length)
        return node_hash(self._range(start, middle), self._range(middle, end))


class Tree(Subtrees):
    """An append-only tree in memory, 64 bytes a leaf. It only ever grows."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0]) // HASH_LENGTH

    def append(self, leaf_hash: bytes) -> None:
        """Append one leaf (its hash, 32 bytes) and complete the subtrees it ends."""
        self._push(0, leaf_hash)
        level, index = 0, self.size - 1
        while index % 2:
            self._push(level + 1, node_hash(self.hash(level, index - 1), self.hash(level, index)))
            level, index = level + 1, index // 2

    def hash(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree; raises as `Subtrees.hash` says."""
        hashes = self._levels[level] if level < len(self._levels) else bytearray()
        if not 0 <= index < len(hashes) // HASH_LENGTH:
            raise ValueError("no such complete subtree")
        return bytes(hashes[index * HASH_LENGTH : (index + 1) * HASH_LENGTH])

    def _push(self, level: int, subtree_hash: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(bytearray())
        self._levels[level] += subtree_hash


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf stands at `index` in the tree of `size` leaves (RFC 9162, 2.1.3.2).

    Raises:
        NotIncluded: it does not, or the proof is not of this length.
    """
    if not 0 <= index < size or len(proof) > MAX_PROOF_LENGTH:
        raise NotIncluded("an inclusion proof for a leaf beyond the tree")
    first, last, result = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise NotIncluded("an inclusion proof that is too long")
        if first & 1 or first == last:
            result = node_hash(sibling, result)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        first, last = first >> 1, last >> 1
    if last != 0 or result != root:
        raise NotIncluded("an inclusion proof does not lead to the root")


def verify_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that one tree is a beginning of another (RFC 9162, section 2.1.4.2).

    Raises:
        Inconsistent: it is not, or the proof is not of this length.
    """
    hashes = tuple(proof)
    if not 0 <= old_size <= size or len(hashes) > MAX_PROOF_LENGTH:
        raise Inconsistent("a consistency proof between impossible sizes", proof=hashes)
    if old_size in (0, size):
        expected_root = EMPTY_ROOT if old_size == 0 else root
        if hashes or old_root != expected_root:
            raise Inconsistent("two roots for one tree size", proof=hashes)
        return
    if _roots_from(old_size, old_root, size, hashes) != (old_root, root):
        raise Inconsistent("a consistency proof does not lead to the roots", proof=hashes)


def _roots_from(
    old_size: int, old_root: bytes, size: int, proof: tuple[bytes, ...]
) -> tuple[bytes, bytes] | None:
    """The old and the new root that the proof leads to; None if it is of another length."""
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    first, last = old_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    if not path:
        return None
    old_result = new_result = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if first & 1 or first == last:
            old_result = node_hash(sibling, old_result)
            new_result = node_hash(sibling, new_result)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            new_result = node_hash(new_result, sibling)
        first, last = first >> 1, last >> 1
    return (old_result, new_result) if last == 0 else None
