"""Report data: the 64 bytes by which a quote vouches for a key document (DESIGN, section 4).

    report data = SHA-256("sottovoce report v1" || key document digest || SHA-256(GPU reports))
                  || nonce

The GPU reports are hashed one after the other without framing: each names its own length inside,
and a verifier parses each to its last byte, so no boundary between two can be moved unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LABEL = b"sottovoce report v1"
LENGTH = 64
NO_NONCE = bytes(32)
"""The nonce of a bundle that is the same for all clients."""


def report_data(
    key_document_digest: bytes, gpu_reports: Sequence[bytes] = (), nonce: bytes = NO_NONCE
) -> bytes:
    """Return the report data over a key document's digest (32 bytes), 64 bytes.

    Raises:
        ValueError: a digest or a nonce that is not 32 bytes.
    """
    if len(key_document_digest) != 32 or len(nonce) != 32:
        raise ValueError("a digest and a nonce are 32 bytes each")
    gpu_digest = hashlib.sha256(b"".join(gpu_reports)).digest()
    return hashlib.sha256(LABEL + key_document_digest + gpu_digest).digest() + nonce
