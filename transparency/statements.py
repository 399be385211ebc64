"""What a leaf can say: a dataclass for each kind, and its one encoding as a CBOR map.

`decode` raises Malformed for anything that is not exactly what `encode` writes for values in range.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from transparency.errors import Malformed
from transparency.fields import Fields, plain
from wire import cbor

MAX_LISTED_NODES = 1024
"""A row is 36 bytes and the model's name: with names of 24 characters this many fit an entry."""

CAPACITIES = (1, 2, 4, 8)


class LeafType(StrEnum):
    """The kinds of leaf."""

    RELEASE = "release"
    MODEL = "model"
    POLICY = "policy"
    ISSUER_KEY = "issuer-key"
    NODE = "node"
    NODE_LIST = "node-list"
    KEY_ROTATION = "key-rotation"
    WITHDRAWAL = "withdrawal"


@dataclass(frozen=True)
class ReleaseLeaf:
    """A release of the worker and its measurement on each platform it is built for."""

    type: ClassVar[LeafType] = LeafType.RELEASE
    version: str
    measurements: Mapping[str, bytes]

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode({"version": self.version, "measurements": dict(self.measurements)})

    @classmethod
    def decode(cls, data: bytes) -> ReleaseLeaf:
        """Decode the body; a release measures at least one platform, 32 to 64 bytes each."""
        fields = Fields(data, "version", "measurements")
        measurements = fields.digests_by_text("measurements", minimum=32, maximum=64)
        return cls(fields.text("version"), measurements)


@dataclass(frozen=True)
class ModelLeaf:
    """A model's public name and the digest over its tensors, tokenizer and settings."""

    type: ClassVar[LeafType] = LeafType.MODEL
    name: str
    digest: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode({"name": self.name, "digest": self.digest})

    @classmethod
    def decode(cls, data: bytes) -> ModelLeaf:
        """Decode the body."""
        fields = Fields(data, "name", "digest")
        return cls(fields.text("name"), fields.digest("digest"))


@dataclass(frozen=True)
class PolicyLeaf:
    """An engine policy in full, and its SHA-256."""

    type: ClassVar[LeafType] = LeafType.POLICY
    digest: bytes
    policy: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode({"digest": self.digest, "policy": self.policy})

    @classmethod
    def decode(cls, data: bytes) -> PolicyLeaf:
        """Decode the body; the digest must be the policy's."""
        fields = Fields(data, "digest", "policy")
        leaf = cls(fields.digest("digest"), fields.octets("policy", minimum=1))
        if hashlib.sha256(leaf.policy).digest() != leaf.digest:
            raise Malformed("a policy leaf whose digest is not its policy's")
        return leaf


@dataclass(frozen=True)
class IssuerKeyLeaf:
    """A token key (RSASSA-PSS SPKI), the fleet's TokenChallenge, and when the key is in use."""

    type: ClassVar[LeafType] = LeafType.ISSUER_KEY
    issuer_name: str
    spki: bytes
    challenge: bytes
    not_before: int
    not_after: int

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode(
            {
                "issuer_name": self.issuer_name,
                "spki": self.spki,
                "challenge": self.challenge,
                "not_before": self.not_before,
                "not_after": self.not_after,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> IssuerKeyLeaf:
        """Decode the body."""
        fields = Fields(data, "issuer_name", "spki", "challenge", "not_before", "not_after")
        not_before, not_after = fields.period()
        return cls(
            fields.text("issuer_name"),
            fields.octets("spki", minimum=1, maximum=1024),
            fields.octets("challenge", minimum=1, maximum=1024),
            not_before,
            not_after,
        )


@dataclass(frozen=True)
class NodeLeaf:
    """A node's key document and its evidence, by digest, and when the document runs out."""

    type: ClassVar[LeafType] = LeafType.NODE
    key_document_digest: bytes
    bundle_digest: bytes
    not_after: int

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode(
            {
                "key_document_digest": self.key_document_digest,
                "bundle_digest": self.bundle_digest,
                "not_after": self.not_after,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> NodeLeaf:
        """Decode the body."""
        fields = Fields(data, "key_document_digest", "bundle_digest", "not_after")
        return cls(
            fields.digest("key_document_digest"),
            fields.digest("bundle_digest"),
            fields.time("not_after"),
        )


class ListedNode(NamedTuple):
    """One row of a node list: which node (by key document), what it serves, its capacity class."""

    key_document_digest: bytes
    model: str
    capacity: int

    @property
    def node(self) -> str:
        """The node's name in paths and documents: lower-case hex of the digest."""
        return self.key_document_digest.hex()


@dataclass(frozen=True)
class NodeListLeaf:
    """The nodes of one epoch, in the order of their digests, each once.

    `statements` commits to every other leaf that the epoch's nodes document shows (releases,
    models, policies, issuer keys, amendments): so the document, too, is one for everybody.
    """

    type: ClassVar[LeafType] = LeafType.NODE_LIST
    epoch: int
    not_before: int
    not_after: int
    nodes: tuple[ListedNode, ...]
    statements: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode(
            {
                "epoch": self.epoch,
                "not_before": self.not_before,
                "not_after": self.not_after,
                "nodes": [list(row) for row in self.nodes],
                "statements": self.statements,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> NodeListLeaf:
        """Decode the body; the rows are sorted, distinct, and at most `MAX_LISTED_NODES`."""
        fields = Fields(data, "epoch", "not_before", "not_after", "nodes", "statements")
        not_before, not_after = fields.period()
        nodes = tuple(_listed_node(row) for row in fields.array("nodes", MAX_LISTED_NODES))
        digests = [row.key_document_digest for row in nodes]
        if digests != sorted(set(digests)):
            raise Malformed("a node list that is not sorted, or names a node twice")
        return cls(fields.time("epoch"), not_before, not_after, nodes, fields.digest("statements"))


def statements_digest(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return what a node list says of the statements beside it: SHA-256 over their leaf hashes.

    The hashes are in the order of their leaves' indexes.
    """
    return hashlib.sha256(b"".join(leaf_hashes)).digest()


def _listed_node(row: Any) -> ListedNode:  # noqa: ANN401 - decoded CBOR is of any shape
    if not isinstance(row, list) or len(row) != 3:
        raise Malformed("a row of a node list is a digest, a model and a capacity")
    digest, model, capacity = plain(row[0], bytes), plain(row[1], str), plain(row[2], int)
    if len(digest) != 32 or not model or capacity not in CAPACITIES:
        raise Malformed("a row of a node list with values out of range")
    return ListedNode(digest, model, capacity)
