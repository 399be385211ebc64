"""The decoders of `attestation.verifier.intel`."""

from __future__ import annotations

from attestation.errors import MalformedEvidence
from attestation.verifier.intel.collateral import DcapCollateral, parse_pck_chain
from attestation.verifier.intel.quote import DcapQuote, parse_enclave_report
from tests.fuzz.target import Target
from tests.support.evidence.intel import IntelNode

ERRORS = (MalformedEvidence,)
KINDS = ((3, 1), (4, 2), (5, 2), (5, 3), (5, 4))


def quotes() -> list[bytes]:
    return [IntelNode(version=version, body=body).quote() for version, body in KINDS]


def chain() -> bytes:
    return IntelNode().chain("pck", "pck_ca", "root").encode()


def collaterals() -> list[bytes]:
    bring = {"pck_certificate_chain": chain().decode()}
    nodes = (IntelNode(), IntelNode(version=3), IntelNode(collateral_changes=bring))
    return [node.collateral() for node in nodes]


TARGETS = (
    Target(
        "dcap-quote",
        DcapQuote.parse,
        ERRORS,
        quotes,
        ("attestation.verifier.intel.quote:DcapQuote.parse",),
        lambda quote: quote.unpadded + quote.padding,
    ),
    Target(
        "enclave-report",
        parse_enclave_report,
        ERRORS,
        lambda: [IntelNode(version=3).signed()[48:]],
        ("attestation.verifier.intel.quote:parse_enclave_report",),
        lambda report: b"".join(vars(report).values()),
    ),
    Target(
        "dcap-collateral",
        DcapCollateral.parse,
        ERRORS,
        collaterals,
        ("attestation.verifier.intel.collateral:DcapCollateral.parse",),
    ),
    Target(
        "pck-chain",
        parse_pck_chain,
        ERRORS,
        lambda: [chain()],
        ("attestation.verifier.intel.collateral:parse_pck_chain",),
    ),
)
