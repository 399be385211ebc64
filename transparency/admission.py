"""What the log asks of a node's evidence before the node may be listed.

The appraisal itself is the attestation verifier's and comes in from outside as `Admit`; here it is
only made sure that evidence, key document and leaf are about one another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transparency.errors import AdmissionRefused, WrongBundle
from transparency.leaf import Body, Leaf, ListedNode, NodeLeaf


@dataclass(frozen=True)
class Admitted:
    """What the log's own verifier found in a node's evidence and key document.

    Attributes:
        key_document_digest: SHA-256 of the key document, 32 bytes.
        receipt_key: the document's Ed25519 key, which must have signed the node's leaf.
        model: the model the node serves.
        capacity: its capacity class: 1, 2, 4 or 8.
        not_after: when the document runs out, Unix seconds.
    """

    key_document_digest: bytes
    receipt_key: bytes
    model: str
    capacity: int
    not_after: int

    @property
    def row(self) -> ListedNode:
        """The node's row in a list."""
        return ListedNode(self.key_document_digest, self.model, self.capacity)


Admit = Callable[[bytes, int, Sequence[Body]], Admitted]
"""Appraises a bundle as of a time (Unix seconds) against the log's current releases, models and
policies. Raises AdmissionRefused, or any ValueError."""


def check_node(
    leaf: Leaf,
    body: NodeLeaf,
    bundle: bytes,
    *,
    admit: Admit,
    at: int,
    statements: Sequence[Body],
) -> Admitted:
    """Return what the evidence says about the node whose (verified) leaf this is.

    `statements` are the log's current releases, models and policies.

    Raises:
        WrongBundle: the bundle is not the one that the leaf names.
        AdmissionRefused: the evidence is not accepted, or is about another key document, receipt
            key or end of validity than the leaf.
    """
    if hashlib.sha256(bundle).digest() != body.bundle_digest:
        raise WrongBundle("the attachment is not the bundle that the leaf names")
    if body.not_after <= at:
        raise AdmissionRefused("the key document has run out")
    try:
        admitted = admit(bundle, at, statements)
    except AdmissionRefused:
        raise
    except ValueError as error:
        raise AdmissionRefused(str(error)) from error
    if admitted.receipt_key != leaf.key:
        raise AdmissionRefused("the leaf is not signed by the key document's receipt key")
    if admitted.key_document_digest != body.key_document_digest:
        raise AdmissionRefused("the bundle holds another key document than the leaf names")
    if admitted.not_after != body.not_after:
        raise AdmissionRefused("the leaf and the key document run out at different times")
    return admitted
