"""The vendors' roots of trust, pinned by the SHA-256 fingerprint of their DER certificates.

Public facts, and the only trust in this package that is not an argument: nothing reads them but
`PINNED`, which a caller passes to a verifier, or does not. A trust file names its own roots, a
test makes roots of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def _pin(*fingerprints: str) -> frozenset[bytes]:
    return frozenset(map(bytes.fromhex, fingerprints))


# Intel
INTEL: frozenset[bytes] = _pin()

# AMD
AMD: frozenset[bytes] = _pin()

# NVIDIA
NVIDIA: frozenset[bytes] = _pin(
    # NVIDIA Device Identity CA, 2021 to 9999: of GPUs
    "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
    # NVIDIA CoRIM signing Root CA, 2023 to 2053: of reference integrity manifests
    "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1",
)

# TPM: Google, and makers of TPMs
GOOGLE: frozenset[bytes] = _pin()
TPM: frozenset[bytes] = _pin()

PINNED: Mapping[str, frozenset[bytes]] = MappingProxyType(
    {
        "tdx": INTEL,
        "snp": AMD,
        "nvidia": NVIDIA,
        "azure-vtpm": INTEL | AMD,
        "gce-vtpm": GOOGLE,
        "tpm": TPM,
    }
)
"""For each kind of evidence, the fingerprints of the roots it may lead to."""
