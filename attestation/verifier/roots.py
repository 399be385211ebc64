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
INTEL: frozenset[bytes] = _pin(
    # Intel SGX Root CA, 2018 to 2049: of SGX and TDX
    "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
)

# AMD
AMD: frozenset[bytes] = _pin()

# NVIDIA
NVIDIA: frozenset[bytes] = _pin()

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
