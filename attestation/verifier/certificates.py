"""X.509 as all vendors use it: strict loading, one chain to a pinned root, dates, revocation.

A verifier knows from its vendor's specification how long a chain is and who issues what, so there
is no path building here: the chain is given in order, and each rule of RFC 5280 (section 6.1) that
such a chain can break is checked. Roots are pinned by the SHA-256 of their DER and are an argument.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    CertificateRevocationList,
    DuplicateExtension,
    Extensions,
    InvalidVersion,
    KeyUsage,
    UnsupportedGeneralNameType,
    load_der_x509_certificate,
    load_der_x509_crl,
)
from cryptography.x509.oid import ExtensionOID

from attestation.errors import Code, MalformedEvidence, Refused

MAX_CERTIFICATE = 16 << 10
"""Bytes of DER. The vendors' certificates have 0.5 to 2 KiB."""

MAX_CRL = 256 << 10
"""Bytes of DER; about 7,000 revoked certificates."""

_PEM = rb"-----BEGIN %b-----\r?\n((?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END %b-----(?:[\r\n]+|$)"
_CERTIFICATE = re.compile(_PEM % (b"CERTIFICATE", b"CERTIFICATE"))
_CRL = re.compile(_PEM % (b"X509 CRL", b"X509 CRL"))
_PEM_GROWTH = 2
"""No PEM is longer than so many times its DER and one line of frame; in truth about 1.4."""

_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS = range(2048, 8192 + 1)
"""Below, a key is weak; above, a verification costs more than a stranger may ask for."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        # The purposes of a leaf's key: its format's verifier knows what the key has signed.
        ExtensionOID.EXTENDED_KEY_USAGE,
        # Critical where the subject is empty (RFC 5280, section 4.1.2.6), as in a TPM's
        # certificates; nothing here is decided by a leaf's name.
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
"""The critical extensions that a certificate may have (RFC 5280, section 4.2: refuse others)."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidVersion,
    DuplicateExtension,
    UnsupportedGeneralNameType,
)
"""What `cryptography` raises of a certificate or a list that it cannot read."""

T = TypeVar("T")


def load(data: bytes, *, at_most: int) -> tuple[Certificate, ...]:
    """Load one DER certificate, or 1 to `at_most` concatenated PEM certificates, in their order.

    Raises:
        MalformedEvidence: not that, too many, too long, or with anything before, between or after
            (empty lines after a PEM certificate excepted).
    """
    found = [_certificate(der) for der in _ders(data, _CERTIFICATE, MAX_CERTIFICATE, at_most)]
    return tuple(found)


def load_crl(data: bytes) -> CertificateRevocationList:
    """Load one certificate revocation list, DER or PEM.

    Raises:
        MalformedEvidence: not that, too long, or with anything before or after.
    """
    (der,) = _ders(data, _CRL, MAX_CRL, 1)
    return _parse(_load_crl, der, "revocation list")


def fingerprint(certificate: Certificate) -> bytes:
    """Return the SHA-256 of a certificate's DER: what pins a root."""
    return certificate.fingerprint(hashes.SHA256())


def serial_number(certificate: Certificate) -> int:
    """Return a certificate's serial number, which is zero in AMD's."""
    with _zero_serial_numbers():
        return certificate.serial_number


def check_chain(
    chain: Sequence[Certificate], *, roots: frozenset[bytes], code_root: Code, code_signature: Code
) -> None:
    """Check that a chain, leaf first, leads to a root whose fingerprint is in `roots`.

    The root must be in the chain and signed by itself; each other certificate by the next one,
    which must be allowed to issue it: names, basic constraints, path length, key usage. Signatures
    are RSA (PKCS #1 v1.5 or PSS, as the certificate says) or ECDSA over SHA-2. Dates are not
    looked at.

    Raises:
        Refused: `code_root`, the root is not pinned; `code_signature`, anything else.
        ValueError: the chain is empty.
    """
    if not chain:
        raise ValueError("a chain has at least its root")
    if fingerprint(chain[-1]) not in roots:
        raise Refused(code_root, f"{_name(chain[-1])} is not a pinned root")
    for certificate in chain:
        _check_critical(certificate.extensions, _name(certificate), code_signature)
    for certificate, issuer in pairwise((*chain, chain[-1])):
        _check_issued(certificate, issuer, code_signature)
    for between, issuer in enumerate(chain[1:]):
        _check_may_issue(issuer, between, code_signature, is_root=issuer is chain[-1])


