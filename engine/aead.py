"""Authenticated encryption for the engine: AES-256-GCM and ChaCha20-Poly1305, of OpenSSL.

The package `cryptography` brings a recent OpenSSL and is taken where it is installed. The engine
also runs where it is not; but wherever Python hashes there is a libcrypto, the one that `hashlib`
is linked to or the system's, and its EVP interface does the same, OpenSSL 3.0 at a third of the
speed. Sources: NIST SP 800-38D (GCM), RFC 8439 (ChaCha20-Poly1305), RFC 5869 (HKDF).

    AeadError(EngineError)
    ├── TagMismatch    the ciphertext, its nonce or its associated data is not what was sealed
    └── NoLibcrypto    this machine has no OpenSSL 1.1.1 or later that can be loaded

Sealed data are ciphertext and tag, in one buffer. They go from the caller's buffer into the
caller's; nothing is copied on the way. Objects may be shared by threads.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hmac
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias

import numpy as np

from engine.errors import EngineError

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

NONCE = 12
TAG = 16
KEY = 32
_SET_TAG, _GET_TAG = 0x11, 0x10
_LONGEST = 2**31 - 1
"""EVP's lengths are C's int."""
_SHORT = 4096
"""Bytes that are sealed in less time than it takes to give up the interpreter's lock."""


class AeadError(EngineError):
    """Base of what sealing and opening raise."""


class TagMismatch(AeadError):
    """Ciphertext, nonce, associated data or key differ from those that were sealed."""


class NoLibcrypto(AeadError):
    """No libcrypto was found: neither Python's own, nor libcrypto.so.3 or .1.1 on the system."""


class Buffer(Protocol):
    """What has the buffer protocol, contiguous: bytes, memoryview, an array's `data`."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """Return a view of it."""


class Aead(Protocol):
    """A key of an AEAD with nonces of 12 and tags of 16 bytes."""

    def seal(self, nonce: bytes, data: Buffer, associated: bytes) -> bytearray:
        """Return ciphertext and tag. A nonce seals once; to see to that is the caller's part."""

    def open_(self, nonce: bytes, data: Buffer, associated: bytes) -> bytearray:
        """Return what was sealed.

        Raises:
            TagMismatch: it is not authentic.
        """

    def seal_into(self, nonce: bytes, data: Buffer, associated: bytes, out: Buffer) -> None:
        """Write ciphertext and tag into `out`, which is 16 bytes longer than `data`.

        Raises:
            ValueError: a length is wrong, or a buffer is not contiguous.
        """

    def open_into(self, nonce: bytes, data: Buffer, associated: bytes, out: Buffer) -> None:
        """Write what was sealed into `out`, 16 bytes shorter than `data`.

        Raises:
            TagMismatch: it is not authentic. `out` is zeros then.
            ValueError: a length is wrong, or a buffer is not contiguous.
        """

    def close(self) -> None:
        """Let the key go. Nothing can be sealed or opened afterwards."""


def aes_256_gcm(key: Buffer) -> Aead:
    """Return AES-256-GCM under a key of 32 bytes.

    Raises:
        NoLibcrypto: there is none.
    """
    return _make("AESGCM", "EVP_aes_256_gcm", key)


def chacha20_poly1305(key: Buffer) -> Aead:
    """Return ChaCha20-Poly1305 under a key of 32 bytes: what a GPU of ours can open.

    Raises:
        NoLibcrypto: there is none.
    """
    return _make("ChaCha20Poly1305", "EVP_chacha20_poly1305", key)


def hkdf_sha256(secret: Buffer, info: bytes, salt: bytes = b"", length: int = KEY) -> bytearray:
    """Return `length` bytes of HKDF-SHA-256 (RFC 5869)."""
    block, blocks = b"", bytearray()
    extracted = hmac.digest(salt or bytes(32), bytes(memoryview(secret)), "sha256")
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        blocks += block
    return blocks[:length]


def zeroise(buffer: Buffer) -> None:
    """Overwrite a writable, contiguous buffer with zeros."""
    _wipe(bytes_of(buffer))


