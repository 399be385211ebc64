"""What the log says now: an index over its leaves, and the rows of the next node list. Pure."""

from __future__ import annotations

from collections import defaultdict

from transparency.admission import Admitted
from transparency.amendments import MAX_AMENDMENTS
from transparency.errors import AdmissionRefused, WrongAmendment
from transparency.leaf import (
    Body,
    IssuerKeyLeaf,
    LeafType,
    ListedNode,
    NodeLeaf,
    NodeListLeaf,
    WithdrawalLeaf,
)
from transparency.statements import statements_digest

CURRENT_LEAVES = {
    LeafType.RELEASE: 16,
    LeafType.MODEL: 64,
    LeafType.POLICY: 16,
    LeafType.ISSUER_KEY: 16,
}
"""How many of the newest leaves of each kind are current. A release older than the sixteen before
the newest is no longer in the document, and with it no longer accepted by clients."""

AMENDMENTS = (LeafType.KEY_ROTATION, LeafType.WITHDRAWAL)
"""Kinds of leaf of which every document shows all."""

_WITHDRAWABLE = (LeafType.RELEASE, LeafType.MODEL, LeafType.POLICY)

MAX_LIST_LENGTH = 60000
"""Bytes of rows in one node list, which must stay below the 65535 of an entry."""

_ROW_OVERHEAD = 40
"""A digest, a capacity and the CBOR around them and the model's name, rounded up."""


class Current:
    """The log's leaves by kind, and the nodes whose evidence this process has accepted."""

    def __init__(self) -> None:
        self._indexes: dict[LeafType, list[int]] = defaultdict(list)
        self._issuer_keys: dict[int, IssuerKeyLeaf] = {}
        self._node_leaves: dict[bytes, list[int]] = defaultdict(list)
        self._lists: dict[int, int] = {}
        self._statements: dict[int, Body] = {}
        self._hashes: dict[int, bytes] = {}
        self._withdrawals: list[tuple[int, bytes]] = []
        self._admitted: dict[bytes, Admitted] = {}
        self._renewed: dict[bytes, float] = {}

    def add(self, index: int, body: Body, leaf_hash: bytes) -> None:
        """Take note of a leaf of the log, in the order of their indexes."""
        self._indexes[body.type].append(index)
        if body.type in CURRENT_LEAVES:
            self._statements[index] = body
        if body.type in CURRENT_LEAVES or body.type in AMENDMENTS:
            self._hashes[index] = leaf_hash
        if isinstance(body, WithdrawalLeaf):
            self._withdrawals.append((index, body.leaf_hash))
        if isinstance(body, IssuerKeyLeaf):
            self._issuer_keys[index] = body
        elif isinstance(body, NodeLeaf):
            self._node_leaves[body.key_document_digest].append(index)
        elif isinstance(body, NodeListLeaf):
            self._lists.setdefault(body.epoch, index)

    def admit(self, node: Admitted, at: float) -> None:
        """Let a node whose leaf is in the log be listed, as renewed at `at` (Unix seconds)."""
        self._admitted[node.key_document_digest] = node
        self._renewed[node.key_document_digest] = at

    def renew(self, key_document_digest: bytes, at: float) -> None:
        """Take note of a node's sign of life at `at`; one not admitted stays so."""
        if key_document_digest in self._admitted:
            self._renewed[key_document_digest] = max(at, self._renewed[key_document_digest])

    def is_admitted(self, key_document_digest: bytes) -> bool:
        """Whether a node's evidence was accepted and its key document has not run out."""
        return key_document_digest in self._admitted

    def list_index(self, epoch: int) -> int | None:
        """Return the index of the epoch's node list, None if the log has none."""
        return self._lists.get(epoch)

    def node_leaf(self, key_document_digest: bytes, size: int) -> int:
        """Return the index of a node's newest leaf in the tree of `size` leaves.

        Raises:
            ValueError: it has none there.
        """
        return max(index for index in self._node_leaves[key_document_digest] if index < size)

    def statements(self, size: int, at: int) -> list[int]:
        """Return the indexes of the statements that are current, ascending.

        As of the tree of `size` leaves: the newest releases, models, policies and issuer keys,
        without withdrawn ones and issuer keys that have run out at `at`, and all amendments. A
        withdrawal does not make room for an older statement.
        """
        withdrawn = {target for index, target in self._withdrawals if index < size}
        indexes = []
        for kind, newest in CURRENT_LEAVES.items():
            of_kind = [index for index in self._indexes[kind] if index < size]
            if kind is LeafType.ISSUER_KEY:
                of_kind = [i for i in of_kind if self._issuer_keys[i].not_after > at]
            indexes += [i for i in of_kind[-newest:] if self._hashes[i] not in withdrawn]
        for kind in AMENDMENTS:
            indexes += [index for index in self._indexes[kind] if index < size]
        return sorted(indexes)

    def statements_digest(self, size: int, at: int) -> bytes:
        """Return what a node list at index `size` for an epoch from `at` says of the statements."""
        return statements_digest(self._hashes[index] for index in self.statements(size, at))

    def current_statements(self, at: int) -> tuple[Body, ...]:
        """Return the current releases, models, policies and issuer keys themselves."""
        size = max(self._hashes, default=-1) + 1
        indexes = [i for i in self.statements(size, at) if i in self._statements]
        return tuple(self._statements[index] for index in indexes)

    def check_amendment(self, body: Body) -> None:
        """Refuse an amendment that there is no room for, or that withdraws nothing.

        Raises:
            WrongAmendment: no release, model or policy with this leaf hash stands, or there have
                been too many amendments.
        """
        if sum(len(self._indexes[kind]) for kind in AMENDMENTS) >= MAX_AMENDMENTS:
            raise WrongAmendment("the log has no room for another amendment")
        if isinstance(body, WithdrawalLeaf):
            standing = {
                self._hashes[index] for kind in _WITHDRAWABLE for index in self._indexes[kind]
            }
            if body.leaf_hash not in standing - {target for _, target in self._withdrawals}:
                raise WrongAmendment("a withdrawal of no release, model or policy that stands")

    def rows(self, until: int, *, renewed_since: float) -> tuple[ListedNode, ...]:
        """Return the nodes to be listed until `until`, sorted.

        Those admitted whose key documents are still good then, and who gave a sign of life since
        `renewed_since`: a node that died has not.
        """
        nodes = (node for node in self._admitted.values() if node.not_after >= until)
        alive = (n for n in nodes if self._renewed[n.key_document_digest] >= renewed_since)
        return tuple(sorted(node.row for node in alive))

    def forget(self, at: int) -> None:
        """Drop the admission of nodes whose key documents have run out."""
        for digest in [d for d, node in self._admitted.items() if node.not_after <= at]:
            del self._admitted[digest], self._renewed[digest]

    def check_room(self, node: Admitted) -> None:
        """Refuse a node for which one list has no room.

        Raises:
            AdmissionRefused: the rows together would be longer than an entry can be.
        """
        rows = {**self._admitted, node.key_document_digest: node}.values()
        length = sum(_ROW_OVERHEAD + len(row.model.encode()) for row in rows)
        if length > MAX_LIST_LENGTH:
            raise AdmissionRefused("the node list has no room for another node")
