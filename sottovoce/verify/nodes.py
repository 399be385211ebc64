"""`sottovoce verify node`: the appraisal that a client makes of a node, offline."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import AppraisalError
from attestation.verdict import Verdict
from attestation.verifier.node import VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy
from client.nodes import log_steps, reference_of, verify_document
from client.trust import Trust
from sottovoce.verify.arguments import Unusable
from sottovoce.verify.output import Failure, Verified
from transparency.errors import TransparencyError
from transparency.nodes_document import VerifiedNodes


@dataclass(frozen=True)
class NodeFiles:
    """What a node is to be judged by.

    Attributes:
        nodes: the nodes document, as the relay serves it at `/nodes`: what the log holds.
        bundle: the node's bundle; None: the one in the document.
        node: the node's name, the hex of its key document's digest; None: the only one there is.
    """

    nodes: bytes
    bundle: bytes | None = None
    node: str | None = None


def verify_node(files: NodeFiles, *, trust: Trust, policy: ClientPolicy, at: int) -> Verified:
    """Appraise a node by the log's statements under a policy.

    Raises:
        Failure: the log's statements do not hold.
        AppraisalError: the node's evidence does not.
        Unusable: it is not clear which node is meant.
    """
    try:
        listed = verify_document(files.nodes, trust=trust, policy=policy, at=at)
    except TransparencyError as error:
        raise Failure("node-list", error.code, str(error)) from error
    before = log_steps(listed, trust)
    bundle = files.bundle or _choose(listed, files.node)
    try:
        node = appraise(bundle, policy=policy, reference=reference_of(listed, trust), at=at)
    except AppraisalError as error:
        verdict = Verdict((*before, *error.steps))
        raise AppraisalError(error.step, error.code, error.reason, verdict) from error
    return Verified(_claims(node, listed, trust), (*before, *node.steps))


def _choose(listed: VerifiedNodes, node: str | None) -> bytes:
    if node is None and len(listed.bundles) == 1:
        (only,) = listed.bundles.values()
        return only
    if node is None or node not in listed.bundles:
        raise Unusable(f"name one of the nodes with --node: {', '.join(sorted(listed.bundles))}")
    return listed.bundles[node]


def _claims(node: VerifiedNode, listed: VerifiedNodes, trust: Trust) -> dict[str, object]:
    document, engine = node.key_document, node.engine_policy
    return {
        "kind": "node",
        "node": node.node,
        "platform": node.platform,
        "model": document.model,
        "model_digest": document.model_digest.hex(),
        "device": document.device,
        "gpu_count": document.gpu_count,
        "capacity": document.capacity,
        "not_before": document.not_before,
        "not_after": document.not_after,
        "engine_policy_digest": engine.digest.hex(),
        "engine_verification": engine.verification,
        "engine_transfers": engine.transfers,
        "weaknesses": sorted(node.weaknesses),
        "warnings": list(node.warnings),
        "log": trust.log_origin,
        "epoch": listed.epoch,
    }