def bytes_of(buffer: Buffer) -> Bytes:
    """Return a view of the buffer's bytes; it has to be contiguous."""
    return np.frombuffer(memoryview(buffer), np.uint8)


def address(view: Bytes) -> int:
    """Return where the bytes are."""
    return int(view.__array_interface__["data"][0])


def _make(name: str, cipher: str, key: Buffer) -> Aead:
    """Of `cryptography` where it can be imported, else of libcrypto.

    By name: the engine must not need the package, and only this file may use it.
    """
    raw = bytearray(memoryview(key))
    if len(raw) != KEY:
        raise ValueError("a key has 32 bytes")
    if find_spec("cryptography") is None:
        return Evp(cipher, raw)
    return Packaged(name, raw)


class _Whole:
    """The forms that allocate, by those that do not."""

    def seal(self: Aead, nonce: bytes, data: Buffer, associated: bytes) -> bytearray:
        sealed = bytearray(bytes_of(data).size + TAG)
        self.seal_into(nonce, data, associated, sealed)
        return sealed

    def open_(self: Aead, nonce: bytes, data: Buffer, associated: bytes) -> bytearray:
        size = bytes_of(data).size
        if size < TAG:
            raise TagMismatch("shorter than a tag")
        opened = bytearray(size - TAG)
        self.open_into(nonce, data, associated, opened)
        return opened


class Packaged(_Whole):
    """An AEAD of `cryptography`. It erases the key when the last reference goes."""

    def __init__(self, name: str, key: bytearray) -> None:
        """Take the class's name and a key, which is overwritten here."""
        ciphers = import_module("cryptography.hazmat.primitives.ciphers.aead")
        self._mismatch = import_module("cryptography.exceptions").InvalidTag
        self._cipher: Any = getattr(ciphers, name)(key)
        zeroise(key)

    def seal_into(self, nonce: bytes, data: Buffer, associated: bytes, out: Buffer) -> None:
        """See `Aead`."""
        self._ready(nonce).encrypt_into(nonce, data, associated, out)

    def open_into(self, nonce: bytes, data: Buffer, associated: bytes, out: Buffer) -> None:
        """See `Aead`."""
        try:
            self._ready(nonce).decrypt_into(nonce, data, associated, out)
        except self._mismatch:
            zeroise(out)
            raise TagMismatch("not authentic") from None

    def close(self) -> None:
        """See `Aead`."""
        self._cipher = None

    def _ready(self, nonce: bytes) -> Any:  # noqa: ANN401 - the package may not be there
        if len(nonce) != NONCE:
            raise ValueError("a nonce has 12 bytes")
        if self._cipher is None:
            raise AeadError("the key is erased")
        return self._cipher


