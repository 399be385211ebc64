"""Ed25519 seed files: 64 lower-case hex characters and a newline, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def write_seed(path: Path) -> bytes:
    """Make a new seed file and return the 32-byte seed.

    Raises:
        FileExistsError: there is a file already; a key is never overwritten.
    """
    seed = secrets.token_bytes(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(seed.hex() + "\n")
    return seed


def read_seed(path: Path) -> bytes:
    """Return the 32-byte seed in `path`.

    Raises:
        ValueError: the file holds something else.
    """
    seed = bytes.fromhex(path.read_text().strip())
    if len(seed) != 32:
        raise ValueError(f"{path} does not hold a 32-byte seed")
    return seed


def public_key(seed: bytes) -> bytes:
    """Return the raw Ed25519 public key (32 bytes) of `seed`."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
