"""Key configurations of Oblivious HTTP (RFC 9458, section 3).

    Key Config {
      Key Identifier (8),
      HPKE KEM ID (16),
      HPKE Public Key (Npk * 8),
      HPKE Symmetric Algorithms Length (16) = 4..65532,
      HPKE Symmetric Algorithms { KDF ID (16), AEAD ID (16) } ...,
    }

`application/ohttp-keys` is a list of them, each behind its 16-bit length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from wire.errors import Malformed, Truncated
from wire.hpke import PUBLIC_KEY_LENGTH, Aead, Kdf, Kem, suite_of


@dataclass(frozen=True)
class KeyConfig:
    """One public key of a gateway, its number, and the algorithms it is used with."""

    key_id: int
    kem: Kem
    public_key: bytes
    algorithms: tuple[tuple[Kdf, Aead], ...]

    def __post_init__(self) -> None:
        if not 0 <= self.key_id <= 255:
            raise Malformed("a key identifier is one byte")
        if len(self.public_key) != PUBLIC_KEY_LENGTH[self.kem]:
            raise Malformed("the public key is not of the KEM's length")
        if not self.algorithms or len(set(self.algorithms)) != len(self.algorithms):
            raise Malformed("a key config names its algorithms, each once")

    def encode(self) -> bytes:
        """Encode without the list's length in front."""
        algorithms = b"".join(struct.pack(">HH", kdf, aead) for kdf, aead in self.algorithms)
        head = struct.pack(">BH", self.key_id, self.kem)
        return head + self.public_key + struct.pack(">H", len(algorithms)) + algorithms

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode exactly one key config.

        Raises:
            Truncated, Malformed: not a key config, or more than one.
            Unsupported: an algorithm that is not accepted. Skipping it would let one config have
                two encodings, and so two digests.
        """
        if len(data) < 3:
            raise Truncated("a key config is cut off")
        key_id, kem_id = struct.unpack(">BH", data[:3])
        kem = suite_of(kem_id, Kdf.HKDF_SHA256, Aead.AES_128_GCM).kem
        algorithms_at = 3 + PUBLIC_KEY_LENGTH[kem] + 2
        if len(data) < algorithms_at:
            raise Truncated("a key config is cut off")
        length = int.from_bytes(data[algorithms_at - 2 : algorithms_at], "big")
        if length % 4:
            raise Malformed("a list of algorithms is not a multiple of four bytes long")
        if len(data) < algorithms_at + length:
            raise Truncated("a key config is cut off")
        if len(data) > algorithms_at + length:
            raise Malformed("trailing bytes after a key config")
        suites = [suite_of(kem, *pair) for pair in struct.iter_unpack(">HH", data[algorithms_at:])]
        algorithms = tuple((suite.kdf, suite.aead) for suite in suites)
        return cls(key_id, kem, data[3 : algorithms_at - 2], algorithms)


def encode_list(configs: Iterable[KeyConfig]) -> bytes:
    """Encode `application/ohttp-keys`."""
    encoded = [config.encode() for config in configs]
    return b"".join(struct.pack(">H", len(config)) + config for config in encoded)


def decode_list(data: bytes) -> tuple[KeyConfig, ...]:
    """Decode `application/ohttp-keys`; one bad config makes the whole list bad.

    Raises:
        Truncated, Malformed: not such a list, an empty one, or two configs with one key id.
        Unsupported: a config names an algorithm that is not accepted.
    """
    configs: list[KeyConfig] = []
    offset = 0
    while offset < len(data):
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        if end > len(data):
            raise Truncated("a list of key configs is cut off")
        configs.append(KeyConfig.decode(data[offset + 2 : end]))
        offset = end
    if not configs:
        raise Malformed("an empty list of key configs")
    if len({config.key_id for config in configs}) != len(configs):
        raise Malformed("two key configs have one key identifier")
    return tuple(configs)
