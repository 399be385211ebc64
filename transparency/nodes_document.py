"""The nodes document: everything a client must know about a fleet for one epoch, in one file.

The same bytes for every client, so that fetching it marks nobody, and complete, so that the client
never asks the log about one node. Canonical JSON:

    {"checkpoint": text,                            a cosigned note over the whole document
     "list":    {"index", "leaf", "proof"},         the epoch's node list
     "leaves": [{"index", "leaf", "proof"}, ...],   releases, models, policies, issuer keys,
                                                    amendments, nodes
     "bundles": {node: base64},                     the evidence of every listed node
     "consistency": [{"size", "proof"}, ...]}       from the checkpoints of earlier lists

A leaf is base64, a proof a list of base64 hashes, a node the hex of its key document's digest.

`verify_nodes_document` believes in this order: the checkpoint (log key, quorum, age); that it
continues the one last seen; the rotations (included, each by the key it replaces), and with them
the key of every role at every index; the list (included, list key, this epoch, no other list seen
for it); the other leaves (included, role keys, still valid, not withdrawn); that the list commits
to exactly them, and that list, node leaves and bundles agree.
Evidence is only identified here. Appraising it is the attestation verifier's work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transparency.amendments import KeyRotationLeaf
from transparency.checkpoint import Checkpoint
from transparency.errors import (
    AmendmentMissing,
    ConsistencyMissing,
    Inconsistent,
    Malformed,
    RolledBack,
    StaleEpoch,
    TwoLists,
    WrongBundle,
    WrongList,
)
from transparency.leaf import (
    Body,
    IssuerKeyLeaf,
    Leaf,
    LeafType,
    ListedNode,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    PolicyLeaf,
    ReleaseLeaf,
    RoleKeys,
    WithdrawalLeaf,
)
from transparency.merkle import verify_consistency, verify_inclusion
from transparency.nodes_format import (
    ConsistencyProof,
    NodesDocument,
    ProvenLeaf,
    SeenCheckpoint,
)
from transparency.note import Note
from transparency.policy import LogPolicy
from transparency.roles import RoleHistory
from transparency.statements import statements_digest
from wire.merkle import leaf_hash

__all__ = [
    "ConsistencyProof",
    "NodesDocument",
    "ProvenLeaf",
    "SeenCheckpoint",
    "VerifiedNodes",
    "verify_nodes_document",
]


@dataclass(frozen=True)
class VerifiedNodes:
    """What the log says for one epoch, proven. Made by `verify_nodes_document`.

    Attributes:
        checkpoint: the tree that everything here is included in.
        seen: to be kept and passed as `last` with the next document.
        nodes: the list's rows, in the order of their digests.
        node_leaves: the leaf of every listed node, by key document digest.
        receipt_keys: the key that signed each node's leaf, by key document digest. The appraiser
            of the bundle must find the same key in the key document.
        bundles: the evidence of every listed node, by `ListedNode.node`, as its leaf names it.
        role_keys: the keys of the roles after all rotations.
    """

    checkpoint: Checkpoint
    seen: SeenCheckpoint
    epoch: int
    not_before: int
    not_after: int
    nodes: tuple[ListedNode, ...]
    node_leaves: Mapping[bytes, NodeLeaf]
    receipt_keys: Mapping[bytes, bytes]
    bundles: Mapping[str, bytes]
    releases: tuple[ReleaseLeaf, ...]
    models: tuple[ModelLeaf, ...]
    policies: tuple[PolicyLeaf, ...]
    issuer_keys: tuple[IssuerKeyLeaf, ...]
    withdrawals: tuple[WithdrawalLeaf, ...]
    role_keys: RoleKeys


def verify_nodes_document(
    data: bytes,
    *,
    policy: LogPolicy,
    roles: RoleKeys,
    epoch_seconds: int,
    at: int,
    last: SeenCheckpoint | None,
    bridge: Sequence[bytes] | None = None,
) -> VerifiedNodes:
    """Return what the document proves, as of `at` (Unix seconds), in the order stated above.

    `last` is what the previous document left in `VerifiedNodes.seen`; None only the first time.
    `bridge` is a consistency proof from `last` to this document's checkpoint, for a client that
    was away for longer than the document's own proofs reach back (`ConsistencyMissing`).

    Raises:
        Malformed: the document, a note, a leaf or a body is not of its format.
        Unsigned, WrongOrigin, BadSignature, BadCosignature, QuorumMissing: the checkpoint.
        RolledBack, Inconsistent: the checkpoint contradicts `last`; both notes are in the error.
        ConsistencyMissing: nothing connects `last` with the checkpoint.
        NotIncluded: a leaf is not in the checkpoint's tree.
        WrongRole, BadSignature: a leaf is not signed by its role.
        StaleEpoch: the list is not of the epoch of `at`.
        TwoLists: `last` holds another list for this epoch.
        AmendmentMissing: `last` holds a rotation or withdrawal that is not in the document.
        WrongList: list, leaves and bundles do not belong together, or a leaf was withdrawn.
        WrongBundle: a bundle is not the one its node leaf names.
    """
    document = NodesDocument.decode(data)
    checkpoint = policy.verify(document.checkpoint, at)
    if last is not None:
        _check_consistency(document, checkpoint, last, bridge)
    leaves = [(item.index, _included(item, checkpoint)) for item in document.leaves]
    history = _follow_rotations(leaves, roles)
    list_roles = history.at(document.node_list.index)
    listed = _verify_list(document.node_list, checkpoint, list_roles, epoch_seconds, at)
    if last is not None:
        _check_only_list(listed, document.node_list.leaf, last)
    verified = [(leaf, leaf.verify(history.at(index))) for index, leaf in leaves]
    node_leaves, receipt_keys = _match_nodes(listed, verified)
    amendments = _check_statements(listed, verified)
    if last is not None:
        _check_amendments(amendments, document.node_list.leaf, last)
    _check_bundles(document.bundles, node_leaves)
    bodies = [body for _, body in verified]
    issuer_keys = tuple(body for body in bodies if isinstance(body, IssuerKeyLeaf))
    return VerifiedNodes(
        checkpoint=checkpoint,
        seen=SeenCheckpoint(document.checkpoint, document.node_list.leaf, amendments),
        epoch=listed.epoch,
        not_before=listed.not_before,
        not_after=listed.not_after,
        nodes=listed.nodes,
        node_leaves=node_leaves,
        receipt_keys=receipt_keys,
        bundles=dict(document.bundles),
        releases=tuple(body for body in bodies if isinstance(body, ReleaseLeaf)),
        models=tuple(body for body in bodies if isinstance(body, ModelLeaf)),
        policies=tuple(body for body in bodies if isinstance(body, PolicyLeaf)),
        issuer_keys=tuple(key for key in issuer_keys if key.not_before <= at < key.not_after),
        withdrawals=tuple(body for body in bodies if isinstance(body, WithdrawalLeaf)),
        role_keys=history.current,
    )


def _check_consistency(
    document: NodesDocument,
    checkpoint: Checkpoint,
    last: SeenCheckpoint,
    bridge: Sequence[bytes] | None,
) -> None:
    old = Checkpoint.parse(Note.parse(last.checkpoint).text)
    if old.origin != checkpoint.origin:
        raise Malformed("the checkpoint last seen is of another log")
    if checkpoint.size < old.size:
        raise RolledBack(
            "the log shows a smaller tree than before",
            older=last.checkpoint,
            newer=document.checkpoint,
        )
    proof = _proof_from(document, old.size, checkpoint.size, bridge)
    try:
        verify_consistency(old.size, old.root, checkpoint.size, checkpoint.root, proof)
    except Inconsistent as error:
        raise Inconsistent(
            str(error), older=last.checkpoint, newer=document.checkpoint, proof=error.proof
        ) from None


def _proof_from(
    document: NodesDocument, old_size: int, size: int, bridge: Sequence[bytes] | None
) -> tuple[bytes, ...]:
    if old_size in (0, size):
        return ()
    for earlier in document.consistency:
        if earlier.size == old_size:
            return earlier.proof
    if bridge is None:
        raise ConsistencyMissing(old_size, size)
    return tuple(bridge)


def _included(item: ProvenLeaf, checkpoint: Checkpoint) -> Leaf:
    verify_inclusion(leaf_hash(item.leaf), item.index, checkpoint.size, item.proof, checkpoint.root)
    return Leaf.decode(item.leaf)


def _follow_rotations(leaves: Iterable[tuple[int, Leaf]], roles: RoleKeys) -> RoleHistory:
    history = RoleHistory(roles)
    for index, leaf in leaves:
        if leaf.type is LeafType.KEY_ROTATION:
            leaf.verify(history.current)
            history.rotate(index, KeyRotationLeaf.decode(leaf.body))
    return history


def _verify_list(
    item: ProvenLeaf, checkpoint: Checkpoint, roles: RoleKeys, epoch_seconds: int, at: int
) -> NodeListLeaf:
    body = _included(item, checkpoint).verify(roles)
    if not isinstance(body, NodeListLeaf):
        raise WrongList("the document's list is a leaf of another type")
    if body.epoch != at // epoch_seconds:
        raise StaleEpoch(f"a node list for epoch {body.epoch}, not {at // epoch_seconds}")
    start = body.epoch * epoch_seconds
    if (body.not_before, body.not_after) != (start, start + epoch_seconds):
        raise WrongList("a node list that is not valid for exactly its epoch")
    return body


def _check_only_list(listed: NodeListLeaf, leaf: bytes, last: SeenCheckpoint) -> None:
    seen = NodeListLeaf.decode(Leaf.decode(last.node_list).body)
    if seen.epoch == listed.epoch and last.node_list != leaf:
        raise TwoLists(
            f"two node lists for epoch {listed.epoch}", first=last.node_list, second=leaf
        )


def _match_nodes(
    listed: NodeListLeaf, leaves: Iterable[tuple[Leaf, Body]]
) -> tuple[dict[bytes, NodeLeaf], dict[bytes, bytes]]:
    node_leaves: dict[bytes, NodeLeaf] = {}
    receipt_keys: dict[bytes, bytes] = {}
    for leaf, body in leaves:
        if isinstance(body, NodeListLeaf):
            raise WrongList("a second node list in one document")
        if isinstance(body, NodeLeaf):
            if body.key_document_digest in node_leaves:
                raise WrongList("two leaves for one node")
            if body.not_after < listed.not_after:
                raise WrongList("a listed node whose key document runs out within the epoch")
            node_leaves[body.key_document_digest] = body
            receipt_keys[body.key_document_digest] = leaf.key
    if set(node_leaves) != {row.key_document_digest for row in listed.nodes}:
        raise WrongList("the node leaves are not those of the listed nodes")
    return node_leaves, receipt_keys


def _check_statements(
    listed: NodeListLeaf, leaves: Iterable[tuple[Leaf, Body]]
) -> tuple[bytes, ...]:
    """Check that the list commits to exactly these statements; return the amendments."""
    statements = [(leaf, body) for leaf, body in leaves if not isinstance(body, NodeLeaf)]
    hashes = [leaf_hash(leaf.encode()) for leaf, _ in statements]
    if statements_digest(hashes) != listed.statements:
        raise WrongList("the statements are not those that the list commits to")
    withdrawn = {body.leaf_hash for _, body in statements if isinstance(body, WithdrawalLeaf)}
    if withdrawn.intersection(hashes):
        raise WrongList("a withdrawn leaf among the statements")
    amendments = (KeyRotationLeaf, WithdrawalLeaf)
    return tuple(leaf.encode() for leaf, body in statements if isinstance(body, amendments))


def _check_amendments(amendments: Sequence[bytes], node_list: bytes, last: SeenCheckpoint) -> None:
    for amendment in last.amendments:
        if amendment not in amendments:
            raise AmendmentMissing(
                "a rotation or withdrawal seen before is missing",
                amendment=amendment,
                node_list=node_list,
            )


def _check_bundles(bundles: Mapping[str, bytes], node_leaves: Mapping[bytes, NodeLeaf]) -> None:
    if set(bundles) != {digest.hex() for digest in node_leaves}:
        raise WrongList("the bundles are not those of the listed nodes")
    for digest, leaf in node_leaves.items():
        if hashlib.sha256(bundles[digest.hex()]).digest() != leaf.bundle_digest:
            raise WrongBundle(f"a bundle that is not the one of node {digest.hex()}")
