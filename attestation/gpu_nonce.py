"""GPU nonces: the 32 bytes by which a GPU's report belongs to a key document (DESIGN, section 4).

    GPU nonce = SHA-256("sottovoce gpu nonce v1" || index || key document digest || nonce)

`index` is the GPU's place among the node's GPUs, from zero, four bytes in network order; `nonce` is
the one of the report data: zeros in the logged bundle, the client's own when it asks for a fresh
quote. So the order is: key document, GPU nonces, GPU reports, report data, quote. The key document
cannot name the reports, which come after it; the report data does.
"""

from __future__ import annotations

import hashlib

from attestation.report_data import NO_NONCE

LABEL = b"sottovoce gpu nonce v1"


def gpu_nonce(key_document_digest: bytes, index: int, nonce: bytes = NO_NONCE) -> bytes:
    """Return the nonce for the GPU at `index`, 32 bytes.

    Raises:
        ValueError: a digest or a nonce that is not 32 bytes, or an index that is no u32.
    """
    if len(key_document_digest) != 32 or len(nonce) != 32:
        raise ValueError("a digest and a nonce are 32 bytes each")
    if not 0 <= index < 1 << 32:
        raise ValueError("an index is a u32")
    return hashlib.sha256(LABEL + index.to_bytes(4) + key_document_digest + nonce).digest()
