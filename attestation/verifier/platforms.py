"""The platforms whose quotes can be verified, by the names that bundles use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attestation.verifier import simulated
from attestation.verifier.amd import platform as amd
from attestation.verifier.intel import platform as intel
from attestation.verifier.quote import Platform

PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        simulated.NAME: simulated.Simulated(),
        amd.NAME: amd.Snp(),
        intel.NAME: intel.Tdx(),
    }
)
