"""The direct port's key and its self-signed certificate, one a generation.

No authority vouches for it: the key document names the key, and the quote binds the document. A
client pins the key (`curl --pinnedpubkey`), or the certificate, once it knows that it is of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from wire.inner import AUTHORITY

_NAME = AUTHORITY.decode()
_DAY = timedelta(days=1)
"""To either side of now: the key is gone long before, and a pin looks at no date."""

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def new_key(random: Callable[[int], bytes]) -> ec.EllipticCurvePrivateKey:
    """Return a new key on P-256 (FIPS 186-5, A.2.1: 64 bits more than the order has)."""
    scalar = int.from_bytes(random(40), "big") % (_P256_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def self_signed(key: ec.EllipticCurvePrivateKey, random: Callable[[int], bytes], now: int) -> bytes:
    """Return a certificate (DER) of `key`, for the one name all nodes have. `now`: Unix seconds."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    made = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(random(16), "big") | 1)
        .not_valid_before(made - _DAY)
        .not_valid_after(made + _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.DER)


def tls_key(certificate: bytes) -> bytes:
    """Return what a key document binds: SHA-256 of the certificate's SubjectPublicKeyInfo."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()
