"""From a pinned root to the bytes of a quote: every link that is a signature, a list or a date.

    root -> TCB signing certificate -> TCB info, QE identity (the collateral's statements)
    root -> PCK CA -> PCK certificate -> the quoting enclave's report
         -> (SHA-256 in its report data) attestation key -> header and body of the quote

`dcap-qvl` checks all of this too (`attestation.verifier.intel.dcap`); here each link has a code of
its own, and two implementations must agree.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509 import Certificate

from attestation.errors import Code, Refused
from attestation.verifier import certificates
from attestation.verifier.certificates import CrlCodes
from attestation.verifier.intel.collateral import DcapCollateral, Statement
from attestation.verifier.intel.quote import DcapQuote, parse_enclave_report

_CRL = {
    "signature": Code.TDX_CRL_SIGNATURE_BAD,
    "future": Code.TDX_CRL_NOT_YET_VALID,
    "expired": Code.TDX_CRL_EXPIRED,
}
_ROOT_CRL = CrlCodes(**_CRL, revoked=Code.TDX_CA_REVOKED)
_PCK_CRL = CrlCodes(**_CRL, revoked=Code.TDX_PCK_REVOKED)


def check_collateral(
    collateral: DcapCollateral,
    pck_chain: tuple[Certificate, ...],
    *,
    roots: frozenset[bytes],
    at: int,
) -> None:
    """Check the chains, statements and lists of a quote's collateral at unix time `at`.

    All three chains must lead to one root.

    Raises:
        Refused: with the code of the first link that does not hold.
    """
    tcb_info, qe_identity = collateral.tcb_info, collateral.qe_identity
    _check_chain(pck_chain, roots, Code.TDX_PCK_CHAIN_BAD)
    one_root = frozenset({certificates.fingerprint(pck_chain[-1])})
    _check_chain(tcb_info.signers, one_root, Code.TDX_TCB_SIGNER_BAD)
    _check_chain(qe_identity.signers, one_root, Code.TDX_QE_SIGNER_BAD)
    # Given with the list, but which CA's list it must be is said by the PCK's own chain (below).
    if collateral.pck_crl_signers != pck_chain[1:]:
        _check_chain(collateral.pck_crl_signers, one_root, Code.TDX_CRL_SIGNER_BAD)
    certificates.check_dates(
        (*pck_chain, *tcb_info.signers, *qe_identity.signers),
        at=at,
        code_future=Code.TDX_CERTIFICATE_NOT_YET_VALID,
        code_expired=Code.TDX_CERTIFICATE_EXPIRED,
    )
    _check_statement(tcb_info, "TCB info", at, Code.TDX_TCB_INFO_SIGNATURE_BAD)
    _check_statement(qe_identity, "QE identity", at, Code.TDX_QE_IDENTITY_SIGNATURE_BAD)
    pck, pck_ca, root = pck_chain
    issued_by_root = (pck_ca, tcb_info.signers[0], qe_identity.signers[0], root)
    certificates.check_crl(collateral.root_crl, root, issued_by_root, at=at, codes=_ROOT_CRL)
    certificates.check_crl(collateral.pck_crl, pck_ca, (pck,), at=at, codes=_PCK_CRL)


def check_quote(quote: DcapQuote, pck: Certificate) -> None:
    """Check that a quote was signed by a quoting enclave for which the PCK certificate vouches.

    Raises:
        Refused: with the code of the first link that does not hold.
    """
    _check_signature(
        pck.public_key(),
        quote.qe_report_signature,
        quote.qe_report,
        Refused(Code.TDX_QE_REPORT_SIGNATURE_BAD, "the quoting enclave is not the PCK's"),
    )
    binding = hashlib.sha256(quote.attestation_key + quote.authentication_data).digest()
    if parse_enclave_report(quote.qe_report).report_data != binding + bytes(32):
        raise Refused(
            Code.TDX_ATTESTATION_KEY_UNBOUND, "the attestation key is not the quoting enclave's"
        )
    _check_signature(
        _point(quote.attestation_key),
        quote.signature,
        quote.signed,
        Refused(Code.TDX_QUOTE_SIGNATURE_BAD, "the quote's signature does not verify"),
    )


def _check_chain(chain: tuple[Certificate, ...], roots: frozenset[bytes], code: Code) -> None:
    certificates.check_chain(
        chain, roots=roots, code_root=Code.TDX_ROOT_UNKNOWN, code_signature=code
    )


def _check_statement(statement: Statement, name: str, at: int, code: Code) -> None:
    _check_signature(
        statement.signers[0].public_key(),
        statement.signature,
        statement.text.encode(),
        Refused(code, f"the signature of the {name} does not verify"),
    )
    if at < statement.issued_at:
        raise Refused(Code.TDX_COLLATERAL_NOT_YET_VALID, f"the {name} is from the future")
    if at > statement.next_update:
        raise Refused(Code.TDX_COLLATERAL_EXPIRED, f"the {name} has expired")


def _point(key: bytes) -> ec.EllipticCurvePublicKey | None:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
    except ValueError:  # not a point of the curve
        return None


def _check_signature(
    key: PublicKeyTypes | None, signature: bytes, message: bytes, refused: Refused
) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise refused
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise refused from error
