"""Who may sign what: the keys of the roles, and how one key follows another.

The first keys stand in the trust file and stay there. Each rotation leaf, signed by the key that
has the role, hands the role on from the next leaf of the tree on. So a role has one key at every
index, and a leaf is judged by its own: what a key said while it had the role stays said.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

from transparency import signing
from transparency.amendments import KeyRotationLeaf, Role
from transparency.errors import Malformed, WrongRole
from transparency.statements import LeafType

_ROLES = {
    LeafType.RELEASE: Role.RELEASE,
    LeafType.MODEL: Role.RELEASE,
    LeafType.POLICY: Role.RELEASE,
    LeafType.WITHDRAWAL: Role.RELEASE,
    LeafType.ISSUER_KEY: Role.ISSUER,
    LeafType.NODE_LIST: Role.LIST,
}
"""A node's leaf names its own key, and a rotation is signed by the key that it replaces."""


@dataclass(frozen=True)
class RoleKeys:
    """The Ed25519 public keys (32 bytes, raw) that may sign each kind of leaf."""

    release: bytes
    issuer: bytes
    list: bytes

    def __post_init__(self) -> None:
        if any(len(key) != signing.PUBLIC_KEY_LENGTH for key in self.all):
            raise Malformed("a role's key has 32 bytes")
        if len(set(self.all)) != len(self.all):
            raise Malformed("one key may not have two roles")

    @property
    def all(self) -> tuple[bytes, bytes, bytes]:
        """The keys."""
        return (self.release, self.issuer, self.list)

    def of(self, role: Role) -> bytes:
        """The key that has a role."""
        key: bytes = getattr(self, role)
        return key

    def key_for(self, kind: LeafType) -> bytes | None:
        """The one key that may sign this kind; None where the body decides, as for nodes."""
        role = _ROLES.get(kind)
        return None if role is None else self.of(role)


class RoleHistory:
    """The keys of the roles at every index of one log."""

    def __init__(self, first: RoleKeys) -> None:
        """Begin with the keys of the trust file."""
        self._keys = [first]
        self._rotated_at: list[int] = []
        self._used = set(first.all)

    @property
    def current(self) -> RoleKeys:
        """The keys for the next leaf of the log."""
        return self._keys[-1]

    def at(self, index: int) -> RoleKeys:
        """Return the keys for the leaf at an index."""
        return self._keys[bisect_left(self._rotated_at, index)]

    def check(self, rotation: KeyRotationLeaf) -> None:
        """Refuse a key that had a role before.

        Raises:
            WrongRole: it had.
        """
        if rotation.key in self._used:
            raise WrongRole("a rotation to a key that had a role before")

    def rotate(self, index: int, rotation: KeyRotationLeaf) -> None:
        """Take note of a rotation leaf, verified under `at(index)`, in ascending order.

        Raises:
            WrongRole: its key had a role before.
        """
        self.check(rotation)
        self._used.add(rotation.key)
        self._keys.append(replace(self.current, **{str(rotation.role): rotation.key}))
        self._rotated_at.append(index)