def check_dates(
    chain: Iterable[Certificate], *, at: int, code_future: Code, code_expired: Code
) -> None:
    """Check that every certificate is valid at unix time `at`.

    Raises:
        Refused: `code_future`, one is not valid yet; `code_expired`, one is not valid any more.
    """
    for certificate in chain:
        if at < certificate.not_valid_before_utc.timestamp():
            raise Refused(code_future, f"{_name(certificate)} is not valid yet")
        if at > certificate.not_valid_after_utc.timestamp():
            raise Refused(code_expired, f"{_name(certificate)} has expired")


@dataclass(frozen=True)
class CrlCodes:
    """The codes by which a vendor's verifier tells the failures of `check_crl` apart.

    Attributes:
        signature: not its issuer's, not allowed to be, or of a kind that is not understood.
        future: issued after the time of the check.
        expired: a newer one should have been had by then, or it does not say when.
        revoked: it names one of the certificates.
    """

    signature: Code
    future: Code
    expired: Code
    revoked: Code


def check_crl(
    crl: CertificateRevocationList,
    issuer: Certificate,
    certificates: Iterable[Certificate],
    *,
    at: int,
    codes: CrlCodes,
) -> None:
    """Check a revocation list, and that it names none of `certificates`.

    Args:
        crl: the complete list of its issuer; others (delta, indirect, in parts) are refused.
        issuer: the certificate that must have signed it, itself checked by the caller.
        certificates: certificates issued by that same issuer: serial numbers are unique only there.
        at: unix seconds.
        codes: what to refuse with.

    Raises:
        Refused: with the code of the check that did not hold.
    """
    check_revocation(crl, issuer, certificates, codes=codes)
    check_crl_dates(crl, at=at, codes=codes)


def check_revocation(
    crl: CertificateRevocationList,
    issuer: Certificate,
    certificates: Iterable[Certificate],
    *,
    codes: CrlCodes,
) -> None:
    """Check all that `check_crl` does but the dates: for who looks at those in a step of its own.

    Raises:
        Refused: with the code of the check that did not hold.
    """
    _check_crl_signature(crl, issuer, codes.signature)
    for certificate in certificates:
        if crl.get_revoked_certificate_by_serial_number(serial_number(certificate)) is not None:
            raise Refused(codes.revoked, f"{_name(certificate)} is revoked")


def check_crl_dates(crl: CertificateRevocationList, *, at: int, codes: CrlCodes) -> None:
    """Check that a revocation list is the current one at unix time `at`.

    Raises:
        Refused: not valid yet; not valid any more, or without end.
    """
    if at < crl.last_update_utc.timestamp():
        raise Refused(codes.future, "the revocation list is not valid yet")
    if crl.next_update_utc is None or at > crl.next_update_utc.timestamp():
        raise Refused(codes.expired, "the revocation list has expired")


