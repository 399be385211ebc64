"""TPMT_PUBLIC and TPMT_SIGNATURE: a TPM's keys, and what they sign (TPM 2.0 Part 2).

TPMT_PUBLIC (12.2.4) = type u16, nameAlg u16, objectAttributes u32, authPolicy TPM2B_DIGEST,
    RSA: symmetric, scheme, keyBits u16, exponent u32 (0 is 65537), n TPM2B
    ECC: symmetric, scheme, curveID u16, kdf, x TPM2B, y TPM2B
TPMT_SIGNATURE (11.3.4) = sigAlg u16, hash u16, RSA: TPM2B; ECDSA: r TPM2B, s TPM2B
name of an object (Part 1, section 16) = nameAlg u16 || H(TPMT_PUBLIC)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm.algorithms import BANKS, SIGNING_DIGESTS, Algorithm
from attestation.verifier.tpm.reader import Reader

MAX_PUBLIC = 1024
MAX_SIGNATURE = 1024
"""Bytes. With RSA of 4,096 bits both have a little more than 512."""

RSA_BITS = range(2048, 4096 + 1)
_MAX_NUMBER = RSA_BITS[-1] // 8
_CURVES: Mapping[int, ec.EllipticCurve] = MappingProxyType(
    {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1()}
)
_RSA_SCHEMES = frozenset({Algorithm.RSASSA, Algorithm.RSAPSS})

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class Attributes(IntFlag):
    """TPMA_OBJECT (section 8.3): what the TPM lets happen to an object."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


ATTESTATION_KEY = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.RESTRICTED
    | Attributes.SIGN
)
"""Made in this TPM, never to leave it, and signing nothing but what the TPM says."""


@dataclass(frozen=True)
class Signature:
    """A signature, and how it was made.

    Attributes:
        scheme: RSASSA, RSAPSS or ECDSA.
        digest: SHA-256 or SHA-384.
        value: as `cryptography` has it: for ECDSA in DER.
    """

    scheme: Algorithm
    digest: Algorithm
    value: bytes


@dataclass(frozen=True)
class PublicArea:
    """A TPMT_PUBLIC.

    Attributes:
        encoded: its own bytes.
        attributes: what the TPM lets happen to the key.
        scheme: the one scheme it signs with, and its digest; None if it has none of its own.
        key: the public key.
    """

    encoded: bytes
    attributes: Attributes
    scheme: tuple[int, int] | None
    key: PublicKey

    @property
    def name(self) -> bytes:
        """The object's name: the algorithm and the digest over its public area."""
        algorithm = self.encoded[2:4]
        bank = BANKS[int.from_bytes(algorithm, "big")]
        return algorithm + hashlib.new(bank, self.encoded).digest()

    def check_attestation_key(self) -> None:
        """Check that the key can sign nothing but what a TPM says, and never leaves its TPM.

        Raises:
            Refused: its attributes are others, or it has no signing scheme of its own.
        """
        wanted = ATTESTATION_KEY | Attributes.DECRYPT
        if self.attributes & wanted != ATTESTATION_KEY:
            raise Refused(Code.TPM_AK_ATTRIBUTES, "the key may sign what is not the TPM's word")
        if self.scheme is None or self.scheme[0] not in {*_RSA_SCHEMES, Algorithm.ECDSA}:
            raise Refused(Code.TPM_KEY_UNSUPPORTED, "the key has no signing scheme of its own")

    def check_scheme(self, signature: Signature) -> None:
        """Check that a signature is of the key's own scheme.

        Raises:
            Refused: it is of another, which a TPM would not make.
        """
        if self.scheme != (signature.scheme, signature.digest):
            raise Refused(Code.TPM_SIGNATURE_SCHEME, "the signature is not of the key's scheme")


def parse_public(data: bytes) -> PublicArea:
    """Parse a TPMT_PUBLIC, or a TPM2B_PUBLIC, of an asymmetric key.

    Raises:
        MalformedEvidence: not of the format; with bytes behind it; a point that is not on its
            curve; a key that is not RSA of 2,048 to 4,096 bits or ECC on P-256 or P-384.
    """
    if len(data) > MAX_PUBLIC:
        raise MalformedEvidence("TPMT_PUBLIC: too long")
    # No TPM2B_PUBLIC is as short as the types' numbers, 1 and 0x23.
    if int.from_bytes(data[:2], "big") == len(data) - 2:
        data = data[2:]
    reader = Reader(data, "TPMT_PUBLIC")
    kind = reader.integer(2)
    if reader.integer(2) not in BANKS:
        raise MalformedEvidence("TPMT_PUBLIC: an unknown name algorithm")
    attributes = Attributes(reader.integer(4))
    reader.sized(at_most=64)
    _skip_symmetric(reader)
    scheme = _parse_scheme(reader)
    key = _parse_key(kind, reader)
    reader.finish()
    return PublicArea(data, attributes, scheme, key)


