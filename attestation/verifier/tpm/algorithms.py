"""The algorithms of a TPM that are understood here (TCG Algorithm Registry, section 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from cryptography.hazmat.primitives import hashes


class Algorithm(IntEnum):
    """TPM_ALG_ID."""

    RSA = 0x0001
    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDAA = 0x001A
    ECC = 0x0023


BANKS: Mapping[int, str] = MappingProxyType(
    {
        Algorithm.SHA1: "sha1",
        Algorithm.SHA256: "sha256",
        Algorithm.SHA384: "sha384",
        Algorithm.SHA512: "sha512",
    }
)
"""The banks of registers by the algorithm that extends them, under `hashlib`'s names."""

SIZES: Mapping[str, int] = MappingProxyType(
    {name: hashlib.new(name).digest_size for name in BANKS.values()}
)
"""How many bytes a register of each bank has."""

SIGNING_DIGESTS: Mapping[int, hashes.SHA256 | hashes.SHA384] = MappingProxyType(
    {Algorithm.SHA256: hashes.SHA256(), Algorithm.SHA384: hashes.SHA384()}
)
"""The digests that a signature may be over."""

REGISTERS = 24
"""How many registers a bank of a PC client's TPM has (PC Client Platform TPM Profile, 4.6)."""
