"""How fast one core seals, by size of the unit: `python -m engine.transfer.sealing_bench`.

One JSON object a line. CPU time of the thread, the best of several rounds; in a case's name,
`libcrypto` is the system's OpenSSL, `default` that of `cryptography` where it is installed.
"""

from __future__ import annotations

import json
import sys
import time

from engine import aead

_SIZES = (4096, 65536, 262144, 1 << 20)
_ROUNDS, _BYTES = 7, 64 << 20
_CIPHERS = {
    "aes-256-gcm default": aead.aes_256_gcm,
    "aes-256-gcm libcrypto": lambda key: aead.Evp("EVP_aes_256_gcm", bytearray(key)),
    "chacha20-poly1305 default": aead.chacha20_poly1305,
}


def seconds(cipher: aead.Aead, size: int) -> float:
    """Return the CPU seconds of one unit, the best of some rounds."""
    data, out, best = bytes(size), bytearray(size + aead.TAG), float("inf")
    count = max(1, _BYTES // size)
    for _ in range(_ROUNDS):
        began = time.thread_time()
        for number in range(count):
            cipher.seal_into(number.to_bytes(aead.NONCE), data, bytes(29), out)
        best = min(best, (time.thread_time() - began) / count)
    return best


def main() -> None:
    """Print a line a cipher and size."""
    for name, make in _CIPHERS.items():
        for size in _SIZES:
            rate = size / seconds(make(bytes(range(32))), size) / 1e9
            case = f"sweep sealing @ {name} {size // 1024} KiB"
            line = {"case": case, "value": round(rate, 2), "unit": "GB/s a core"}
            line |= {"samples": _ROUNDS, "emulated": False}
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
