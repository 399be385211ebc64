"""Event logs, where Linux shows them: read as they are, and judged by nobody here."""

from __future__ import annotations

from pathlib import Path

from attestation.errors import AttesterFailed
from attestation.verifier.tpm.events import MAX_LOG

FIRMWARE = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
"""What the firmware measured into a TPM (Documentation/security/tpm/tpm_event_log.rst)."""

CONFIDENTIAL = Path("/sys/firmware/acpi/tables/data/CCEL")
"""What the firmware measured into a confidential guest's registers (ACPI 6.5, section 5.2.34)."""


def read_event_log(path: Path) -> bytes:
    """Return an event log; nothing where the kernel shows none, or not to this process.

    Raises:
        AttesterFailed: longer than a verifier takes one.
    """
    try:
        with path.open("rb") as file:
            log = file.read(MAX_LOG + 1)
    except OSError:
        return b""
    if len(log) > MAX_LOG:
        raise AttesterFailed("the kernel's event log is too long")
    return log
