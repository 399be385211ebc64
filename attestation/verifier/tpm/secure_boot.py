"""Secure boot, as the firmware measured it into register 7 before it ran anything of others.

PC Client Platform Firmware Profile 1.06, section 3.3.4.8: the variable `SecureBoot` is the first of
those that are measured there, as EV_EFI_VARIABLE_DRIVER_CONFIG, whose digest is over its data:

    UEFI_VARIABLE_DATA = GUID, name length u64 (UTF-16 units), data length u64, name, data
"""

from __future__ import annotations

from uuid import UUID

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm.event_log import EventLogClaims
from attestation.verifier.tpm.events import Event, EventType
from attestation.verifier.tpm.reader import Reader

REGISTER = 7
_GLOBAL_VARIABLE = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le
_NAME = "SecureBoot".encode("utf-16-le")
_MAX_NAME = 512


def secure_boot(log: EventLogClaims) -> bool | None:
    """Return whether secure boot was on; None if register 7 was not quoted, or does not say.

    Raises:
        Refused: a variable is not of its format, or secure boot is measured more than once.
    """
    states = []
    for event in log.events:
        if event.index != REGISTER:
            continue
        if event.type == EventType.EV_SEPARATOR:
            break  # behind it anybody can measure what looks like a variable
        if event.type == EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
            states += _states(event)
    if len(states) > 1:
        raise Refused(Code.TPM_SECURE_BOOT_AMBIGUOUS, "secure boot is measured more than once")
    return states[0] if states else None


def parse_variable(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Parse a UEFI_VARIABLE_DATA into GUID, name (UTF-16, little-endian) and data.

    Raises:
        MalformedEvidence: not of the format; with bytes behind it; a name that is too long.
    """
    reader = Reader(data, "UEFI_VARIABLE_DATA", order="little")
    guid, units, size = reader.take(16), reader.integer(8), reader.integer(8)
    if units > _MAX_NAME:
        raise MalformedEvidence("UEFI_VARIABLE_DATA: its name is too long")
    name, value = reader.take(2 * units), reader.take(size)
    reader.finish()
    return guid, name, value


def _states(event: Event) -> list[bool]:
    try:
        guid, name, value = parse_variable(event.data)
    except MalformedEvidence as error:
        raise Refused(Code.TPM_EVENT_LOG_MALFORMED, str(error)) from error
    return [value == b"\x01"] if (guid, name) == (_GLOBAL_VARIABLE, _NAME) else []
