"""What an authentic SNP report says, and what it was checked against."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag

from cryptography.x509 import Certificate, CertificateRevocationList

from attestation.errors import Code
from attestation.verifier import certificates
from attestation.verifier.amd.endorsement import Endorsement
from attestation.verifier.amd.product import Product, Tcb
from attestation.verifier.amd.report import Report
from attestation.verifier.certificates import CrlCodes

CRL_CODES = CrlCodes(
    signature=Code.SNP_CRL_SIGNATURE_BAD,
    future=Code.SNP_CRL_NOT_YET_VALID,
    expired=Code.SNP_CRL_EXPIRED,
    revoked=Code.SNP_REVOKED,
)


@dataclass(frozen=True)
class SnpClaims:
    """An authentic report. Whether what it says is acceptable is `SnpPolicy`'s to say.

    Attributes:
        report: the report.
        endorsement: what AMD says of the key that signed it.
        chain: VCEK or VLEK, ASK or ASVK, ARK.
        crl: the ARK's revocation list; None: nobody looked whether the chain is revoked.
    """

    report: Report
    endorsement: Endorsement
    chain: tuple[Certificate, ...] = field(repr=False)
    crl: CertificateRevocationList | None = field(repr=False)

    @property
    def product(self) -> Product:
        """The line of processors."""
        return self.endorsement.product

    @property
    def tcbs(self) -> dict[str, Tcb]:
        """The four TCB versions, by name."""
        report = self.report
        return {
            "reported": Tcb(self.product, report.reported_tcb),
            "committed": Tcb(self.product, report.committed_tcb),
            "current": Tcb(self.product, report.current_tcb),
            "launch": Tcb(self.product, report.launch_tcb),
        }

    @property
    def crl_issued_at(self) -> int | None:
        """When the revocation list was issued, unix seconds; None without one."""
        return None if self.crl is None else int(self.crl.last_update_utc.timestamp())

    def check_dates(self, *, at: int) -> None:
        """Check that chain and revocation list are valid at unix time `at`. A report has no date.

        Raises:
            Refused: one is not valid yet, or not any more.
        """
        certificates.check_dates(
            self.chain,
            at=at,
            code_future=Code.SNP_CERTIFICATE_NOT_YET_VALID,
            code_expired=Code.SNP_CERTIFICATE_EXPIRED,
        )
        if self.crl is not None:
            certificates.check_crl_dates(self.crl, at=at, codes=CRL_CODES)

    def to_json(self) -> dict[str, object]:
        """Return the claims: bytes in hex, firmware versions as major.minor.build."""
        report, tcbs = self.report, self.tcbs
        return {
            "tee": "snp",
            "version": report.version,
            "product": self.product.value,
            "product_name": self.endorsement.product_name,
            "guest_svn": report.guest_svn,
            "policy": hex(report.policy),
            "policy_bits": _names(report.policy_bits),
            "policy_abi": "{}.{}".format(*report.abi),
            "family_id": report.family_id.hex(),
            "image_id": report.image_id.hex(),
            "vmpl": report.vmpl,
            "sigalgo": 1,
            "signing_key": report.signing_key.value,
            "provider": self.endorsement.provider,
            "platform_info": hex(report.platform_info),
            "platform_bits": _names(report.platform_bits),
            "report_data": report.report_data.hex(),
            "measurement": report.measurement.hex(),
            "host_data": report.host_data.hex(),
            "id_key_digest": report.id_key_digest.hex(),
            "author_key_digest": report.author_key_digest.hex(),
            "author_key": report.author_key,
            "report_id": report.report_id.hex(),
            "report_id_ma": report.report_id_ma.hex(),
            "chip_id": report.chip_id.hex(),
            "chip_id_masked": report.chip_id_masked,
            "cpuid": list(report.cpuid),
            **{f"{name}_tcb": tcb.raw.hex() for name, tcb in tcbs.items()},
            "tcb": {name: tcb.components for name, tcb in tcbs.items()},
            "current_version": "{}.{}.{}".format(*report.current_version),
            "committed_version": "{}.{}.{}".format(*report.committed_version),
            "mitigations": [hex(vector) for vector in report.mitigations],
            "revocation": "unchecked" if self.crl is None else "checked",
        }


def _names(bits: IntFlag) -> list[str]:
    return sorted(str(bit.name).lower().replace("_", "-") for bit in bits)
