"""The monitor's judgement: every leaf of a log, one after the other. Pure.

A client sees one epoch's document. Here the whole log is seen, so that what no single client can
know is found: two lists for one epoch, a leaf by a key that lost its role, a list that commits to
other statements than the log holds, or that names a node the log never admitted.
"""

from __future__ import annotations

from transparency.amendments import KeyRotationLeaf
from transparency.checkpoint import Checkpoint
from transparency.current import Current
from transparency.errors import (
    DuplicateLeaf,
    TransparencyError,
    TwoLists,
    WrongList,
)
from transparency.leaf import Body, Leaf, NodeLeaf, NodeListLeaf, RoleKeys
from transparency.merkle import Tree
from transparency.misbehaviour import Misbehaviour
from transparency.nodes_document import VerifiedNodes
from transparency.proof import LogProof
from transparency.roles import RoleHistory
from wire.merkle import leaf_hash


class Audit:
    """Reads a log's entries in their order and keeps what is wrong with them.

    Attributes:
        tree: the tree over the entries so far, to be compared with signed checkpoints.
        counts: how many leaves of each kind there were.
    """

    def __init__(self, roles: RoleKeys, epoch_seconds: int) -> None:
        """Begin with the keys of the trust file."""
        self.tree = Tree()
        self.counts: dict[str, int] = {}
        self._roles = RoleHistory(roles)
        self._epoch_seconds = epoch_seconds
        self._current = Current()
        self._hashes: set[bytes] = set()
        self._lists: dict[int, bytes] = {}
        self._nodes: dict[bytes, int] = {}
        self._findings: list[tuple[int, bytes, TransparencyError]] = []

    def add(self, entry: bytes) -> None:
        """Judge the next entry. What is wrong is kept for `findings`; nothing is raised."""
        index, item = self.tree.size, leaf_hash(entry)
        self.tree.append(item)
        try:
            self._judge(index, entry, item)
        except TransparencyError as error:
            self._findings.append((index, entry, error))
        self._hashes.add(item)

    def is_of(self, checkpoint: Checkpoint) -> bool:
        """Whether the entries so far are exactly the tree of a checkpoint."""
        return (self.tree.size, self.tree.root()) == (checkpoint.size, checkpoint.root)

    def check_list(self, shown: VerifiedNodes) -> None:
        """Check the list of a (verified) nodes document against the log's.

        Raises:
            TwoLists: the log holds another list for its epoch.
        """
        listed = self._lists.get(shown.epoch, shown.seen.node_list)
        if listed != shown.seen.node_list:
            message = f"clients are shown another list for epoch {shown.epoch}"
            raise TwoLists(message, first=listed, second=shown.seen.node_list)

    def findings(self, checkpoint: bytes) -> list[Misbehaviour]:
        """Return what was found, each leaf with its proof in the tree of this signed note."""
        return [self._finding(*found, checkpoint) for found in self._findings]

    def _judge(self, index: int, entry: bytes, item: bytes) -> None:
        if item in self._hashes:
            raise DuplicateLeaf(f"leaf {index} was in the log before")
        leaf = Leaf.decode(entry)
        body = leaf.verify(self._roles.current)
        self.counts[body.type] = self.counts.get(body.type, 0) + 1
        self._check_body(index, entry, body)
        self._current.add(index, body, item)

    def _check_body(self, index: int, entry: bytes, body: Body) -> None:
        if isinstance(body, NodeLeaf):
            self._nodes[body.key_document_digest] = body.not_after
        elif isinstance(body, NodeListLeaf):
            self._check_list(index, entry, body)
        elif body.type in {"key-rotation", "withdrawal"}:
            self._current.check_amendment(body)
            if isinstance(body, KeyRotationLeaf):
                self._roles.rotate(index, body)

    def _check_list(self, index: int, entry: bytes, body: NodeListLeaf) -> None:
        first = self._lists.setdefault(body.epoch, entry)
        if first != entry:
            raise TwoLists(f"two node lists for epoch {body.epoch}", first=first, second=entry)
        start = body.epoch * self._epoch_seconds
        if (body.not_before, body.not_after) != (start, start + self._epoch_seconds):
            raise WrongList(f"leaf {index} is a list that is not valid for exactly its epoch")
        for row in body.nodes:
            if self._nodes.get(row.key_document_digest, -1) < body.not_after:
                raise WrongList(
                    f"leaf {index} lists a node that the log does not hold, or too long"
                )
        if body.statements != self._current.statements_digest(index, start):
            raise WrongList(f"leaf {index} is a list that commits to other statements")

    def _finding(
        self, index: int, entry: bytes, error: TransparencyError, checkpoint: bytes
    ) -> Misbehaviour:
        leaves: tuple[bytes, ...] = (entry,)
        if isinstance(error, TwoLists):
            leaves = (error.first, error.second)
        size = self.tree.size
        proof = LogProof(index, self.tree.inclusion_proof(index, size), checkpoint)
        proofs = () if isinstance(error, TwoLists) else (proof,)
        return Misbehaviour(error.code, str(error), (checkpoint,), leaves, proofs)
