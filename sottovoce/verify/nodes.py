"""`sottovoce verify node`: the appraisal that a client makes of a node, offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attestation.errors import AppraisalError
from attestation.verdict import Step, Verdict
from attestation.verifier.fresh import appraise_fresh
from attestation.verifier.node import VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy
from client.appraisal import log_steps, reference_of
from client.node_list import verify_document
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


Appraised = tuple[VerifiedNode, tuple[Step, ...]]


def verify_node(files: NodeFiles, *, trust: Trust, policy: ClientPolicy, at: int) -> Verified:
    """Appraise a node by the log's statements under a policy.

    Raises:
        Failure: the log's statements do not hold.
        AppraisalError: the node's evidence does not.
        Unusable: it is not clear which node is meant.
    """

    def of_bundle(listed: VerifiedNodes) -> Appraised:
        bundle = files.bundle or listed.bundles[_choose(listed, files.node)]
        reference = reference_of(listed, trust)
        node = appraise(bundle, policy=policy, reference=reference, at=at)
        return node, node.steps

    return _verify(files, of_bundle, trust=trust, policy=policy, at=at)


def verify_fresh(
    files: NodeFiles,
    ask: Callable[[str, bytes], bytes],
    *,
    nonce: bytes,
    trust: Trust,
    policy: ClientPolicy,
    at: int,
) -> Verified:
    """Have a node quoted over a nonce, and appraise it by that.

    Args:
        files: which node, and what the log holds; no bundle.
        ask: given the node's name and the nonce, returns its evidence.
        nonce: 32 random bytes.
        trust: the trust anchor.
        policy: what is demanded.
        at: unix seconds, now.

    Raises:
        Failure: the log's statements do not hold.
        AppraisalError: the node's evidence does not, or is not what was asked for.
        Unusable: it is not clear which node is meant, or `ask` came to nothing.
    """

    def of_node(listed: VerifiedNodes) -> Appraised:
        name = _choose(listed, files.node)
        node, freshness = appraise_fresh(
            ask(name, nonce),
            node=name,
            nonce=nonce,
            policy=policy,
            reference=reference_of(listed, trust),
            at=at,
        )
        return node, (*node.steps, freshness)

    return _verify(files, of_node, trust=trust, policy=policy, at=at)


def _verify(
    files: NodeFiles,
    appraise_one: Callable[[VerifiedNodes], Appraised],
    *,
    trust: Trust,
    policy: ClientPolicy,
    at: int,
) -> Verified:
    try:
        listed = verify_document(files.nodes, trust=trust, policy=policy, at=at)
    except TransparencyError as error:
        raise Failure("node-list", error.code, str(error)) from error
    before = log_steps(listed, trust)
    try:
        node, steps = appraise_one(listed)
    except AppraisalError as error:
        verdict = Verdict((*before, *error.steps))
        raise AppraisalError(error.step, error.code, error.reason, verdict) from error
    return Verified(_claims(node, listed, trust), (*before, *steps))


def _choose(listed: VerifiedNodes, node: str | None) -> str:
    if node is None and len(listed.bundles) == 1:
        (only,) = listed.bundles
        return only
    if node is None or node not in listed.bundles:
        raise Unusable(f"name one of the nodes with --node: {', '.join(sorted(listed.bundles))}")
    return node


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
