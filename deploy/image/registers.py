"""What a boot of the image leaves in a TPM's registers, computed before there is one.

    0   the firmware: stated, not computed (`Machine`)
    2   firmware of devices: none, so the separator alone
    4   the image as the firmware started it (its Authenticode digest)
    7   secure boot: its variables, and the certificate that let the image run
    9   the command line and the initrd as the kernel took them over
    11  the image's sections, by systemd's stub
    8, 12, 13, 14   nothing

TCG PC Client Platform Firmware Profile 1.06; systemd-stub(7); Linux, `efi-stub-helper.c`. These are
the registers whose values make up the measurement of the platform `tpm`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attestation.verifier.tpm.platform import TPM, measure
from attestation.verifier.tpm.policy import MEASURED, MEASURED_BANK
from deploy.image import firmware, uki

SEPARATOR = bytes(4)
BOOT = b"Calling EFI Application from Boot Option"
SECURE_BOOT = ("SecureBoot", "PK", "KEK", "db", "dbx")
STUB_ORDER = (".linux", ".osrel", ".cmdline", ".initrd")

_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_SIGNATURE_LIST = 28
_OWNER = 16
_CHECKSUM, _DIRECTORIES, _CERTIFICATES = 88, 136, 4


@dataclass(frozen=True)
class Machine:
    """The machine that boots the image, as far as that shows in the registers.

    Attributes:
        register_0: the firmware. It was read on such a machine, and is no function of the file:
            OVMF's first modules run in place and write the machine's shape into what is measured.
        variables: the firmware's variables, secure boot's among them.
    """

    register_0: bytes
    variables: bytes


def measurement(image: bytes, machine: Machine) -> bytes:
    """Return the measurement of nodes that boot this image, as a release in the log states it."""
    return measure(TPM, b"", {MEASURED_BANK: predict(image, machine)})


def predict(image: bytes, machine: Machine) -> Mapping[int, bytes]:
    """Return the registers that a release states."""
    return dict.fromkeys(MEASURED, bytes(32)) | {
        0: machine.register_0,
        2: extended([sha256(SEPARATOR)]),
        4: extended([sha256(BOOT), sha256(SEPARATOR), authenticode(image)]),
        7: extended(secure_boot_digests(machine.variables)),
        9: extended(kernel_digests(image)),
        11: extended(stub_digests(image)),
    }


def secure_boot_digests(store: bytes) -> list[bytes]:
    """Return what is extended into register 7: the image is signed by the first key of `db`."""
    found = {"SecureBoot": (_GLOBAL, b"\1"), **firmware.variables(store)}
    if missing := [name for name in SECURE_BOOT if name not in found]:
        raise firmware.FirmwareError(f"the variables of secure boot lack {', '.join(missing)}")
    measured = [_variable(name, *found[name]) for name in SECURE_BOOT]
    vendor, signatures = found["db"]
    authority = _variable("db", vendor, signatures[_SIGNATURE_LIST:])
    return [*map(sha256, measured), sha256(SEPARATOR), sha256(authority)]


def kernel_digests(image: bytes) -> list[bytes]:
    """Return what is extended into register 9: load options with their final zero, then initrd."""
    parts = _parts(image)
    options = parts[".cmdline"].decode().encode("utf-16-le") + bytes(2)
    return [sha256(options), sha256(parts[".initrd"])]


def stub_digests(image: bytes) -> list[bytes]:
    """Return what is extended into register 11: of each section its name, then its content."""
    parts = _parts(image)
    return [
        sha256(measured) for name in STUB_ORDER for measured in (name.encode() + b"\0", parts[name])
    ]


def authenticode(image: bytes) -> bytes:
    """Return the digest of a PE file that signatures are over: all but checksum and signatures.

    A signed and an unsigned image have the same. (Windows Authenticode Portable Executable
    Signature Format, "Calculating the PE Image Hash"; sections follow each other in the file.)
    """
    optional = uki.pe_header(image) + 24
    checksum = optional + _CHECKSUM - 24
    entry = optional + _DIRECTORIES - 24 + 8 * _CERTIFICATES
    start, size = struct.unpack_from("<II", image, entry)
    end = start if size else len(image)
    digest = hashlib.sha256(image[:checksum])
    digest.update(image[checksum + 4 : entry])
    digest.update(image[entry + 8 : end])
    digest.update(bytes(-end % 8))
    return digest.digest()


def extended(digests: Iterable[bytes]) -> bytes:
    """Return what a register of SHA-256 holds after these digests."""
    value = bytes(32)
    for digest in digests:
        value = sha256(value + digest)
    return value


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(data).digest()


def _parts(image: bytes) -> dict[str, bytes]:
    found = uki.sections(image)
    missing = [name for name in STUB_ORDER if name not in found]
    if missing:
        raise uki.ImageError(f"not a unified kernel image: no {', '.join(missing)}")
    return {name: uki.content(image, found[name]) for name in STUB_ORDER}


def _variable(name: str, vendor: bytes, data: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA."""
    text = name.encode("utf-16-le")
    return vendor + struct.pack("<QQ", len(name), len(data)) + text + data
