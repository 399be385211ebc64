"""The last judge: `dcap-qvl`, which knows Intel's rules for TCB levels and quoting enclaves.

It checks everything again, from the root down; what only it decides is here turned into codes: the
platform's and the module's TCB level, the identity of the quoting enclave, whether the collateral
is of this platform. It gets what was parsed before, written anew, so that the two cannot read the
same bytes differently. This is the one place where it is called. Its network functions are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import dcap_qvl  # type: ignore[import-untyped] # it has stubs and does not say so
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from attestation.errors import Code, Refused
from attestation.verifier.intel.collateral import DcapCollateral
from attestation.verifier.intel.quote import DcapQuote

_PREFIX = "Verification failed: "
_REFUSALS = (
    ("CrlExpired", Code.TDX_CRL_EXPIRED),  # in its last second, which it does not count
    ("Fmspc mismatch", Code.TDX_FMSPC_MISMATCH),
    ("TDX quote with non-TDX", Code.TDX_COLLATERAL_OF_ANOTHER_TEE),
    ("SGX quote with non-SGX", Code.TDX_COLLATERAL_OF_ANOTHER_TEE),
    ("Unsupported QE Identity", Code.TDX_COLLATERAL_OF_ANOTHER_TEE),
    ("QE MRSIGNER", Code.TDX_QE_MISMATCH),
    ("QE ISVPRODID", Code.TDX_QE_MISMATCH),
    ("QE MISCSELECT", Code.TDX_QE_MISMATCH),
    ("QE ATTRIBUTES", Code.TDX_QE_MISMATCH),
    ("QE report validation", Code.TDX_QE_MISMATCH),
    ("QE ISVSVN", Code.TDX_QE_MISMATCH),
    ("No matching TCB level", Code.TDX_TCB_UNKNOWN),
    ("Failed to evaluate the current TDX TCB", Code.TDX_TCB_UNKNOWN),
    ("TCB status is invalid: Revoked", Code.TDX_TCB_REVOKED),
    ("TDX module", Code.TDX_MODULE_MISMATCH),
)
"""How its refusals begin (0.7.0). One that is not listed is a refusal all the same."""


def judge(
    quote: DcapQuote,
    collateral: DcapCollateral,
    pck_chain: tuple[Certificate, ...],
    *,
    at: int,
) -> dict[str, Any]:
    """Have a quote verified at unix time `at`, under the root of its PCK chain.

    Returns:
        What `dcap-qvl` has found, as its JSON has it: `tcb`, `platform`, `qe`, `report`, dates.

    Raises:
        Refused: it does not accept the quote, for any reason.
    """
    verifier = dcap_qvl.QuoteVerifier(pck_chain[-1].public_bytes(Encoding.DER))
    try:
        claims = verifier.verify_with_policy(
            quote.unpadded,
            dcap_qvl.QuoteCollateralV3.from_json(_encode(collateral, pck_chain)),
            at,
            dcap_qvl.QuotePolicy.claims_only(at),
        )
    except ValueError as error:
        raise _refusal(str(error).removeprefix(_PREFIX)) from error
    found: dict[str, Any] = json.loads(claims.to_json())
    return found


def _refusal(message: str) -> Refused:
    codes = (code for beginning, code in _REFUSALS if message.startswith(beginning))
    return Refused(next(codes, Code.TDX_DCAP_REFUSED), f"dcap-qvl: {message}")


def _encode(collateral: DcapCollateral, pck_chain: tuple[Certificate, ...]) -> str:
    tcb_info, qe_identity = collateral.tcb_info, collateral.qe_identity
    return json.dumps(
        {
            "pck_crl_issuer_chain": _pem(pck_chain[1:]),
            "root_ca_crl": collateral.root_crl.public_bytes(Encoding.DER).hex(),
            "pck_crl": collateral.pck_crl.public_bytes(Encoding.DER).hex(),
            "tcb_info_issuer_chain": _pem(tcb_info.signers),
            "tcb_info": tcb_info.text,
            "tcb_info_signature": tcb_info.signature.hex(),
            "qe_identity_issuer_chain": _pem(qe_identity.signers),
            "qe_identity": qe_identity.text,
            "qe_identity_signature": qe_identity.signature.hex(),
            "pck_certificate_chain": _pem(pck_chain),
        }
    )


def _pem(chain: Iterable[Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
