"""The kinds `tpm`, `gce-vtpm` and `azure-vtpm`: quotes of TPMs, real and virtual."""

from __future__ import annotations

from attestation.errors import MalformedEvidence
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.quote import Quote
from attestation.verifier.tpm import azure, gce, quote
from attestation.verifier.tpm.azure import AzureEvidence
from attestation.verifier.tpm.claims import Provenance, TpmClaims
from attestation.verifier.tpm.platform import GCE, TPM, VerifiedAzureQuote, VerifiedTpmQuote
from sottovoce.verify.authentic import (
    Authentic,
    EvidenceFiles,
    aspect,
    event_log_aspect,
    only,
)
from sottovoce.verify.hardware import complete, revocation_aspect


def verify_tpm(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    """Verify a plain TPM's quote with its key's certificates or certification, and an event log.

    Raises:
        Refused: it is not authentic.
        Unusable: files that it has no use for.
    """
    claims = quote.verify(
        files.evidence,
        chain=b"".join(files.chain),
        certification=only(files.collateral, "a certification"),
        event_log=files.event_log,
        roots=roots,
        at=at,
    )
    return _authentic(claims.to_json(), claims, VerifiedTpmQuote(TPM, claims))


def verify_gce(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    """Verify Google's evidence, which holds its event log, with the issuers of its key.

    Raises:
        Refused: it is not authentic.
        Unusable: files that it has no use for.
    """
    files.refuse(collateral=files.collateral, event_log=files.event_log)
    claims = gce.verify(files.evidence, chain=b"".join(files.chain), roots=roots, at=at)
    return _authentic(claims.to_json(), claims.tpm, VerifiedTpmQuote(GCE, claims.tpm))


def verify_azure(files: EvidenceFiles, roots: frozenset[bytes], at: int) -> Authentic:
    """Verify Azure's evidence: with AMD's issuers and revocation list, or Intel's collateral.

    Raises:
        Refused: it is not authentic.
        Unusable: files that it has no use for.
    """
    collateral = only(files.collateral, "the hardware's collateral")
    of_intel = collateral.lstrip().startswith(b"{")
    claims = azure.verify(
        files.evidence,
        chain=files.chain or _issuers(files.evidence),
        crl=b"" if of_intel else collateral,
        collateral=collateral if of_intel else b"",
        event_log=files.event_log,
        roots=roots,
        at=at,
    )
    found = _authentic(claims.to_json(), claims.tpm, VerifiedAzureQuote(claims))
    if claims.tee == "tdx":
        files.refuse(chain=files.chain)
        return found
    aspects = (*found.aspects, revocation_aspect(looked=bool(collateral)))
    return Authentic(found.claims, found.worth, found.accept, aspects)


def _issuers(evidence: bytes) -> tuple[bytes, ...]:
    try:
        vcek = AzureEvidence.decode(evidence).vcek
    except MalformedEvidence:
        return ()  # the verification says so with its code
    return complete((vcek,))[1:] if vcek else ()


def _authentic(json: dict[str, object], claims: TpmClaims, verified: Quote) -> Authentic:
    def accept(policy: ClientPolicy, at: int) -> str:
        return policy.accept_quote(verified, at=at)

    proven = aspect(
        "attestation-key",
        looked=claims.provenance is not Provenance.UNPROVEN,
        found=f"its key is a TPM's by {claims.provenance}",
        missing="nothing was given that shows that its key is a TPM's",
    )
    aspects = (proven, event_log_aspect(looked=claims.event_log is not None))
    return Authentic(json, verified.worth, accept, aspects)
