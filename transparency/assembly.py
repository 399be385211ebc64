"""Putting an epoch's nodes document together from the log's own entries and bundles."""

from __future__ import annotations

from transparency.checkpoint import Checkpoint
from transparency.current import Current
from transparency.epochs import EpochNotes
from transparency.errors import LogUnavailable
from transparency.leaf import Leaf, NodeLeaf, NodeListLeaf
from transparency.log import Log
from transparency.nodes_format import ConsistencyProof, NodesDocument, ProvenLeaf
from transparency.note import Note


def build_document(
    log: Log, current: Current, epoch_notes: EpochNotes, epoch: int
) -> NodesDocument:
    """Return the document of an epoch, under the checkpoint that published its list.

    The same entries and notes always give the same document, also after a restart.

    Raises:
        LogUnavailable: the epoch's list is not published yet.
        StorageDamaged: an entry or a bundle is gone.
    """
    note, list_index = epoch_notes.get(epoch), current.list_index(epoch)
    if note is None or list_index is None:
        raise LogUnavailable("there is no node list for this epoch yet")
    size = Checkpoint.parse(Note.parse(note).text).size
    node_list = NodeListLeaf.decode(Leaf.decode(log.entry(list_index)).body)
    nodes = [current.node_leaf(row.key_document_digest, size) for row in node_list.nodes]
    statements = current.statements(list_index, node_list.not_before)
    return NodesDocument(
        checkpoint=note,
        node_list=_proven(log, list_index, size),
        leaves=tuple(_proven(log, index, size) for index in sorted([*statements, *nodes])),
        bundles={
            row.node: _bundle(log, index) for row, index in zip(node_list.nodes, nodes, strict=True)
        },
        consistency=tuple(
            ConsistencyProof(old, log.tree.consistency_proof(old, size))
            for old in epoch_notes.sizes_before(epoch)
            if old < size
        ),
    )


def _proven(log: Log, index: int, size: int) -> ProvenLeaf:
    return ProvenLeaf(index, log.entry(index), log.tree.inclusion_proof(index, size))


def _bundle(log: Log, index: int) -> bytes:
    return log.attachment(NodeLeaf.decode(Leaf.decode(log.entry(index)).body).bundle_digest)
