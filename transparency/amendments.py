"""Leaves about other leaves and their keys: a role gets a new key, a statement is withdrawn.

Both are for good. A key that was replaced never has a role again, and a leaf that was withdrawn is
never current again: to take a withdrawal back, publish the statement anew in another leaf.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transparency import signing
from transparency.errors import Malformed
from transparency.fields import Fields
from transparency.statements import LeafType
from wire import cbor

MAX_AMENDMENTS = 256
"""Every nodes document carries all of them; a log takes no more."""

_ROTATION_CONTEXT = b"sottovoce key rotation v1\n"


class Role(StrEnum):
    """Whose key signs: releases, models and policies; issuer keys; node lists."""

    RELEASE = "release"
    ISSUER = "issuer"
    LIST = "list"


@dataclass(frozen=True)
class KeyRotationLeaf:
    """A role's next key. Signed by the key it replaces; `possession` is the next key's signature.

    From the next leaf on the role's leaves are signed by `key`; those before stay as they are.
    """

    type: ClassVar[LeafType] = LeafType.KEY_ROTATION
    role: Role
    key: bytes
    possession: bytes

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode({"role": str(self.role), "key": self.key, "possession": self.possession})

    @classmethod
    def decode(cls, data: bytes) -> KeyRotationLeaf:
        """Decode the body."""
        fields = Fields(data, "role", "key", "possession")
        role = fields.text("role")
        if role not in tuple(Role):
            raise Malformed("a rotation of a role that does not exist")
        possession = fields.octets("possession", minimum=64, maximum=64)
        return cls(Role(role), fields.digest("key"), possession)

    @classmethod
    def make(cls, role: Role, old_key: bytes, new_key: Ed25519PrivateKey) -> KeyRotationLeaf:
        """Make the body for a new key; `old_key` is the public key that will sign the leaf."""
        public = signing.public_bytes(new_key)
        return cls(role, public, new_key.sign(_rotation_message(role, old_key, public)))

    def check_possession(self, old_key: bytes) -> None:
        """Check that whoever holds the new key agreed to follow this old one in this role.

        Raises:
            BadSignature: it did not.
        """
        message = _rotation_message(self.role, old_key, self.key)
        signing.verify(self.key, message, self.possession)


@dataclass(frozen=True)
class WithdrawalLeaf:
    """Takes back a release, model or policy leaf, by its leaf hash. Signed by the release key."""

    type: ClassVar[LeafType] = LeafType.WITHDRAWAL
    leaf_hash: bytes
    reason: str

    def encode(self) -> bytes:
        """Encode the body."""
        return cbor.encode({"leaf_hash": self.leaf_hash, "reason": self.reason})

    @classmethod
    def decode(cls, data: bytes) -> WithdrawalLeaf:
        """Decode the body."""
        fields = Fields(data, "leaf_hash", "reason")
        return cls(fields.digest("leaf_hash"), fields.text("reason"))


def _rotation_message(role: Role, old_key: bytes, new_key: bytes) -> bytes:
    return _ROTATION_CONTEXT + str(role).encode() + b"\n" + old_key + new_key
