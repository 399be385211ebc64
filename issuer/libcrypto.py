"""The raw RSA private operation, by the libcrypto that Python's own `ssl` module stands on.

A blind signature is m^d mod n over a number the signer must not be able to read (RFC 9474, section
4.3). Nearly every library refuses such an operation, and Python's `pow` does it in a time that
depends on d. libcrypto does it with base blinding and in constant time by design: it is decryption
without padding.
"""

from __future__ import annotations

import _ssl
import ctypes
import threading
import weakref
from functools import cache
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from issuer.errors import BlindedOutOfRange, KeyUnusable, LibcryptoMissing, SigningFault

_RSA_NO_PADDING = 3  # openssl/rsa.h

_POINTER = ctypes.c_void_p
_SIZE_POINTER = ctypes.POINTER(ctypes.c_size_t)

# name: (result, arguments). Without these ctypes would pass 64-bit pointers as 32-bit integers.
_SIGNATURES = {
    "d2i_AutoPrivateKey": (_POINTER, (_POINTER, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long)),
    "EVP_PKEY_up_ref": (ctypes.c_int, (_POINTER,)),
    "EVP_PKEY_free": (None, (_POINTER,)),
    "EVP_PKEY_CTX_new": (_POINTER, (_POINTER, _POINTER)),
    "EVP_PKEY_CTX_free": (None, (_POINTER,)),
    "EVP_PKEY_CTX_set_rsa_padding": (ctypes.c_int, (_POINTER, ctypes.c_int)),
    "EVP_PKEY_decrypt_init": (ctypes.c_int, (_POINTER,)),
    "EVP_PKEY_decrypt": (
        ctypes.c_int,
        (_POINTER, ctypes.c_char_p, _SIZE_POINTER, ctypes.c_char_p, ctypes.c_size_t),
    ),
    "ERR_clear_error": (None, ()),
}


@cache
def load() -> ctypes.CDLL:
    """Return libcrypto, found as the library behind Python's own `_ssl`.

    Looking a symbol up in `_ssl` finds it in what `_ssl` was linked with: the library whose
    security updates this machine already receives, under no name that we would have to guess.

    Raises:
        LibcryptoMissing: `_ssl` has none, or one older than OpenSSL 3.
    """
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise LibcryptoMissing(
                f"Python's ssl module stands on no library with {name}"
            ) from None
        function.restype = result
        function.argtypes = arguments
    return library


class RawPrivateKey:
    """A handle on one RSA private key inside libcrypto; any thread may use it at any time.

    Close it, or use it as a context manager. A handle that is merely dropped is freed as well.
    """

    def __init__(self, pkcs8: bytes) -> None:
        """Load an unencrypted PKCS#8 key in DER.

        Raises:
            KeyUnusable: not such a key, or its numbers do not belong together.
            LibcryptoMissing: see `load`.
        """
        numbers = _checked(pkcs8).public_key().public_numbers()
        self.modulus = numbers.n
        self.exponent = numbers.e
        self.size = (numbers.n.bit_length() + 7) // 8
        """Length of the modulus, of every input and of every result, in bytes."""
        self._libcrypto = load()
        self._pointer = self._parse(pkcs8)
        self._lock = threading.Lock()
        self._release = weakref.finalize(self, self._libcrypto.EVP_PKEY_free, self._pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the key. Operations that run in other threads finish; new ones are refused."""
        with self._lock:
            self._release()

    def require_in_range(self, message: bytes) -> None:
        """Check that `message` is `size` bytes and, as a big-endian integer, below the modulus.

        Raises:
            BlindedOutOfRange: it is not (RFC 9474, section 4.3, "message representative out of
                range"). Reducing it would sign something else than was asked for.
        """
        if len(message) != self.size or int.from_bytes(message) >= self.modulus:
            raise BlindedOutOfRange("the blinded message is not below the modulus")

    def blind_sign(self, message: bytes) -> bytes:
        """Return message^d mod n, `size` bytes (RFC 9474, section 4.3, BlindSign).

        Raises:
            BlindedOutOfRange: see `require_in_range`.
            SigningFault: libcrypto failed, the handle is closed, or the result does not give the
                message back: one such result is enough to factor the modulus.
        """
        self.require_in_range(message)
        signature = self._decrypt(message)
        if pow(int.from_bytes(signature), self.exponent, self.modulus) != int.from_bytes(message):
            raise SigningFault("the private operation gave a wrong result")
        return signature

    def _parse(self, pkcs8: bytes) -> int:
        start = ctypes.c_char_p(pkcs8)
        pointer: int | None = self._libcrypto.d2i_AutoPrivateKey(
            None, ctypes.byref(start), len(pkcs8)
        )
        if pointer is None:
            self._libcrypto.ERR_clear_error()
            raise KeyUnusable("libcrypto does not take this key")
        return pointer

    def _acquire(self) -> int:
        # A reference of one's own: `close` in another thread must not free what is in use.
        with self._lock:
            if not self._release.alive:
                raise SigningFault("the key is closed")
            self._libcrypto.EVP_PKEY_up_ref(self._pointer)
            return self._pointer

    def _decrypt(self, message: bytes) -> bytes:
        key = self._acquire()
        context = self._libcrypto.EVP_PKEY_CTX_new(key, None)
        output = ctypes.create_string_buffer(self.size)
        length = ctypes.c_size_t(self.size)
        try:
            done = (
                context is not None
                and self._libcrypto.EVP_PKEY_decrypt_init(context) == 1
                and self._libcrypto.EVP_PKEY_CTX_set_rsa_padding(context, _RSA_NO_PADDING) == 1
                and self._libcrypto.EVP_PKEY_decrypt(
                    context, output, ctypes.byref(length), message, len(message)
                )
                == 1
            )
        finally:
            self._libcrypto.EVP_PKEY_CTX_free(context)
            self._libcrypto.EVP_PKEY_free(key)
        if not done or length.value != self.size:
            self._libcrypto.ERR_clear_error()
            raise SigningFault("the private operation failed")
        return output.raw


def _checked(pkcs8: bytes) -> RSAPrivateKey:
    try:
        key = load_der_private_key(pkcs8, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: nothing of a private key belongs into a traceback.
        raise KeyUnusable("not an unencrypted PKCS#8 private key") from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyUnusable("not an RSA key")
    return key
