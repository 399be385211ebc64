"""X-Wing, the hybrid of ML-KEM-768 and X25519 (draft-connolly-cfrg-xwing-kem), for HPKE.

    seed            32 bytes; SHAKE256(seed, 96) = ML-KEM seed (64) || X25519 scalar (32)
    public key      ML-KEM public key (1184) || X25519 public key (32)
    ciphertext      ML-KEM ciphertext (1088) || X25519 ephemeral public key (32)
    shared secret   SHA3-256(ss_M || ss_X || ct_X || pk_X || label)

Whoever breaks only one of the two learns nothing. The classes plug into pyhpke's key schedule as
KEM 0x647A. Third-party errors pass through here; `wire.hpke` turns them into ours.
"""

from __future__ import annotations

import hashlib
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pyhpke import KEMInterface, KEMKeyInterface, KEMKeyPair

SEED_LENGTH = 32
PUBLIC_KEY_LENGTH = 1216
CIPHERTEXT_LENGTH = 1120

_MLKEM_SEED = 64
_MLKEM_PUBLIC_KEY = 1184
_MLKEM_CIPHERTEXT = 1088
_LABEL = b"\\.//^\\"  # the draft's ASCII drawing of an X-wing


class _Id(Enum):
    XWING = 0x647A


class XWingPublicKey(KEMKeyInterface):
    """Both public keys of a recipient.

    Raises:
        ValueError: wrong length, or not a canonical ML-KEM key.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.mlkem = MLKEM768PublicKey.from_public_bytes(data[:_MLKEM_PUBLIC_KEY])
        self.x25519 = X25519PublicKey.from_public_bytes(data[_MLKEM_PUBLIC_KEY:])

    def to_public_bytes(self) -> bytes:
        """Return the 1216 bytes of the public key."""
        return self.mlkem.public_bytes_raw() + self.x25519.public_bytes_raw()


class XWingPrivateKey(KEMKeyInterface):
    """Both private keys of a recipient, expanded from one seed of 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        super().__init__(None)  # the seed itself is not kept: the two keys are enough
        expanded = hashlib.shake_256(seed).digest(96)
        self.mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED])
        self.x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED:])

    def to_public_bytes(self) -> bytes:
        """Return the 1216 bytes of the public key."""
        return (
            self.mlkem.public_key().public_bytes_raw() + self.x25519.public_key().public_bytes_raw()
        )


def _combine(mlkem_secret: bytes, x25519_secret: bytes, enc_x: bytes, public_x: bytes) -> bytes:
    return hashlib.sha3_256(mlkem_secret + x25519_secret + enc_x + public_x + _LABEL).digest()


class XWingKem(KEMInterface):
    """The KEM, in the shape pyhpke's `CipherSuite` takes. Base mode only: it has no sender keys."""

    @property
    def id(self) -> _Id:  # type: ignore[override] # pyhpke's enumeration ends before X-Wing
        """KEM 0x647A."""
        return _Id.XWING

    def deserialize_private_key(self, key: bytes) -> KEMKeyInterface:
        """Expand a seed of 32 bytes."""
        return XWingPrivateKey(key)

    def deserialize_public_key(self, key: bytes) -> KEMKeyInterface:
        """Read the 1216 bytes of a public key; ValueError if they are none."""
        return XWingPublicKey(key)

    def encap(
        self,
        pkr: KEMKeyInterface,
        sks: KEMKeyInterface | None = None,
        eks: KEMKeyPair | None = None,
    ) -> tuple[bytes, bytes]:
        """Return the shared secret and its encapsulation to `pkr`.

        The randomness is the library's own: `cryptography` offers no other for ML-KEM.

        Raises:
            ValueError: `pkr` holds no X-Wing key or a degenerate X25519 key; `sks` or `eks` given.
        """
        if not isinstance(pkr, XWingPublicKey) or sks is not None or eks is not None:
            raise ValueError("X-Wing encapsulates to an X-Wing public key, in base mode")
        ephemeral = X25519PrivateKey.generate()
        enc_x = ephemeral.public_key().public_bytes_raw()
        mlkem_secret, enc_mlkem = pkr.mlkem.encapsulate()
        x25519_secret = ephemeral.exchange(pkr.x25519)
        public_x = pkr.x25519.public_bytes_raw()
        return _combine(mlkem_secret, x25519_secret, enc_x, public_x), enc_mlkem + enc_x

    def decap(self, enc: bytes, skr: KEMKeyInterface, pks: KEMKeyInterface | None = None) -> bytes:
        """Return the shared secret that `enc` encapsulates to `skr`.

        ML-KEM rejects implicitly: a wrong `enc` of the right length gives an unrelated secret.

        Raises:
            ValueError: wrong length, a degenerate X25519 share, or not an X-Wing key.
        """
        if not isinstance(skr, XWingPrivateKey) or pks is not None:
            raise ValueError("X-Wing decapsulates with an X-Wing private key, in base mode")
        enc_x = enc[_MLKEM_CIPHERTEXT:]
        mlkem_secret = skr.mlkem.decapsulate(enc[:_MLKEM_CIPHERTEXT])
        x25519_secret = skr.x25519.exchange(X25519PublicKey.from_public_bytes(enc_x))
        public_x = skr.x25519.public_key().public_bytes_raw()
        return _combine(mlkem_secret, x25519_secret, enc_x, public_x)
