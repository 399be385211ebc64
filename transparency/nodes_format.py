"""The nodes document as bytes, and what a client remembers of it. Nothing is verified here.

Canonical JSON; `transparency.nodes_document` has its members and decides what to believe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transparency.checkpoint import Checkpoint
from transparency.errors import Malformed
from transparency.leaf import Leaf, LeafType
from transparency.members import count, members, typed
from transparency.note import Note
from transparency.proof import parse_hashes
from transparency.text import decode_base64, encode_base64
from wire import canonical_json
from wire.errors import WireError

MAX_DOCUMENT_LENGTH = 64 << 20
"""A thousand nodes with bundles of 48 KB each."""

CONSISTENCY_PROOFS = 288
"""Epochs of ten minutes in 48 hours."""


@dataclass(frozen=True)
class ProvenLeaf:
    """A leaf, its index, and its audit path in the document's checkpoint."""

    index: int
    leaf: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class ConsistencyProof:
    """A proof from an earlier tree size to the document's checkpoint."""

    size: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class NodesDocument:
    """The document, parsed and not verified: only its form has been looked at."""

    checkpoint: bytes
    node_list: ProvenLeaf
    leaves: tuple[ProvenLeaf, ...]
    bundles: Mapping[str, bytes]
    consistency: tuple[ConsistencyProof, ...]

    def encode(self) -> bytes:
        """Return the document's one encoding."""
        return canonical_json.encode(
            {
                "checkpoint": self.checkpoint.decode(),
                "list": _leaf_json(self.node_list),
                "leaves": [_leaf_json(leaf) for leaf in self.leaves],
                "bundles": {node: encode_base64(data) for node, data in self.bundles.items()},
                "consistency": [
                    {"size": earlier.size, "proof": [encode_base64(h) for h in earlier.proof]}
                    for earlier in self.consistency
                ],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> NodesDocument:
        """Parse the document.

        Raises:
            Malformed: not its one encoding, leaves or sizes out of order, or too long.
        """
        if len(data) > MAX_DOCUMENT_LENGTH:
            raise Malformed("a nodes document of more than 64 MiB")
        try:
            value = canonical_json.decode(data)
            exact = canonical_json.encode(value) == data
        except WireError as error:
            raise Malformed("a nodes document is JSON") from error
        if not exact:
            raise Malformed("a nodes document is canonical JSON")
        names = ("checkpoint", "list", "leaves", "bundles", "consistency")
        note, node_list, leaves, bundles, consistency = members(value, names)
        document = cls(
            checkpoint=typed(note, str).encode(),
            node_list=_parse_leaf(node_list),
            leaves=tuple(_parse_leaf(item) for item in typed(leaves, list)),
            bundles={
                node: decode_base64(typed(text, str)) for node, text in typed(bundles, dict).items()
            },
            consistency=tuple(_parse_consistency(item) for item in typed(consistency, list)),
        )
        _check_ascending(leaf.index for leaf in document.leaves)
        _check_ascending(earlier.size for earlier in document.consistency)
        return document


@dataclass(frozen=True)
class SeenCheckpoint:
    """What a client remembers between documents, to notice a log that changes its story.

    Attributes:
        checkpoint: the note of the last document, as verified then.
        node_list: the list leaf of the last document, as it stood in the tree.
        amendments: the rotations and withdrawals seen so far, which never go away again.
    """

    checkpoint: bytes
    node_list: bytes
    amendments: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Encode for the client's state file; without amendments the member is left out."""
        result: dict[str, Any] = {
            "checkpoint": self.checkpoint.decode(),
            "list": encode_base64(self.node_list),
        }
        if self.amendments:
            result["amendments"] = [encode_base64(leaf) for leaf in self.amendments]
        return canonical_json.encode(result)

    @classmethod
    def decode(cls, data: bytes) -> SeenCheckpoint:
        """Decode what `encode` wrote.

        Raises:
            Malformed: anything else.
        """
        try:
            value = canonical_json.decode(data)
        except WireError as error:
            raise Malformed("not a remembered checkpoint") from error
        names = ("checkpoint", "list", "amendments")
        note, node_list, amendments = members({"amendments": [], **typed(value, dict)}, names)
        try:
            seen = cls(
                typed(note, str).encode(),
                decode_base64(typed(node_list, str)),
                tuple(decode_base64(typed(leaf, str)) for leaf in typed(amendments, list)),
            )
        except UnicodeEncodeError:
            raise Malformed("a remembered checkpoint that is not text") from None
        Checkpoint.parse(Note.parse(seen.checkpoint).text)
        if Leaf.decode(seen.node_list).type is not LeafType.NODE_LIST:
            raise Malformed("the list last seen is a leaf of another type")
        return seen


def _leaf_json(item: ProvenLeaf) -> dict[str, Any]:
    return {
        "index": item.index,
        "leaf": encode_base64(item.leaf),
        "proof": [encode_base64(h) for h in item.proof],
    }


def _parse_leaf(value: Any) -> ProvenLeaf:  # noqa: ANN401 - decoded JSON is of any shape
    index, leaf, proof = members(value, ("index", "leaf", "proof"))
    return ProvenLeaf(count(index), decode_base64(typed(leaf, str)), _hashes(proof))


def _parse_consistency(value: Any) -> ConsistencyProof:  # noqa: ANN401
    size, proof = members(value, ("size", "proof"))
    return ConsistencyProof(count(size), _hashes(proof))


def _hashes(value: Any) -> tuple[bytes, ...]:  # noqa: ANN401
    return parse_hashes([typed(item, str) for item in typed(value, list)])


def _check_ascending(numbers: Iterable[int]) -> None:
    sequence = list(numbers)
    if sequence != sorted(set(sequence)):
        raise Malformed("leaves or sizes that are not in ascending order")
