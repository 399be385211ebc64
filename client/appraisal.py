"""Which nodes of a proven list deserve a prompt, and why the others do not.

Evidence is held against what the log vouches for and the trust file pins; only what survives is a
`VerifiedNode`, which a request can be encrypted to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from attestation.errors import AppraisalError
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.node import ReferenceValues, VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from client.direct import pin_of
from client.errors import NoNode
from client.trust import Trust
from transparency.leaf import Body, ListedNode, ModelLeaf, PolicyLeaf, ReleaseLeaf
from transparency.nodes_document import VerifiedNodes


@dataclass(frozen=True)
class RefusedNode:
    """A listed node that the policy or its evidence rules out, and why."""

    node: str
    verdict: Verdict


@dataclass(frozen=True)
class Appraisal:
    """Everything known about the nodes of one epoch."""

    listed: VerifiedNodes
    log_steps: tuple[Step, ...]
    """What was checked of the log, once for all nodes."""
    nodes: tuple[VerifiedNode, ...]
    refused: tuple[RefusedNode, ...]
    simulated_refused: bool = False
    """Whether the log lists simulated nodes only, and the policy accepts none."""

    def serving(self, model: str) -> list[VerifiedNode]:
        """Return the verified nodes that serve `model`.

        Raises:
            NoNode: there is none; the message says whether nodes were refused.
        """
        found = [node for node in self.nodes if node.key_document.model == model]
        self.require_any()
        if not found:
            raise NoNode(
                f"no verified node serves this model ({len(self.nodes)} verified, "
                f"{len(self.refused)} refused by policy or evidence)"
            )
        return found

    def require_any(self) -> None:
        """Refuse to go on without a single verified node.

        Raises:
            NoNode: there is none; its code says whether none is listed, or all are refused.
        """
        if self.nodes:
            return
        if not self.listed.nodes:
            raise NoNode("the node list of this epoch is empty", code="node_list_empty")
        if self.simulated_refused:
            raise simulated_refused()
        raise NoNode(
            f"the policy or their evidence rules out all {len(self.refused)} listed node(s)",
            code="nodes_refused",
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the nodes with their steps, verified ones first."""
        verified = [
            {
                "node": node.key_document.node,
                "model": node.key_document.model,
                "platform": node.platform,
                "verified": True,
                "direct_pin": pin_of(node.key_document),
                "steps": [step.to_json() for step in (*self.log_steps, *node.steps)],
            }
            for node in self.nodes
        ]
        refused = [
            {
                "node": refused.node,
                "verified": False,
                "steps": [step.to_json() for step in (*self.log_steps, *refused.verdict.steps)],
            }
            for refused in self.refused
        ]
        return [*verified, *refused]


def reference_of(listed: VerifiedNodes, trust: Trust) -> ReferenceValues:
    """Return what the evidence of the listed nodes is held against."""
    return reference_values(
        (*listed.releases, *listed.models, *listed.policies),
        key_documents=frozenset(row.key_document_digest for row in listed.nodes),
        trust=trust,
    )


def appraise_all(
    listed: VerifiedNodes, *, trust: Trust, policy: ClientPolicy, at: int
) -> Appraisal:
    """Appraise every listed node against what the log vouches for."""
    reference = reference_of(listed, trust)
    nodes: list[VerifiedNode] = []
    refused: list[RefusedNode] = []
    for row in listed.nodes:
        try:
            node = appraise(listed.bundles[row.node], policy=policy, reference=reference, at=at)
        except AppraisalError as error:
            refused.append(RefusedNode(row.node, error.verdict))
            continue
        if (contradiction := _contradiction(row, listed, node)) is None:
            nodes.append(node)
        else:
            refused.append(RefusedNode(row.node, Verdict((*node.steps, contradiction))))
    steps, hopeless = log_steps(listed, trust), refuses_simulated(trust, policy)
    return Appraisal(listed, steps, tuple(nodes), tuple(refused), hopeless)


def refuses_simulated(trust: Trust, policy: ClientPolicy) -> bool:
    """Whether the log lists simulated nodes only, and the policy accepts none."""
    return trust.simulated and Weakness.SIMULATED not in policy.accepted_weaknesses


def simulated_refused() -> NoNode:
    """Return the error for that."""
    return NoNode(
        "every node of this log is simulated, and this client does not accept that",
        code="simulated_refused",
    )


def _contradiction(row: ListedNode, listed: VerifiedNodes, node: VerifiedNode) -> Step | None:
    """Return a failed step if the list says of a node what its key document does not."""
    document = node.key_document
    said = (row.model, row.capacity, listed.receipt_keys[row.key_document_digest])
    if said == (document.model, document.capacity, document.receipt_key):
        return None
    return Step("node-list-entry", Outcome.FAIL, "the list contradicts the node's key document")


def log_steps(listed: VerifiedNodes, trust: Trust) -> tuple[Step, ...]:
    """Say what `verify_nodes_document` has proven."""
    policy, size = trust.log_policy, listed.checkpoint.size
    return (
        Step(
            "log-checkpoint",
            Outcome.PASS,
            f"{trust.log_origin} at size {size}, signed by the log and cosigned by at least "
            f"{policy.quorum} of {len(policy.witness_keys)} witnesses",
        ),
        Step(
            "log-consistency",
            Outcome.PASS,
            "the log continues the tree last seen, or is seen for the first time",
        ),
        Step(
            "node-list",
            Outcome.PASS,
            f"the list of epoch {listed.epoch} with {len(listed.nodes)} node(s) is in the log",
        ),
    )


def reference_values(
    statements: Iterable[Body], *, key_documents: frozenset[bytes], trust: Trust
) -> ReferenceValues:
    """Turn logged statements and pinned roots into the values that evidence is compared with."""
    releases: dict[str, set[bytes]] = {}
    models: dict[str, set[bytes]] = {}
    policies: set[bytes] = set()
    for body in statements:
        if isinstance(body, ReleaseLeaf):
            for platform, measurement in body.measurements.items():
                releases.setdefault(platform, set()).add(measurement)
        elif isinstance(body, ModelLeaf):
            models.setdefault(body.name, set()).add(body.digest)
        elif isinstance(body, PolicyLeaf):
            policies.add(body.digest)
    return ReferenceValues(
        key_documents=key_documents,
        releases=_frozen(releases),
        models=_frozen(models),
        policies=frozenset(policies),
        roots=trust.roots,
        log_origin=trust.log_origin,
    )


def _frozen(sets: Mapping[str, set[bytes]]) -> dict[str, frozenset[bytes]]:
    return {name: frozenset(values) for name, values in sets.items()}
