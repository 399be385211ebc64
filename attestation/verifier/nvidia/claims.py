"""What is known of a GPU once its report is verified, and what was found out about it since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.verifier.nvidia.opaque import MultiGpuMode


@dataclass(frozen=True)
class Match:
    """A comparison with golden measurements that held.

    Attributes:
        indexes: the measurements that were compared, counted from zero as manifests do.
        mode_measured: one of them covers the GPU's confidential mode, on and not devtools.
    """

    indexes: frozenset[int]
    mode_measured: bool


@dataclass(frozen=True)
class GpuClaims:
    """What a GPU's report states, verified.

    Attributes:
        chip: the chip's name in its certificate: `GH100`; empty if that is not a GPU's.
        architecture: `hopper`, `blackwell`, or `unknown`.
        device: the chip's own identity: SHA-256 of the public key of its device certificate, which
            no firmware changes.
        attestation_key: SHA-256 of the public key that signed the report.
        nonce: the requester's nonce, 32 bytes.
        driver_version: as in the report; empty if not stated.
        vbios_version: likewise.
        multi_gpu_mode: how the GPU is joined to others.
        nvdec0_disabled: the video decoder is off, and measurement 35 undefined.
        measurements: each value by its index in the report, which counts from one.
        firmware_id: as the certificate states it; empty if it does not.
        signature_offset: where in the report its signature stands.
        length: the report's bytes.
        match: what its measurements were found equal to; None if not compared.
        revocation_checked_at: the oldest of the OCSP responses about its chain and its manifests'
            (this-update, unix seconds); None if there were not all.
    """

    chip: str
    architecture: str
    device: bytes
    attestation_key: bytes
    nonce: bytes
    driver_version: str
    vbios_version: str
    multi_gpu_mode: MultiGpuMode
    nvdec0_disabled: bool
    measurements: Mapping[int, bytes]
    firmware_id: bytes
    signature_offset: int
    length: int
    match: Match | None = None
    revocation_checked_at: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the claims for people and programs; bytes in hexadecimal."""
        return {
            "chip": self.chip,
            "architecture": self.architecture,
            "device": self.device.hex(),
            "attestation_key": self.attestation_key.hex(),
            "nonce": self.nonce.hex(),
            "driver_version": self.driver_version,
            "vbios_version": self.vbios_version,
            "multi_gpu_mode": str(self.multi_gpu_mode),
            "nvdec0_disabled": self.nvdec0_disabled,
            "measurement_blocks": len(self.measurements),
            "measurements": {str(i): value.hex() for i, value in self.measurements.items()},
            "fwid": self.firmware_id.hex(),
            "sig_off": self.signature_offset,
            "length": self.length,
            "measurements_compared": None if self.match is None else len(self.match.indexes),
            "confidential_mode_measured": self.match is not None and self.match.mode_measured,
            "revocation_checked_at": self.revocation_checked_at,
        }
