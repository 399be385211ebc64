"""The kinds `tdx` and `snp`: what processors sign."""

from __future__ import annotations

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verdict import Step
from attestation.verifier import certificates
from attestation.verifier.amd import snp
from attestation.verifier.intel.platform import check_event_log
from attestation.verifier.intel.quote import EnclaveReport
from attestation.verifier.intel.verify import verify as verify_quote
from attestation.verifier.policy import ClientPolicy
from sottovoce.verify.amd_issuers import issuers_of
from sottovoce.verify.arguments import Unusable
from sottovoce.verify.authentic import (
    Authentic,
    EvidenceFiles,
    aspect,
    event_log_aspect,
    only,
)


def verify_tdx(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    """Verify a DCAP quote of TDX or SGX with Intel's collateral, and an event log (CCEL).

    Raises:
        Refused: it is not authentic.
        Unusable: files that it has no use for.
    """
    files.refuse(chain=files.chain)
    collateral = only(files.collateral, "Intel's collateral")
    claims = verify_quote(files.evidence, collateral, roots=roots, at=at)
    if files.event_log:
        if isinstance(claims.report, EnclaveReport):
            raise Unusable("an SGX enclave has no event log")
        check_event_log(files.event_log, claims.report)
    return Authentic(
        claims.to_json(),
        f"signed by an Intel platform of kind {claims.fmspc}, whose TCB is {claims.status}",
        lambda policy, at: policy.tdx.check(claims, at=at),
        (event_log_aspect(looked=bool(files.event_log)),),
    )


def verify_snp(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    """Verify an SNP report with its VCEK or VLEK, the issuers of it, and AMD's revocation list.

    Raises:
        Refused: it is not authentic.
        Unusable: files that it has no use for.
    """
    files.refuse(event_log=files.event_log)
    crl = only(files.collateral, "AMD's revocation list")
    chain = complete(files.chain)
    claims = snp.verify(files.evidence, chain, crl, roots=roots, at=at)

    def accept(policy: ClientPolicy, at: int) -> str:
        return policy.snp.check(claims, at=at)

    worth = f"signed by a {claims.endorsement.kind.name} of AMD's for {claims.product}"
    return Authentic(claims.to_json(), worth, accept, (revocation_aspect(looked=bool(crl)),))


def revocation_aspect(*, looked: bool) -> Step:
    """Return the step about AMD's revocation list."""
    return aspect(
        "revocation",
        looked=looked,
        found="AMD's list does not name its issuers",
        missing="no revocation list was given",
    )


def complete(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the chain, with AMD's issuers where the file has a leaf alone."""
    try:
        found = [each for piece in chain for each in certificates.load(piece, at_most=3)]
    except MalformedEvidence as error:
        raise Refused(Code.SNP_CHAIN_MALFORMED, str(error)) from error
    return chain if len(found) != 1 else (*chain, *issuers_of(found[0]))