class Evp(_Whole):
    """One key, and as many EVP contexts under it as threads ever use it at once."""

    def __init__(self, cipher: str, key: bytearray) -> None:
        """Take the name of a function that returns a cipher, and a key, which is kept."""
        self._key = key
        self._calls, self._long = _libcrypto()
        self._cipher = getattr(self._calls, cipher)()
        self._spare: dict[int, list[int]] = {0: [], 1: []}
        self._closed = False

    def seal_into(self, nonce: bytes, data: Buffer, associated: bytes, out: Buffer) -> None:
        """See `Aead`."""
        source, target = bytes_of(data), bytes_of(out)
        _fitting(target, source.size + TAG)
        context = self._begin(1, nonce)
        try:
            self._run(context, source, associated, target)
            self._check(self._calls.EVP_CipherFinal_ex(context, None, ctypes.byref(_INT())))
            tag = address(target) + source.size
            self._check(self._calls.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG, tag))
        finally:
            self._end(1, context)

    def open_into(self, nonce: bytes, data: Buffer, associated: bytes, out: Buffer) -> None:
        """See `Aead`."""
        source, target = bytes_of(data), bytes_of(out)
        _fitting(target, source.size - TAG)
        context = self._begin(0, nonce)
        try:
            self._run(context, source[:-TAG], associated, target)
            tag = source[-TAG:].tobytes()
            self._check(self._calls.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG, tag))
            authentic = self._calls.EVP_CipherFinal_ex(context, None, ctypes.byref(_INT()))
        finally:
            self._end(0, context)
        if authentic != 1:
            _wipe(target)
            raise TagMismatch("not authentic")

    def close(self) -> None:
        """See `Aead`."""
        self._closed = True
        zeroise(self._key)
        for contexts in self._spare.values():
            while contexts:
                self._calls.EVP_CIPHER_CTX_free(contexts.pop())

    def _begin(self, sealing: int, nonce: bytes) -> int:
        """A context that has the key, and now the nonce."""
        if len(nonce) != NONCE:
            raise ValueError("a nonce has 12 bytes")
        if self._closed:
            raise AeadError("the key is erased")
        context = self._context(sealing)
        self._check(self._calls.EVP_CipherInit_ex(context, None, None, None, nonce, sealing))
        return context

    def _context(self, sealing: int) -> int:
        """One that no other thread has: taking from a list is atomic."""
        try:
            return self._spare[sealing].pop()
        except IndexError:
            context: int = self._calls.EVP_CIPHER_CTX_new()
            key = address(bytes_of(self._key))
            self._check(
                self._calls.EVP_CipherInit_ex(context, self._cipher, None, key, None, sealing)
            )
            return context

    def _end(self, sealing: int, context: int) -> None:
        if self._closed:
            self._calls.EVP_CIPHER_CTX_free(context)
        else:
            self._spare[sealing].append(context)

    def _run(self, context: int, source: Bytes, associated: bytes, target: Bytes) -> None:
        """Associated data, then data to the target."""
        moved = ctypes.byref(_INT())
        if associated:
            size = len(associated)
            self._check(self._calls.EVP_CipherUpdate(context, None, moved, associated, size))
        if source.size:
            calls = self._calls if source.size < _SHORT else self._long
            to, at = address(target), address(source)
            self._check(calls.EVP_CipherUpdate(context, to, moved, at, source.size))

    def _check(self, result: int) -> None:
        if result != 1:
            raise AeadError("libcrypto refused a call")

    def __del__(self) -> None:
        """Let the key go with the object."""
        if hasattr(self, "_closed"):
            self.close()


def _wipe(target: Bytes) -> None:
    if target.size:
        ctypes.memset(address(target), 0, target.size)


def _fitting(target: Bytes, size: int) -> None:
    if not 0 <= size <= _LONGEST:
        raise ValueError("too short for a tag, or too long for one call")
    if target.size != size or not target.flags.writeable:
        raise ValueError(f"`out` has to be writable, and {size} bytes long")


_INT = ctypes.c_int
_POINTER = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "EVP_aes_256_gcm": (_POINTER, []),
    "EVP_chacha20_poly1305": (_POINTER, []),
    "EVP_CIPHER_CTX_new": (_POINTER, []),
    "EVP_CIPHER_CTX_free": (None, [_POINTER]),
    "EVP_CIPHER_CTX_ctrl": (_INT, [_POINTER, _INT, _INT, _POINTER]),
    "EVP_CipherInit_ex": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT]),
    "EVP_CipherUpdate": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER, _INT]),
    "EVP_CipherFinal_ex": (_INT, [_POINTER, _POINTER, _POINTER]),
}


@cache
def _libcrypto() -> tuple[Any, Any]:
    """The library twice: for calls that keep the interpreter's lock, and for those that free it."""
    for name in _candidates():
        try:
            held, freed = ctypes.PyDLL(name), ctypes.CDLL(name)
            for library in (held, freed):
                _declare(library)
        except (OSError, AttributeError):
            continue
        return held, freed
    raise NoLibcrypto("no OpenSSL 1.1.1 or later: install the package of libcrypto.so.3")


def _candidates() -> Iterable[str]:
    """Python's own first: symbols are looked for in what a library is linked to as well."""
    spec = find_spec("_hashlib")
    if spec is not None and spec.origin not in {None, "built-in"}:
        yield str(spec.origin)
    yield from ("libcrypto.so.3", "libcrypto.so.1.1")
    found = ctypes.util.find_library("crypto")
    if found is not None:
        yield found


def _declare(library: ctypes.CDLL) -> None:
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
