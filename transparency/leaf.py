"""Leaves: what the log says, each typed and signed by the key of its role.

    leaf    = CBOR {"type": text, "body": bytes, "key": bytes .size 32, "signature": bytes .size 64}
    signed  = "sottovoce leaf v1" LF type LF body
    body    = CBOR map, its members those of the dataclass for the type

Everything is deterministic CBOR, so one statement has one leaf and one leaf hash. Releases, models
and engine policies are signed by the release key, issuer keys by the issuer key, node lists by the
list key, and a node's leaf by the receipt key of its own key document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transparency import signing
from transparency.errors import Malformed, WrongRole
from transparency.fields import Fields, plain
from wire import cbor

MAX_LEAF_LENGTH = 65535
"""An entry bundle frames each entry with 16 bits (c2sp.org/tlog-tiles)."""

MAX_LISTED_NODES = 1024
"""A row is 36 bytes and the model's name: with names of 24 characters this many fit an entry."""

CAPACITIES = (1, 2, 4, 8)

_CONTEXT = b"sottovoce leaf v1\n"


class LeafType(StrEnum):
    """The kinds of leaf."""

    RELEASE = "release"
    MODEL = "model"
    POLICY = "policy"
    ISSUER_KEY = "issuer-key"
    NODE = "node"
    NODE_LIST = "node-list"


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
    """The nodes of one epoch, in the order of their digests, each once."""

    type: ClassVar[LeafType] = LeafType.NODE_LIST
    epoch: int
    not_before: int
    not_after: int
    nodes: tuple[ListedNode, ...]

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode(
            {
                "epoch": self.epoch,
                "not_before": self.not_before,
                "not_after": self.not_after,
                "nodes": [list(row) for row in self.nodes],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> NodeListLeaf:
        """Decode the body; the rows are sorted, distinct, and at most `MAX_LISTED_NODES`."""
        fields = Fields(data, "epoch", "not_before", "not_after", "nodes")
        not_before, not_after = fields.period()
        nodes = tuple(_listed_node(row) for row in fields.array("nodes", MAX_LISTED_NODES))
        digests = [row.key_document_digest for row in nodes]
        if digests != sorted(set(digests)):
            raise Malformed("a node list that is not sorted, or names a node twice")
        return cls(fields.time("epoch"), not_before, not_after, nodes)


Body: TypeAlias = ReleaseLeaf | ModelLeaf | PolicyLeaf | IssuerKeyLeaf | NodeLeaf | NodeListLeaf

_DECODERS: dict[LeafType, Callable[[bytes], Body]] = {
    LeafType.RELEASE: ReleaseLeaf.decode,
    LeafType.MODEL: ModelLeaf.decode,
    LeafType.POLICY: PolicyLeaf.decode,
    LeafType.ISSUER_KEY: IssuerKeyLeaf.decode,
    LeafType.NODE: NodeLeaf.decode,
    LeafType.NODE_LIST: NodeListLeaf.decode,
}


@dataclass(frozen=True)
class RoleKeys:
    """The Ed25519 public keys (32 bytes, raw) that may sign each kind of leaf."""

    release: bytes
    issuer: bytes
    list: bytes

    def __post_init__(self) -> None:
        if any(len(key) != signing.PUBLIC_KEY_LENGTH for key in self._all):
            raise Malformed("a role's key has 32 bytes")
        if len(set(self._all)) != len(self._all):
            raise Malformed("one key may not have two roles")

    @property
    def _all(self) -> tuple[bytes, bytes, bytes]:
        return (self.release, self.issuer, self.list)

    def key_for(self, kind: LeafType) -> bytes | None:
        """The one key that may sign this kind; None for node leaves, which name their own."""
        if kind is LeafType.NODE:
            return None
        if kind is LeafType.NODE_LIST:
            return self.list
        return self.issuer if kind is LeafType.ISSUER_KEY else self.release


@dataclass(frozen=True)
class Leaf:
    """A signed statement. The body is to be ignored until `verify` has returned it."""

    type: LeafType
    body: bytes
    signature: bytes
    key: bytes

    def encode(self) -> bytes:
        """Encode the leaf: the bytes that are hashed into the tree."""
        return cbor.encode(
            {
                "type": str(self.type),
                "body": self.body,
                "key": self.key,
                "signature": self.signature,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Leaf:
        """Decode a leaf; nothing is verified yet.

        Raises:
            Malformed: not the one encoding of a leaf of a known type, or too long for an entry.
        """
        if len(data) > MAX_LEAF_LENGTH:
            raise Malformed("a leaf of more than 65535 bytes")
        fields = Fields(data, "type", "body", "key", "signature")
        kind = fields.text("type")
        if kind not in tuple(LeafType):
            raise Malformed("a leaf of an unknown type")
        return cls(
            LeafType(kind),
            fields.octets("body", minimum=1),
            fields.octets("signature", minimum=64, maximum=64),
            fields.octets("key", minimum=32, maximum=32),
        )

    def verify(self, roles: RoleKeys) -> Body:
        """Return the body, once the key is the role's and the signature the key's.

        For a node leaf this proves only that the leaf's own key signed it. That the key is the
        receipt key of the key document is for whoever holds the document to check (`key`).

        Raises:
            WrongRole: signed by another key than the role's.
            BadSignature: the signature does not verify.
            Malformed: the body is not of its type.
        """
        expected = roles.key_for(self.type)
        if expected is not None and self.key != expected:
            raise WrongRole(f"a {self.type} leaf that is not signed by its role's key")
        signing.verify(self.key, signed_message(self.type, self.body), self.signature)
        return self.unverified_body()

    def unverified_body(self) -> Body:
        """Return the body without a look at key and signature.

        For leaves that were verified before they got here: the log's own entries, a client's own
        state. Nothing that arrived from elsewhere.

        Raises:
            Malformed: the body is not of its type.
        """
        return _DECODERS[self.type](self.body)


def signed_message(kind: LeafType, body: bytes) -> bytes:
    """Return the bytes that a leaf's signature is over."""
    return _CONTEXT + str(kind).encode() + b"\n" + body


def sign_leaf(body: Body, private_key: Ed25519PrivateKey) -> Leaf:
    """Sign a body. The result always verifies, under roles that have this key.

    Raises:
        Malformed: a body that no reader would take, or too long for an entry.
    """
    encoded = body.encode()
    _DECODERS[body.type](encoded)
    signature = private_key.sign(signed_message(body.type, encoded))
    leaf = Leaf(body.type, encoded, signature, signing.public_bytes(private_key))
    Leaf.decode(leaf.encode())
    return leaf


def _listed_node(row: Any) -> ListedNode:  # noqa: ANN401 - decoded CBOR is of any shape
    if not isinstance(row, list) or len(row) != 3:
        raise Malformed("a row of a node list is a digest, a model and a capacity")
    digest, model, capacity = plain(row[0], bytes), plain(row[1], str), plain(row[2], int)
    if len(digest) != 32 or not model or capacity not in CAPACITIES:
        raise Malformed("a row of a node list with values out of range")
    return ListedNode(digest, model, capacity)
