"""The opaque data of a GPU's report: what the GPU states of itself, signed with the measurements.

DSP0274 leaves the field to the vendor. NVIDIA's is a list of typed values, little-endian, in one of
two forms, which the first bytes tell apart:

    legacy:  (type u16, size u16, value)*
    headed:  "NVDAOD", profile u16 = 0, major u8, minor u8, 2 bytes,
             (type u16, value type u16, size u16, value)*

The types and their values are those that NVIDIA's own verifiers know (nvtrust, attestation-sdk).
A type that is not known here is kept and means nothing; a type that occurs twice is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from attestation.errors import MalformedEvidence
from attestation.verifier.nvidia.reader import Reader

MAX_LENGTH = 1024
"""DSP0274 1.1, MEASUREMENTS: opaque data is not longer."""

MAX_VERSION = 2
"""The newest version of the data whose meaning is published."""

_MAGIC = b"NVDAOD"
_TEXT = re.compile(rb"[ -~]{1,63}")
_VBIOS_LENGTH = 8
_FIRMWARE_ID_LENGTH = 48


class Type(IntEnum):
    """The types of values that are understood."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0_STATUS = 11
    CHIP_SKU = 15
    PROJECT = 17
    PROJECT_SKU = 18
    FIRMWARE_ID = 20
    PROTECTED_PCIE_STATUS = 21
    VERSION = 34
    FEATURE_FLAG = 36


class MultiGpuMode(StrEnum):
    """How a GPU in confidential mode is joined to others, as its report states it."""

    SINGLE = "spt"
    """Single-GPU passthrough: no link to another GPU."""

    MULTI = "mpt"
    """Multi-GPU passthrough with encrypted links (Blackwell)."""

    PROTECTED_PCIE = "ppcie"
    """Links in clear, through switches that would have to be attested too (Hopper)."""

    UNSTATED = "unstated"
    """The report does not say, as those of old drivers."""

    UNKNOWN = "unknown"
    """A value without a published meaning."""


_FEATURE_FLAGS = {0: MultiGpuMode.SINGLE, 1: MultiGpuMode.MULTI, 2: MultiGpuMode.PROTECTED_PCIE}
_ON, _OFF = b"\xaa", b"\x55"


@dataclass(frozen=True)
class OpaqueData:
    """What a GPU states of itself.

    Attributes:
        fields: each value by its type.
    """

    fields: Mapping[int, bytes]

    @property
    def driver_version(self) -> str:
        """The version of the driver: `550.90.07`. Empty if not stated, as each text here."""
        return self._text(Type.DRIVER_VERSION)

    @property
    def chip_sku(self) -> str:
        """Part of the VBIOS manifest's name, with the next two."""
        return self._text(Type.CHIP_SKU)

    @property
    def project(self) -> str:
        """The board's project."""
        return self._text(Type.PROJECT)

    @property
    def project_sku(self) -> str:
        """The board's variant."""
        return self._text(Type.PROJECT_SKU)

    @property
    def vbios_version(self) -> str:
        """The version of the VBIOS as people write it, `96.00.9F.00.01`; empty if not stated.

        Eight bytes, little-endian: four of the version proper, then the fifth part, then zeros.
        """
        value = self._sized(Type.VBIOS_VERSION, _VBIOS_LENGTH)
        if not value:
            return ""
        return ".".join(f"{part:02X}" for part in (*reversed(value[:4]), value[4]))

    @property
    def firmware_id(self) -> bytes:
        """The firmware id (SHA-384) that the certificate must state; empty if not stated."""
        return self._sized(Type.FIRMWARE_ID, _FIRMWARE_ID_LENGTH)

    @property
    def nvdec0_disabled(self) -> bool:
        """Whether the video decoder is switched off, which leaves one measurement undefined."""
        return self._sized(Type.NVDEC0_STATUS, 1) == _OFF

    @property
    def multi_gpu_mode(self) -> MultiGpuMode:
        """How the GPU is joined to others. Of two statements that differ, the weaker one."""
        if self._sized(Type.PROTECTED_PCIE_STATUS, 1) == _ON:
            return MultiGpuMode.PROTECTED_PCIE
        if Type.FEATURE_FLAG in self.fields:
            flag = int.from_bytes(self._sized(Type.FEATURE_FLAG, 2), "little")
            return _FEATURE_FLAGS.get(flag, MultiGpuMode.UNKNOWN)
        if self._sized(Type.PROTECTED_PCIE_STATUS, 1) == _OFF:
            return MultiGpuMode.SINGLE
        return MultiGpuMode.UNSTATED

    def _sized(self, kind: Type, length: int) -> bytes:
        value = self.fields.get(kind, b"")
        if value and len(value) != length:
            raise MalformedEvidence(f"opaque data: {kind.name} is not {length} bytes")
        return value

    def _text(self, kind: Type) -> str:
        value = self.fields.get(kind, b"").rstrip(b"\x00")
        if value and not _TEXT.fullmatch(value):
            raise MalformedEvidence(f"opaque data: {kind.name} is not text")
        return value.decode()


def decode(data: bytes) -> OpaqueData:
    """Decode opaque data; every value that is understood is checked.

    Raises:
        MalformedEvidence: truncated, too long, a type twice, a value that is not of its type, or a
            version or profile whose meaning is not published.
    """
    if len(data) > MAX_LENGTH:
        raise MalformedEvidence("opaque data: too long")
    reader = Reader(data, "opaque data")
    headed = data.startswith(_MAGIC)
    version = _read_header(reader) if headed else 0
    fields: dict[int, bytes] = {}
    while not reader.exhausted:
        kind = reader.uint(2)
        reader.take(2 if headed else 0)
        if kind in fields:
            raise MalformedEvidence(f"opaque data: type {kind} twice")
        fields[kind] = reader.take(reader.uint(2))
    version = version or int.from_bytes(fields.get(Type.VERSION, b""), "little")
    if version > MAX_VERSION:
        raise MalformedEvidence(f"opaque data: version {version}")
    return _checked(OpaqueData(fields))


def _read_header(reader: Reader) -> int:
    reader.take(len(_MAGIC))
    if reader.uint(2) != 0:
        raise MalformedEvidence("opaque data: another profile")
    major = reader.uint(1)
    reader.take(3)  # the minor version, which changes no meaning, and two bytes without one
    return major


def _checked(data: OpaqueData) -> OpaqueData:
    # Each raises on a value that is not of its type: refused here, not where it is first needed.
    _ = data.driver_version, data.chip_sku, data.project, data.project_sku, data.vbios_version
    _ = data.firmware_id, data.nvdec0_disabled, data.multi_gpu_mode
    return data
