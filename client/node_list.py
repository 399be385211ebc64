"""The node list as one file: what must hold before any node of it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attestation.bundle import Bundle
from attestation.errors import AttestationError
from attestation.simulated_quote import PLATFORM as SIMULATED
from attestation.verifier.policy import ClientPolicy
from client.trust import Trust
from transparency.errors import SimulatedBesideReal
from transparency.nodes_document import SeenCheckpoint, VerifiedNodes, verify_nodes_document
from wire.errors import WireError


def check_platforms(listed: VerifiedNodes) -> None:
    """Refuse a list in which simulated nodes stand beside others.

    Raises:
        SimulatedBesideReal: they do.
    """
    platforms = {_platform(bundle) for bundle in listed.bundles.values()}
    if SIMULATED in platforms and len(platforms) > 1:
        raise SimulatedBesideReal("a list with simulated nodes beside real ones")


def _platform(bundle: bytes) -> str:
    try:
        return Bundle.decode(bundle).platform
    except (AttestationError, WireError):
        return ""  # the appraisal will say what is wrong with it


def verify_document(
    document: bytes,
    *,
    trust: Trust,
    policy: ClientPolicy,
    at: int,
    last: SeenCheckpoint | None = None,
    bridge: Sequence[bytes] | None = None,
) -> VerifiedNodes:
    """Verify a nodes document under the trust file, and the policy where that is the stricter.

    Raises:
        SimulatedBesideReal: simulated nodes stand beside others.
        TransparencyError: as `verify_nodes_document` says.
    """
    log = trust.log_policy
    oldest = min(log.max_cosignature_age_s, policy.max_checkpoint_age_s)
    listed = verify_nodes_document(
        document,
        policy=replace(log, max_cosignature_age_s=oldest),
        roles=trust.roles,
        epoch_seconds=trust.list_epoch_s,
        at=at,
        last=last,
        bridge=bridge,
    )
    check_platforms(listed)
    return listed
