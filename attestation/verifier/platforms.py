"""The platforms whose quotes can be verified, by the names that bundles use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attestation.verifier import simulated
from attestation.verifier.amd import platform as amd
from attestation.verifier.intel import platform as intel
from attestation.verifier.quote import Platform
from attestation.verifier.tpm import platform as tpm

PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        simulated.NAME: simulated.Simulated(),
        intel.NAME: intel.Tdx(),
        amd.NAME: amd.Snp(),
        tpm.AZURE: tpm.AzureVtpm(),
        tpm.GCE: tpm.GceVtpm(),
        tpm.TPM: tpm.Tpm(),
    }
)
