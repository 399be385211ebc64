"""The raw private operation against the published numbers, and against planted faults."""

from __future__ import annotations

import _ssl
import ctypes
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from issuer import libcrypto
from issuer.errors import BlindedOutOfRange, KeyUnusable, LibcryptoMissing, SigningFault
from issuer.libcrypto import RawPrivateKey


def pkcs8(key: Any, encryption: Any = None) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.fixture(scope="module")
def der(issuer_pem: bytes) -> bytes:
    return pkcs8(load_pem_private_key(issuer_pem, None))


@pytest.fixture
def key(der: bytes) -> Iterator[RawPrivateKey]:
    with RawPrivateKey(der) as key:
        yield key


def test_rfc9474_appendix_a(rfc9474: dict[str, Any]) -> None:
    p, q, n, e, d = (int(rfc9474["key"][name], 16) for name in "pqned")
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(e, n),
    )
    with RawPrivateKey(pkcs8(numbers.private_key())) as key:
        assert key.size == 512
        assert len(rfc9474["cases"]) == 4
        for case in rfc9474["cases"]:
            signature = key.blind_sign(bytes.fromhex(case["blinded_msg"]))
            assert signature.hex() == case["blind_sig"], case["variant"]


def test_rfc9578_appendix_a_2(key: RawPrivateKey, rfc9578: dict[str, Any]) -> None:
    assert len(rfc9578["cases"]) == 5
    for case in rfc9578["cases"]:
        blinded = bytes.fromhex(case["token_request"])[3:]
        assert key.blind_sign(blinded).hex() == case["token_response"]


@pytest.mark.parametrize("value", [0, 1, 2, -1])
def test_the_edges_of_the_range_are_signed(key: RawPrivateKey, value: int) -> None:
    number = value % key.modulus
    signature = key.blind_sign(number.to_bytes(key.size))
    assert pow(int.from_bytes(signature), key.exponent, key.modulus) == number


def test_a_message_not_below_the_modulus_is_refused(key: RawPrivateKey) -> None:
    for number in (key.modulus, key.modulus + 1, 2**2048 - 1):
        with pytest.raises(BlindedOutOfRange):
            key.blind_sign(number.to_bytes(key.size))


@pytest.mark.parametrize("length", [0, 255, 257])
def test_a_message_of_another_length_is_refused(key: RawPrivateKey, length: int) -> None:
    with pytest.raises(BlindedOutOfRange):
        key.blind_sign(bytes(length))


@pytest.mark.parametrize("place", [0, 255])
def test_a_fault_in_the_private_operation_is_not_released(
    key: RawPrivateKey, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    sound = key._decrypt

    def faulty(message: bytes) -> bytes:
        result = bytearray(sound(message))
        result[place] ^= 1
        return bytes(result)

    monkeypatch.setattr(key, "_decrypt", faulty)
    with pytest.raises(SigningFault, match="wrong result"):
        key.blind_sign(bytes(255) + b"\x02")


def test_the_signature_of_another_key_is_not_released(key: RawPrivateKey) -> None:
    other = pkcs8(rsa.generate_private_key(65537, 2048))
    with RawPrivateKey(other) as wrong:
        key._pointer, wrong._pointer = wrong._pointer, key._pointer
        with pytest.raises(SigningFault):
            key.blind_sign(bytes(255) + b"\x02")
        key._pointer, wrong._pointer = wrong._pointer, key._pointer


def test_a_failure_inside_libcrypto_is_a_fault(
    key: RawPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libcrypto, "_RSA_NO_PADDING", 99)
    with pytest.raises(SigningFault, match="failed"):
        key.blind_sign(bytes(256))


def test_many_threads_sign_with_one_key(key: RawPrivateKey) -> None:
    messages = [number.to_bytes(256) for number in range(2, 34)]
    expected = [key.blind_sign(message) for message in messages]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(key.blind_sign, messages)) == expected


def test_closing_while_others_sign_refuses_and_never_crashes(der: bytes) -> None:
    key = RawPrivateKey(der)

    def sign_until_closed() -> None:
        while True:
            try:
                key.blind_sign(bytes(255) + b"\x02")
            except SigningFault as fault:
                assert str(fault) == "the key is closed"  # noqa: PT017 - no other fault will do
                return

    with ThreadPoolExecutor(5) as pool:
        signers = [pool.submit(sign_until_closed) for _ in range(4)]
        pool.submit(key.close).result()
        for signer in signers:
            signer.result()


def test_a_closed_key_signs_no_more_and_may_be_closed_again(der: bytes) -> None:
    key = RawPrivateKey(der)
    key.close()
    key.close()
    with pytest.raises(SigningFault, match="closed"):
        key.blind_sign(bytes(256))


def test_every_reference_is_given_back(der: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    library = CountingLibrary(libcrypto.load())
    monkeypatch.setattr(libcrypto, "load", lambda: library)
    with RawPrivateKey(der) as key:
        for _ in range(3):
            key.blind_sign(bytes(256))
    dropped = RawPrivateKey(der)
    del dropped
    gc.collect()
    assert library.calls["EVP_PKEY_free"] == 2 + library.calls["EVP_PKEY_up_ref"]
    assert library.calls["EVP_PKEY_CTX_free"] == library.calls["EVP_PKEY_CTX_new"] == 3


class CountingLibrary:
    """libcrypto, counting the calls of each of its functions."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        def counted(*arguments: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return getattr(self._library, name)(*arguments)

        return counted


def test_what_is_not_an_rsa_key_is_refused(der: bytes) -> None:
    encrypted = pkcs8(load_der_private_key(der, None), BestAvailableEncryption(b"password"))
    elliptic = pkcs8(ec.generate_private_key(ec.SECP256R1()))
    for not_a_key in (b"", b"nonsense", der[:-1], encrypted, elliptic):
        with pytest.raises(KeyUnusable):
            RawPrivateKey(not_a_key)


def test_without_the_symbols_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    # A library without any of them: the dynamic linker's C library.
    monkeypatch.setattr(_ssl, "__file__", "libc.so.6")
    libcrypto.load.cache_clear()
    with pytest.raises(LibcryptoMissing):
        libcrypto.load()
    monkeypatch.undo()
    libcrypto.load.cache_clear()
    assert libcrypto.load()
