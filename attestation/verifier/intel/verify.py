"""The verification of a DCAP quote: authentic or refused. What is acceptable is policy.

In this order, each step only on what the one before has shown:

    the quote and its collateral are of their formats
    chains, statements and revocation lists hold, to a pinned root  (`signatures.check_collateral`)
    the quote is signed by a quoting enclave of that platform       (`signatures.check_quote`)
    it is not of a kind that anybody else can read or move          (`attributes`)
    dcap-qvl accepts it as well, and read the same report           (`dcap`)
"""

from __future__ import annotations

from typing import Any

from cryptography.x509 import Certificate

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.intel import dcap, signatures
from attestation.verifier.intel.attributes import check_attributes
from attestation.verifier.intel.claims import IntelClaims, report_members
from attestation.verifier.intel.collateral import DcapCollateral, parse_pck_chain
from attestation.verifier.intel.quote import PCK_CHAIN, DcapQuote

_DYNAMIC = {"True": True, "False": False, "Undefined": None}


def verify(quote: bytes, collateral: bytes, *, roots: frozenset[bytes], at: int) -> IntelClaims:
    """Verify a quote and return what it states.

    Args:
        quote: a TDX quote of version 4 or 5, or an SGX quote of version 3.
        collateral: Intel's, as `attestation.verifier.intel.collateral` has it.
        roots: SHA-256 fingerprints of the roots that the chains may lead to.
        at: unix seconds: when everything must be valid.

    Raises:
        Refused: a check did not hold; its code says which.
    """
    parsed = _parse_quote(quote)
    if not collateral:
        raise Refused(Code.TDX_COLLATERAL_MISSING, "a quote cannot be judged without collateral")
    endorsements, pck_chain = _parse_collateral(collateral, parsed)
    signatures.check_collateral(endorsements, pck_chain, roots=roots, at=at)
    signatures.check_quote(parsed, pck_chain[0])
    check_attributes(parsed.report)
    found = dcap.judge(parsed, endorsements, pck_chain, at=at)
    return _claims(parsed, endorsements, found)


def _parse_quote(quote: bytes) -> DcapQuote:
    try:
        parsed = DcapQuote.parse(quote)
    except MalformedEvidence as error:
        raise Refused(Code.TDX_QUOTE_MALFORMED, str(error)) from error
    if any(parsed.padding):
        raise Refused(Code.TDX_QUOTE_TRAILING_BYTES, "more than zeros after the signature data")
    return parsed


def _parse_collateral(
    collateral: bytes, quote: DcapQuote
) -> tuple[DcapCollateral, tuple[Certificate, ...]]:
    try:
        endorsements = DcapCollateral.parse(collateral)
        quoted: tuple[Certificate, ...] = ()
        if quote.certification_type == PCK_CHAIN:
            quoted = parse_pck_chain(quote.certification_data)
    except MalformedEvidence as error:
        raise Refused(Code.TDX_COLLATERAL_MALFORMED, str(error)) from error
    return endorsements, _pck_chain(quoted, endorsements.pck_chain)


def _pck_chain(
    quoted: tuple[Certificate, ...], given: tuple[Certificate, ...]
) -> tuple[Certificate, ...]:
    if not quoted and not given:
        raise Refused(Code.TDX_PCK_CHAIN_MISSING, "neither quote nor collateral has a PCK chain")
    if quoted and given and quoted != given:
        raise Refused(Code.TDX_PCK_CHAIN_MISMATCH, "quote and collateral differ in the PCK chain")
    return quoted or given


def _claims(quote: DcapQuote, collateral: DcapCollateral, found: dict[str, Any]) -> IntelClaims:
    report = report_members(quote.report)
    if _flatten(found["report"]) != report:
        raise Refused(Code.TDX_DCAP_REFUSED, "dcap-qvl has read another report in this quote")
    platform = found["platform"]
    advisory_ids = found["tcb"]["advisory_ids"] + (platform["current_tcb_level"] or {}).get(
        "advisoryIDs", []
    )
    issued = (collateral.tcb_info.issued_at, collateral.qe_identity.issued_at)
    return IntelClaims(
        version=quote.version,
        tee=quote.tee,
        report=quote.report,
        fmspc=bytes(platform["pck"]["fmspc"]).hex().upper(),
        status=found["tcb"]["status"],
        advisory_ids=tuple(dict.fromkeys(advisory_ids)),
        tcb_evaluation_number=found["tcb"]["eval_data_number"],
        dynamic_platform=_DYNAMIC[platform["pck"]["dynamic_platform"]],
        collateral_issued_at=min(*issued, int(collateral.pck_crl.last_update_utc.timestamp())),
        valid_from=found["latest_issue_date"],
        valid_until=found["earliest_expiration_date"],
    )


def _flatten(members: dict[str, Any]) -> dict[str, str | int]:
    flat: dict[str, str | int] = {}
    for name, value in members.items():
        flat |= _flatten(value) if isinstance(value, dict) else {name: value}
    return flat
