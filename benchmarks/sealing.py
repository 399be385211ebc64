"""How fast one core seals, by size of the unit: one JSON object a line.

CPU time of the thread, the best of several rounds; `library` is who computes.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import aead

SIZES = (4096, 65536, 262144, 1 << 20)
ROUNDS, BYTES = 7, 64 << 20
CIPHERS = {
    ("aes-256-gcm", "default"): aead.aes_256_gcm,
    ("aes-256-gcm", "libcrypto"): lambda key: aead.Evp("EVP_aes_256_gcm", bytearray(key)),
    ("chacha20-poly1305", "default"): aead.chacha20_poly1305,
}


def seconds(cipher: aead.Aead, size: int) -> float:
    """CPU seconds of one unit, the best of some rounds."""
    data, out, best = bytes(size), bytearray(size + aead.TAG), float("inf")
    count = max(1, BYTES // size)
    for _ in range(ROUNDS):
        began = time.thread_time()
        for number in range(count):
            cipher.seal_into(number.to_bytes(aead.NONCE), data, bytes(29), out)
        best = min(best, (time.thread_time() - began) / count)
    return best


for (name, library), make in CIPHERS.items():
    for size in SIZES:
        rate = size / seconds(make(bytes(range(32))), size) / 1e9
        case = f"sweep sealing @ {name} {library} {size // 1024} KiB"
        line = {"case": case, "value": round(rate, 2), "unit": "GB/s a core", "samples": ROUNDS}
        print(json.dumps({**line, "emulated": False}), flush=True)  # noqa: T201 - its output
