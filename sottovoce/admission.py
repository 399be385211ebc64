"""What the log asks of a node before it logs its key document: evidence that its verifier accepts.

The same appraisal as a client's, against the releases, models and policies that the log holds. In a
log of simulated nodes every weakness is accepted, and named; in a real one only what it was started
to accept, and clients judge again for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attestation.bundle import Bundle
from attestation.errors import AttestationError
from attestation.verifier.node import appraise
from attestation.verifier.policy import admission_policy
from attestation.verifier.weakness import Weakness
from client.appraisal import reference_values
from client.trust import Trust
from transparency.admission import Admitted
from transparency.errors import AdmissionRefused
from transparency.leaf import Body
from wire.errors import WireError
from wire.key_document import KeyDocument


def accepted_weaknesses(
    trust: Trust, named: Iterable[Weakness] | None = None
) -> frozenset[Weakness]:
    """Return what is accepted of nodes beyond the default: what is named, or all if simulated."""
    return frozenset(Weakness) if trust.simulated else frozenset(named or ())


def admission(
    trust: Trust, named: Iterable[Weakness] | None = None
) -> Callable[[bytes, int, Sequence[Body]], Admitted]:
    """Return the log's appraisal of a node's bundle (`transparency.admission.Admit`).

    Args:
        trust: what this log believes.
        named: weaknesses that it accepts of nodes.
    """
    policy = admission_policy(accepted_weaknesses(trust, named))

    def admit(bundle: bytes, at: int, statements: Sequence[Body]) -> Admitted:
        try:
            digest = KeyDocument.decode(Bundle.decode(bundle).key_document).digest
            # Its own digest stands for "in the log": that is what it asks to be put into.
            reference = reference_values(statements, key_documents=frozenset({digest}), trust=trust)
            document = appraise(bundle, policy=policy, reference=reference, at=at).key_document
        except (AttestationError, WireError) as error:
            raise AdmissionRefused(str(error)) from error
        return Admitted(
            key_document_digest=document.digest,
            receipt_key=document.receipt_key,
            model=document.model,
            capacity=document.capacity,
            not_after=document.not_after,
        )

    return admit
