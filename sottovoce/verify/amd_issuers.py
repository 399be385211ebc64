"""AMD's own issuers of VCEKs: the ASK and the ARK of a line, as AMD's key service publishes them.

They are here for convenience alone: evidence often comes with the VCEK and without its issuers.
They are trusted as any file would be: because the ARK's fingerprint is pinned. Of other lines
(Turin), and for VLEKs, they must be given.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cryptography.x509 import Certificate

from attestation.verifier import certificates

_FOLDER = Path(__file__).parent / "issuers"


def issuers_of(leaf: Certificate) -> tuple[bytes, ...]:
    """Return the issuers of a VCEK as PEM, one file; nothing if they are not known here."""
    for issuers in _known():
        if certificates.load(issuers, at_most=2)[0].subject == leaf.issuer:
            return (issuers,)
    return ()


@cache
def _known() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(_FOLDER.glob("*.pem")))