def _check_crl_signature(crl: CertificateRevocationList, issuer: Certificate, code: Code) -> None:
    if crl.issuer != issuer.subject:
        raise Refused(code, "the revocation list is another issuer's")
    usage = _find(issuer.extensions, KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise Refused(code, f"{_name(issuer)} may not sign revocation lists")
    _check_critical(crl.extensions, "the revocation list", code)
    for entry in crl:
        _check_critical(entry.extensions, "the revocation list", code)
    key = _public_key(issuer, code)
    if not isinstance(crl.signature_hash_algorithm, _DIGESTS) or not crl.is_signature_valid(key):
        raise Refused(code, "the revocation list's signature does not verify")


def _check_issued(certificate: Certificate, issuer: Certificate, code: Code) -> None:
    _public_key(issuer, code)
    try:
        digest = certificate.signature_hash_algorithm
        verify_issued(certificate, issuer)
    except InvalidSignature as error:
        raise Refused(code, f"{_name(certificate)}: the signature does not verify") from error
    except (TypeError, UnsupportedAlgorithm, ValueError) as error:
        # Names that differ; two algorithms in one certificate; an algorithm that is not the key's.
        raise Refused(code, f"{_name(certificate)} is not issued by {_name(issuer)}") from error
    if not isinstance(digest, _DIGESTS):
        raise Refused(code, f"{_name(certificate)} is signed over a weak digest")


@lru_cache(maxsize=256)
def verify_issued(certificate: Certificate, issuer: Certificate) -> None:
    """Verify a certificate's signature, once for the same two: what holds of them always holds.

    One vendor's certificates stand in the chains of many machines, and several times in one's. A
    refusal is not remembered.

    Raises:
        InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm: as `cryptography` does.
    """
    certificate.verify_directly_issued_by(issuer)


def _check_may_issue(issuer: Certificate, between: int, code: Code, *, is_root: bool) -> None:
    name = _name(issuer)
    constraints = _find(issuer.extensions, BasicConstraints)
    if constraints is None:
        if not is_root:  # a root is pinned as one, and some are older than the extension
            raise Refused(code, f"{name} does not say that it is a CA")
    elif not constraints.ca:
        raise Refused(code, f"{name} is not a CA")
    elif constraints.path_length is not None and constraints.path_length < between:
        raise Refused(code, f"{name} may not issue so long a chain")
    usage = _find(issuer.extensions, KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise Refused(code, f"{name} may not sign certificates")


def _check_critical(extensions: Extensions, name: str, code: Code) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            oid = extension.oid.dotted_string
            raise Refused(code, f"{name} has the critical extension {oid}")


def _public_key(
    certificate: Certificate, code: Code
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key if key.key_size in _RSA_BITS:
            return key
        case ec.EllipticCurvePublicKey() as key if isinstance(key.curve, _CURVES):
            return key
    raise Refused(code, f"{_name(certificate)} has a key of another kind or length")


Constraint = TypeVar("Constraint", BasicConstraints, KeyUsage)


def _find(extensions: Extensions, kind: type[Constraint]) -> Constraint | None:
    values = (each.value for each in extensions)
    return next((value for value in values if isinstance(value, kind)), None)


def _name(certificate: Certificate) -> str:
    return f"the certificate of {certificate.subject.rfc4514_string()!r}"


def _ders(data: bytes, pem: re.Pattern[bytes], longest: int, at_most: int) -> list[bytes]:
    if len(data) > at_most * (_PEM_GROWTH * longest):
        raise MalformedEvidence("certificates: too long")
    ders = [data] if data[:1] == b"\x30" else list(_pem_blocks(data, pem))
    if not 1 <= len(ders) <= at_most:
        raise MalformedEvidence(f"certificates: {len(ders)}, not 1 to {at_most}")
    if max(map(len, ders)) > longest:
        raise MalformedEvidence("certificates: one is too long")
    return ders


def _pem_blocks(data: bytes, pem: re.Pattern[bytes]) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        block = pem.match(data, offset)
        if block is None:
            raise MalformedEvidence("certificates: neither DER nor PEM, or with bytes beside it")
        yield _base64(b"".join(block[1].split()))
        offset = block.end()


def _base64(text: bytes) -> bytes:
    try:
        der = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedEvidence("certificates: PEM that is not base64") from error
    if base64.b64encode(der) != text:
        raise MalformedEvidence("certificates: PEM with stray bits")
    return der


def _certificate(der: bytes) -> Certificate:
    return _parse(_load_certificate, der, "certificate")


def _load_certificate(der: bytes) -> Certificate:
    with _zero_serial_numbers(), _long_names():
        certificate = load_der_x509_certificate(der)
        # These are decoded when they are asked for. Asked for now, a broken one is refused here.
        _ = certificate.extensions, certificate.subject.rfc4514_string(), certificate.issuer
    certificate.public_key()
    return certificate


def _load_crl(der: bytes) -> CertificateRevocationList:
    crl = load_der_x509_crl(der)
    # As above; and what is revoked stays readable to the last entry.
    _ = crl.extensions, [entry.extensions for entry in crl]
    _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.signature_hash_algorithm
    return crl


def _parse(parser: Callable[[bytes], T], der: bytes, what: str) -> T:
    try:
        return parser(der)
    except _UNREADABLE as error:
        raise MalformedEvidence(f"{what}: not DER of its format") from error


@contextmanager
def _zero_serial_numbers() -> Iterator[None]:
    """AMD's certificates number themselves zero, against RFC 5280, and `cryptography` warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Parsed a serial number which wasn't positive", CryptographyDeprecationWarning
        )
        yield


@contextmanager
def _long_names() -> Iterator[None]:
    """Google's CAs have names longer than RFC 5280 allows, and `cryptography` warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attribute's length must be >= 1 and <= 64", UserWarning)
        yield
