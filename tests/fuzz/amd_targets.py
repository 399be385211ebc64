"""The decoders of AMD's evidence, and of the X.509 that all vendors use."""

from __future__ import annotations

from functools import cache

from attestation.attester.certificate_table import parse_certificate_table
from attestation.errors import MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.amd import snp
from attestation.verifier.amd.report import Report
from tests.fuzz.target import Target
from tests.support.evidence.amd import SnpMachine
from tests.support.evidence.authority import NOT_BEFORE
from tests.support.evidence.certificate_table import certificate_table

ERRORS = (MalformedEvidence,)


@cache
def machine() -> SnpMachine:
    return SnpMachine("Turin", 5)


def reports() -> list[bytes]:
    machines = (SnpMachine(version=2), SnpMachine("Genoa", 3, vlek=True), machine())
    return [each.quote() for each in machines]


def loaded() -> list[bytes]:
    return [machine().chain, machine().key_certificate.der, machine().ark.der]


def verify_quote(quote: bytes) -> object:
    made = machine()
    return snp.verify(quote, [made.chain], made.crl(), roots=made.roots, at=NOT_BEFORE)


def verify_chain(chain: bytes) -> object:
    made = machine()
    return snp.verify(made.quote(), [chain], roots=made.roots, at=NOT_BEFORE)


TARGETS = (
    Target(
        "snp-report",
        Report.decode,
        (MalformedEvidence, Refused),
        reports,
        ("attestation.verifier.amd.report:Report.decode",),
    ),
    Target("snp-evidence", verify_quote, (Refused,), lambda: [machine().quote()], ()),
    Target("snp-chain", verify_chain, (Refused,), lambda: [machine().chain], ()),
    Target("certificates", lambda data: certificates.load(data, at_most=3), ERRORS, loaded, ()),
    Target("crl", certificates.load_crl, ERRORS, lambda: [machine().crl([5, 6])], ()),
    Target(
        "certificate-table",
        parse_certificate_table,
        ERRORS,
        lambda: [certificate_table({"vcek": b"one", "ask": b"two"}), bytes(24)],
        ("attestation.attester.certificate_table:parse_certificate_table",),
    ),
)
