"""Collateral of a DCAP quote: what Intel signs about a platform's parts, and who signs for Intel.

JSON, with the names of Intel's collateral version 3; certificates in PEM, lists and signatures in
hexadecimal, the two signed statements as text, for their signatures are over their very bytes:

    {"pck_crl_issuer_chain", "root_ca_crl", "pck_crl",
     "tcb_info_issuer_chain", "tcb_info", "tcb_info_signature",
     "qe_identity_issuer_chain", "qe_identity", "qe_identity_signature",
     "pck_certificate_chain" (only needed for a quote that has none)}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.x509 import Certificate, CertificateRevocationList

from attestation.errors import MalformedEvidence
from attestation.verifier import certificates
from wire import canonical_json
from wire.errors import Malformed

MAX_COLLATERAL = 256 << 10
"""Intel's is 14 to 20 kB; a revocation list may grow."""

PCK_CHAIN_LENGTH = 3
"""PCK certificate, PCK CA, root."""

_SIGNER_CHAIN_LENGTH = 2
_REQUIRED = frozenset(
    {
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
    }
)
_PCK_CHAIN = "pck_certificate_chain"
_HEXADECIMAL = re.compile(r"(?:[0-9a-fA-F]{2})+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True)
class Statement:
    """A text that Intel has signed: TCB info, or the identity of a quoting enclave.

    Attributes:
        text: the JSON, as it is signed.
        signature: ECDSA P-256, r and s.
        signers: the certificate of the key that signed, then the root's.
        issued_at: unix seconds.
        next_update: unix seconds; from then on there is a newer one.
    """

    text: str
    signature: bytes
    signers: tuple[Certificate, ...]
    issued_at: int
    next_update: int


@dataclass(frozen=True)
class DcapCollateral:
    """Collateral, decoded but not yet checked.

    Attributes:
        tcb_info: which firmware of the platform is good.
        qe_identity: which quoting enclave is.
        root_crl: what the root has revoked.
        pck_crl: what the PCK CA has revoked.
        pck_crl_signers: the chain of a PCK CA, as it is given with the list.
        pck_chain: the PCK certificate's chain; empty if it must come with the quote.
    """

    tcb_info: Statement
    qe_identity: Statement
    root_crl: CertificateRevocationList
    pck_crl: CertificateRevocationList
    pck_crl_signers: tuple[Certificate, ...]
    pck_chain: tuple[Certificate, ...]

    @classmethod
    def parse(cls, data: bytes) -> DcapCollateral:
        """Decode collateral.

        Raises:
            MalformedEvidence: too long, not JSON, a member missing, unknown or twice, or not what
                its name says.
        """
        members = _parse_members(data)
        pck_chain = members.get(_PCK_CHAIN)
        return cls(
            tcb_info=_parse_statement(members, "tcb_info"),
            qe_identity=_parse_statement(members, "qe_identity"),
            root_crl=certificates.load_crl(_parse_hexadecimal(members["root_ca_crl"])),
            pck_crl=certificates.load_crl(_parse_hexadecimal(members["pck_crl"])),
            pck_crl_signers=_load_signers(members["pck_crl_issuer_chain"]),
            pck_chain=() if pck_chain is None else parse_pck_chain(pck_chain.encode()),
        )


def parse_pck_chain(data: bytes) -> tuple[Certificate, ...]:
    """Decode the PEM chain of a PCK certificate: itself, its CA, the root.

    Raises:
        MalformedEvidence: not these three, or anything beside them but the zero that ends a text
            in C, which platforms leave in their quotes.
    """
    return _load_chain(data.removesuffix(b"\0"), PCK_CHAIN_LENGTH)


def _load_signers(text: str) -> tuple[Certificate, ...]:
    return _load_chain(text.encode(), _SIGNER_CHAIN_LENGTH)


def _load_chain(data: bytes, length: int) -> tuple[Certificate, ...]:
    if b"\r" in data.replace(b"\r\n", b""):
        raise MalformedEvidence("chain: PEM with half a line end")
    chain = certificates.load(data, at_most=length)
    if len(chain) != length:
        raise MalformedEvidence(f"chain: {len(chain)} certificates, not {length}")
    return chain


def _parse_members(data: bytes) -> dict[str, str]:
    if len(data) > MAX_COLLATERAL:
        raise MalformedEvidence("collateral: too long")
    members = _parse_object(data, "collateral")
    if members.get(_PCK_CHAIN, "") is None:
        del members[_PCK_CHAIN]
    if members.keys() - {_PCK_CHAIN} != _REQUIRED:
        raise MalformedEvidence("collateral: not exactly the members of the format")
    if not all(isinstance(value, str) and value.isascii() for value in members.values()):
        raise MalformedEvidence("collateral: a member is not text")
    return members


def _parse_statement(members: dict[str, str], name: str) -> Statement:
    content = _parse_object(members[name], name)
    signature = _parse_hexadecimal(members[f"{name}_signature"])
    if len(signature) != 64:
        raise MalformedEvidence(f"{name}: the signature is not 64 bytes")
    return Statement(
        text=members[name],
        signature=signature,
        signers=_load_signers(members[f"{name}_issuer_chain"]),
        issued_at=_parse_date(content.get("issueDate")),
        next_update=_parse_date(content.get("nextUpdate")),
    )


def _parse_object(data: bytes | str, what: str) -> dict[str, Any]:
    try:
        members = canonical_json.decode(data)
    except Malformed as error:
        raise MalformedEvidence(f"{what}: not JSON, or a member is there twice") from error
    if not isinstance(members, dict):
        raise MalformedEvidence(f"{what}: not an object")
    return members


def _parse_hexadecimal(text: str) -> bytes:
    if not _HEXADECIMAL.fullmatch(text):
        raise MalformedEvidence("collateral: not hexadecimal")
    return bytes.fromhex(text)


def _parse_date(value: object) -> int:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise MalformedEvidence("collateral: not a date")
    try:
        date = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise MalformedEvidence("collateral: not a date") from error
    return int(date.timestamp())
