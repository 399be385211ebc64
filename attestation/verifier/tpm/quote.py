"""The verification of a quote, and of a plain TPM's evidence around it.

A quote signs a digest over the values of registers, not the values: they travel beside it, and are
believed when they make that digest (TPM 2.0 Part 3, TPM2_Quote):

    pcrDigest = H(values of the selected registers, bank by bank as selected, ascending)

with the signature's digest algorithm as H, whatever the banks are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm import event_log as log
from attestation.verifier.tpm import provenance
from attestation.verifier.tpm.algorithms import BANKS, SIZES
from attestation.verifier.tpm.attest import Selection, parse_quote
from attestation.verifier.tpm.claims import QuoteClaims, TpmClaims
from attestation.verifier.tpm.event_log import EventLogClaims, Registers
from attestation.verifier.tpm.evidence import TpmEvidence
from attestation.verifier.tpm.keys import (
    PublicKey,
    Signature,
    check_signature,
    parse_public,
    parse_signature,
)
from attestation.verifier.tpm.secure_boot import secure_boot


def verify(
    evidence: bytes,
    *,
    chain: bytes = b"",
    certification: bytes = b"",
    event_log: bytes = b"",
    roots: frozenset[bytes],
    at: int,
) -> TpmClaims:
    """Verify a plain TPM's evidence, all dates included.

    Args:
        evidence: as `attestation.verifier.tpm.evidence` has it.
        chain: certificates, leaf first, root last: DER or PEM. The leaf is of the attestation key,
            or of the key that has certified it. Empty: the key stays unproven, as the claims say.
        certification: what that other key has signed (`provenance.parse_certified`); or empty.
        event_log: the firmware's log; or empty.
        roots: fingerprints of the roots that the chain may lead to.
        at: unix seconds.

    Raises:
        Refused: with one code for each check.
    """
    claims = authenticate(
        evidence, chain=chain, certification=certification, event_log=event_log, roots=roots
    )
    claims.check_dates(at=at)
    return claims


def authenticate(
    evidence: bytes,
    *,
    chain: bytes = b"",
    certification: bytes = b"",
    event_log: bytes = b"",
    roots: frozenset[bytes],
) -> TpmClaims:
    """Verify evidence as `verify` does, but for the dates: `TpmClaims.check_dates` is still due.

    Raises:
        Refused: with one code for each check.
    """
    try:
        decoded = TpmEvidence.decode(evidence)
        public = parse_public(decoded.public)
        signature = parse_signature(decoded.signature)
    except MalformedEvidence as error:
        raise Refused(Code.TPM_MALFORMED, str(error)) from error
    public.check_attestation_key()
    public.check_scheme(signature)
    proven, certified = provenance.check(public, chain, certification, roots=roots)
    quote = check(decoded.attest, signature, public.key, decoded.registers)
    events, booted = check_log(event_log, quote.registers)
    return TpmClaims((quote,), public.key, proven, certified, events, booted)


def check(
    message: bytes, signature: Signature, key: PublicKey, registers: Registers
) -> QuoteClaims:
    """Check one quote: its signature, and that the registers beside it are those it quotes.

    Args:
        message: the TPMS_ATTEST.
        signature: over it.
        key: the attestation key; whose it is, is the caller's business.
        registers: the values given beside the quote: exactly those of its selection.

    Raises:
        Refused: badly signed; not by a TPM; not a quote; other registers, or other values.
    """
    check_signature(key, signature, message, Code.TPM_SIGNATURE_BAD)
    try:
        attest = parse_quote(message)
    except MalformedEvidence as error:
        raise Refused(Code.TPM_MALFORMED, str(error)) from error
    values = _select(attest.attested.selection, registers)
    digest = hashlib.new(BANKS[signature.digest], b"".join(values)).digest()
    if digest != attest.attested.pcr_digest:
        raise Refused(Code.TPM_PCR_DIGEST_MISMATCH, "the registers are not those that were quoted")
    return QuoteClaims(attest, registers)


def check_log(data: bytes, registers: Registers) -> tuple[EventLogClaims | None, bool | None]:
    """Check an event log against quoted registers; return its claims and the secure boot state.

    Raises:
        Refused: it does not lead there (`event_log.check`).
    """
    if not data:
        return None, None
    claims = log.check(data, registers)
    return claims, secure_boot(claims)


def _select(selection: Selection, registers: Mapping[str, Mapping[int, bytes]]) -> list[bytes]:
    wanted = {bank: set(indices) for bank, indices in selection if indices}
    if wanted != {bank: set(values) for bank, values in registers.items()}:
        reason = "the registers given beside the quote are not the selection it states"
        raise Refused(Code.TPM_PCR_SELECTION_MISMATCH, reason)
    for bank, values in registers.items():
        if any(len(value) != SIZES[bank] for value in values.values()):
            raise Refused(Code.TPM_MALFORMED, f"a register that is not of {bank}'s length")
    return [registers[bank][index] for bank, indices in selection for index in indices]