def parse_signature(data: bytes) -> Signature:
    """Parse a TPMT_SIGNATURE.

    Raises:
        MalformedEvidence: not of the format; with bytes behind it.
        Refused: of another scheme than RSASSA, RSAPSS and ECDSA, or over a weak digest.
    """
    if len(data) > MAX_SIGNATURE:
        raise MalformedEvidence("TPMT_SIGNATURE: too long")
    reader = Reader(data, "TPMT_SIGNATURE")
    scheme, digest = reader.integer(2), reader.integer(2)
    if scheme not in {*_RSA_SCHEMES, Algorithm.ECDSA} or digest not in SIGNING_DIGESTS:
        raise Refused(Code.TPM_SIGNATURE_SCHEME, "the signature is of a scheme that is not taken")
    value = reader.sized(at_most=_MAX_NUMBER)
    if scheme == Algorithm.ECDSA:
        s = int.from_bytes(reader.sized(at_most=_MAX_NUMBER), "big")
        value = encode_dss_signature(int.from_bytes(value, "big"), s)
    reader.finish()
    return Signature(Algorithm(scheme), Algorithm(digest), value)


def check_signature(key: PublicKey, signature: Signature, message: bytes, code: Code) -> None:
    """Check a signature by a TPM's key over `message`.

    Raises:
        Refused: `code`, it does not verify, or is not of the key's kind.
    """
    digest = SIGNING_DIGESTS[signature.digest]
    try:
        match key, signature.scheme:
            case ec.EllipticCurvePublicKey(), Algorithm.ECDSA:
                key.verify(signature.value, message, ec.ECDSA(digest))
            case rsa.RSAPublicKey(), Algorithm.RSASSA:
                key.verify(signature.value, message, padding.PKCS1v15(), digest)
            case rsa.RSAPublicKey(), Algorithm.RSAPSS:
                # Section 11.2.4.3: as long as fits, or as the digest where FIPS 186-4 is kept.
                pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
                key.verify(signature.value, message, pss, digest)
            case _:
                raise Refused(code, "the signature is not of the key's kind")
    except InvalidSignature as error:
        raise Refused(code, "the signature does not verify") from error


def spki(key: PublicKey) -> bytes:
    """Return a public key's SubjectPublicKeyInfo, in which two forms of one key are equal."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _skip_symmetric(reader: Reader) -> None:
    if reader.integer(2) != Algorithm.NULL:  # TPMT_SYM_DEF_OBJECT: key bits and mode follow
        reader.take(4)


def _parse_scheme(reader: Reader) -> tuple[int, int] | None:
    scheme = reader.integer(2)
    if scheme == Algorithm.NULL:
        return None
    if scheme == Algorithm.RSAES:  # the one scheme without a digest
        return scheme, Algorithm.NULL
    digest = reader.integer(2)
    if scheme == Algorithm.ECDAA:
        reader.take(2)  # the count of TPMS_SCHEME_ECDAA
    return scheme, digest


def _parse_key(kind: int, reader: Reader) -> PublicKey:
    match kind:
        case Algorithm.RSA:
            return _parse_rsa(reader)
        case Algorithm.ECC:
            return _parse_ecc(reader)
    raise MalformedEvidence("TPMT_PUBLIC: neither RSA nor ECC")


def _parse_rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits, exponent = reader.integer(2), reader.integer(4) or 65537
    return rsa_key(int.from_bytes(reader.sized(at_most=_MAX_NUMBER), "big"), exponent, bits)


def rsa_key(modulus: int, exponent: int, bits: int | None = None) -> rsa.RSAPublicKey:
    """Return the RSA key of two numbers.

    Args:
        modulus: the product of its primes.
        exponent: the public exponent.
        bits: how long it says that it is, if it does.

    Raises:
        MalformedEvidence: shorter than 2,048 bits, longer than 4,096, or no key.
    """
    if modulus.bit_length() not in RSA_BITS or bits not in {None, modulus.bit_length()}:
        raise MalformedEvidence("RSA key: not 2,048 to 4,096 bits, or not as many as it says")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise MalformedEvidence("RSA key: no public key") from error


def _parse_ecc(reader: Reader) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(reader.integer(2))
    if curve is None:
        raise MalformedEvidence("ECC key: of another curve than P-256 and P-384")
    if reader.integer(2) != Algorithm.NULL:
        reader.take(2)  # TPMT_KDF_SCHEME
    x, y = (int.from_bytes(reader.sized(at_most=_MAX_NUMBER), "big") for _ in range(2))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError as error:
        raise MalformedEvidence("ECC key: a point that is not on the curve") from error
