"""A GPU's measurements against the golden ones of its driver and its VBIOS.

Each active golden measurement must equal what the GPU has measured: one of its alternatives.
Manifests count from zero, reports from one. A measurement that both manifests state is a conflict.
When the video decoder is off, measurement 35 has no defined value and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from attestation.errors import Code, Refused
from attestation.verifier.nvidia.claims import GpuClaims, Match
from attestation.verifier.nvidia.rim import Rim

VIDEO_DECODER = 35
"""The measurement that a GPU without its video decoder leaves undefined."""

MODE: Mapping[str, int] = {"hopper": 9}
"""For each architecture, the measurement that covers the confidential mode: whether it is on, and
not `devtools`. Of Hopper, NVIDIA's maintainers of nvtrust have said so (March 2026); of Blackwell,
nothing is published."""


def compare(claims: GpuClaims, driver_rim: Rim, vbios_rim: Rim) -> Match:
    """Compare a GPU's measurements with the golden ones.

    Raises:
        Refused: GPU_DRIVER_RIM_MISMATCH, GPU_VBIOS_RIM_MISMATCH, a manifest is for another version;
            GPU_RIM_CONFLICT, both state a measurement; GPU_MEASUREMENT_MISMATCH, one differs.
    """
    _check_version(driver_rim, claims.driver_version, Code.GPU_DRIVER_RIM_MISMATCH)
    _check_version(vbios_rim, claims.vbios_version, Code.GPU_VBIOS_RIM_MISMATCH)
    driver, vbios = driver_rim.golden.measurements, vbios_rim.golden.measurements
    both = sorted(driver.keys() & vbios.keys())
    if both:
        raise Refused(Code.GPU_RIM_CONFLICT, f"driver and VBIOS both state measurements {both}")
    golden = {**driver, **vbios}
    if claims.nvdec0_disabled:
        golden.pop(VIDEO_DECODER, None)
    wrong = [i for i in sorted(golden) if claims.measurements.get(i + 1) not in golden[i]]
    if wrong:
        raise Refused(Code.GPU_MEASUREMENT_MISMATCH, f"measurements {wrong} are not golden")
    return Match(frozenset(golden), MODE.get(claims.architecture) in golden)


def is_for(rim: Rim, version: str) -> bool:
    """Return whether a manifest is for this version; the hexadecimal of a VBIOS has two cases."""
    return rim.golden.version.upper() == version.upper()


def _check_version(rim: Rim, version: str, code: Code) -> None:
    if not is_for(rim, version):
        stated = rim.golden.version
        raise Refused(code, f"the manifest is for {stated}, the GPU runs {version or 'unknown'}")
