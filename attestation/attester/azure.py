"""The attester of Azure's virtual TPM, which the machine's own hardware vouches for.

The paravisor keeps the hardware's report, and the attestation key that it holds, in the virtual
TPM. What endorses that report is had from Azure's metadata service, by the caller: the certificate
of the chip's key (SNP), or a quote of the platform's quoting enclave in place of the report (TDX).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from attestation.attester.base import Evidence
from attestation.attester.event_log import FIRMWARE, read_event_log
from attestation.attester.tpm import TpmUnavailable, load_stack, open_device
from attestation.errors import MalformedEvidence
from attestation.verifier.tpm.azure_evidence import AzureEvidence
from attestation.verifier.tpm.hcl import Hardware, HclReport
from attestation.verifier.tpm.keys import parse_signature
from attestation.verifier.tpm.platform import AZURE

HCL_REPORT = 0x01400001
"""The NV index of the HCL report."""

ATTESTATION_KEY = 0x81000003
"""The persistent handle of the attestation key."""


class AzureAttester:
    """Quotes by the virtual TPM of an Azure confidential machine.

    Args:
        endorse: given the hardware's report (SNP: 1,184 bytes, TDX: 1,024), what endorses it: the
            VCEK in DER, or a TDX quote.
        tcti: how the TPM is reached, as `tpm2-tss` writes it; None: as is usual on this machine.
        event_log: where the firmware's log is.

    Raises:
        TpmUnavailable: (on construction) the extra `tpm` is not installed.
    """

    platform = AZURE

    def __init__(
        self,
        endorse: Callable[[bytes], bytes],
        tcti: str | None = None,
        *,
        event_log: Path = FIRMWARE,
    ) -> None:
        self._stack = load_stack()
        self._endorse = endorse
        self._tcti = tcti
        self._event_log = event_log

    def attest(self, report_data: bytes) -> Evidence:
        """Return a quote, with the hardware's endorsement within, and the firmware's log.

        Raises:
            TpmUnavailable: the TPM does not answer, or is not one of a confidential machine.
        """
        try:
            quote = self.quote(report_data)
        except MalformedEvidence as error:
            raise TpmUnavailable(f"what the TPM holds of the hardware: {error}") from error
        return Evidence(quote, event_log=read_event_log(self._event_log))

    def quote(self, report_data: bytes) -> bytes:
        """Return evidence whose quote binds the SHA-256 of 64 bytes of report data.

        Raises:
            TpmUnavailable: the TPM does not answer, or is not one of a confidential machine.
            MalformedEvidence: what it holds is no HCL report.
        """
        with open_device(self._stack, self._tcti) as device:
            report = device.read_nv(HCL_REPORT)
            with device.attestation_key(ATTESTATION_KEY) as key:
                quoted = device.quote(key, hashlib.sha256(report_data).digest())
        parsed = HclReport.parse(report)
        endorsement = self._endorse(parsed.hardware)
        is_snp = parsed.kind is Hardware.SNP
        return AzureEvidence(
            message=quoted.attest,
            signature=parse_signature(quoted.signature).value,
            registers=tuple(quoted.registers.values()),
            hcl_report=report,
            vcek=endorsement if is_snp else b"",
            td_quote=b"" if is_snp else endorsement,
        ).encode()
