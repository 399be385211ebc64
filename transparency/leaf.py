"""Leaves: what the log says, each typed and signed by the key of its role.

    leaf    = CBOR {"type": text, "body": bytes, "key": bytes .size 32, "signature": bytes .size 64}
    signed  = "sottovoce leaf v1" LF type LF body
    body    = CBOR map, its members those of the dataclass for the type (transparency.statements)

Everything is deterministic CBOR, so one statement has one leaf and one leaf hash. Releases, models,
engine policies and withdrawals are signed by the release key, issuer keys by the issuer key, node
lists by the list key, a node's leaf by the receipt key of its own key document, and a role's next
key by the one that it replaces (transparency.amendments).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transparency import signing
from transparency.amendments import KeyRotationLeaf, Role, WithdrawalLeaf
from transparency.errors import Malformed, WrongRole
from transparency.fields import Fields
from transparency.roles import RoleKeys
from transparency.statements import (
    IssuerKeyLeaf,
    LeafType,
    ListedNode,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    PolicyLeaf,
    ReleaseLeaf,
)
from wire import cbor

__all__ = [
    "MAX_LEAF_LENGTH",
    "Body",
    "IssuerKeyLeaf",
    "KeyRotationLeaf",
    "Leaf",
    "LeafType",
    "ListedNode",
    "ModelLeaf",
    "NodeLeaf",
    "NodeListLeaf",
    "PolicyLeaf",
    "ReleaseLeaf",
    "Role",
    "RoleKeys",
    "WithdrawalLeaf",
    "sign_leaf",
    "signed_message",
]

MAX_LEAF_LENGTH = 65535
"""An entry bundle frames each entry with 16 bits (c2sp.org/tlog-tiles)."""

_CONTEXT = b"sottovoce leaf v1\n"

Body: TypeAlias = (
    ReleaseLeaf
    | ModelLeaf
    | PolicyLeaf
    | IssuerKeyLeaf
    | NodeLeaf
    | NodeListLeaf
    | KeyRotationLeaf
    | WithdrawalLeaf
)

DECODERS: dict[LeafType, Callable[[bytes], Body]] = {
    LeafType.RELEASE: ReleaseLeaf.decode,
    LeafType.MODEL: ModelLeaf.decode,
    LeafType.POLICY: PolicyLeaf.decode,
    LeafType.ISSUER_KEY: IssuerKeyLeaf.decode,
    LeafType.NODE: NodeLeaf.decode,
    LeafType.NODE_LIST: NodeListLeaf.decode,
    LeafType.KEY_ROTATION: KeyRotationLeaf.decode,
    LeafType.WITHDRAWAL: WithdrawalLeaf.decode,
}
"""How each kind of body is read."""


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
        self.verify_signature()
        body = self.unverified_body()
        if isinstance(body, KeyRotationLeaf):
            self._check_rotation(body, roles)
        return body

    def verify_signature(self) -> None:
        """Check that the leaf's own key signed it, whosever that key is.

        Raises:
            BadSignature: it did not.
        """
        signing.verify(self.key, signed_message(self.type, self.body), self.signature)

    def _check_rotation(self, body: KeyRotationLeaf, roles: RoleKeys) -> None:
        if self.key != roles.of(body.role):
            raise WrongRole("a key-rotation leaf that is not signed by the key it replaces")
        body.check_possession(self.key)

    def unverified_body(self) -> Body:
        """Return the body without a look at key and signature.

        For leaves that were verified before they got here: the log's own entries, a client's own
        state. Nothing that arrived from elsewhere.

        Raises:
            Malformed: the body is not of its type.
        """
        return DECODERS[self.type](self.body)


def signed_message(kind: LeafType, body: bytes) -> bytes:
    """Return the bytes that a leaf's signature is over."""
    return _CONTEXT + str(kind).encode() + b"\n" + body


def sign_leaf(body: Body, private_key: Ed25519PrivateKey) -> Leaf:
    """Sign a body. The result always verifies, under roles that have this key.

    Raises:
        Malformed: a body that no reader would take, or too long for an entry.
    """
    encoded = body.encode()
    DECODERS[body.type](encoded)
    signature = private_key.sign(signed_message(body.type, encoded))
    leaf = Leaf(body.type, encoded, signature, signing.public_bytes(private_key))
    Leaf.decode(leaf.encode())
    return leaf
