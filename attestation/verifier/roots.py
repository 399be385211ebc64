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

# AMD: the root key (ARK) of each line of processors, under its certificate's own name
ARK_MILAN = "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"
ARK_GENOA = "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"
ARK_TURIN = "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"
AMD: frozenset[bytes] = _pin(ARK_MILAN, ARK_GENOA, ARK_TURIN)

# NVIDIA
NVIDIA: frozenset[bytes] = _pin(
    # NVIDIA Device Identity CA, 2021 to 9999: of GPUs
    "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
    # NVIDIA CoRIM signing Root CA, 2023 to 2053: of reference integrity manifests
    "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1",
)

# TPM: Google, under their certificates' own names
EK_AK_CA_ROOT = "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2"
TPM_EK_V1_CLOUD_HOST_ROOT = "9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf"
GOOGLE: frozenset[bytes] = _pin(EK_AK_CA_ROOT, TPM_EK_V1_CLOUD_HOST_ROOT)
# No maker of TPMs certifies the attestation keys of machines at large: whoever runs them does, with
# a CA whose root belongs in a trust file (docs/decisions, number 11).
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
