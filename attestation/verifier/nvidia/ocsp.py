"""Stapled OCSP responses (RFC 6960): that a certificate was not revoked, said lately.

NVIDIA's certificates for devices have no end, so nothing else says that one should not be trusted
any more. A response is signed by the certificate's issuer, or by a responder to whom the issuer has
delegated this with a certificate of its own (section 4.2.2.2). The responder's certificate is not
itself checked for revocation: that would need a responder again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate, ExtendedKeyUsage, ExtensionNotFound, Extensions
from cryptography.x509.ocsp import (
    OCSPCertStatus,
    OCSPResponse,
    OCSPResponseStatus,
    load_der_ocsp_response,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.nvidia.reader import Reader, read_der
from attestation.verifier.quote import CLOCK_SKEW_S

MAX_LENGTH = 8 << 10
"""Bytes of one response. With its responder's certificate it has 1 to 2 KiB."""

MAX_RESPONSES = 8

_SEQUENCE = 0x30
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD = frozenset({ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE})
_HASHES: dict[type[hashes.HashAlgorithm], str] = {
    hashes.SHA256: "sha256",
    hashes.SHA384: "sha384",
}
"""By which a response names a certificate's issuer, as NVIDIA's tools ask for."""


@dataclass(frozen=True)
class OcspClaims:
    """A response that says: not revoked.

    Attributes:
        this_update: when that was known to be so, unix seconds.
        next_update: until when the response may be used.
    """

    this_update: int
    next_update: int

    def to_json(self) -> dict[str, object]:
        """Return the claims for people and programs."""
        return {
            "status": "good",
            "this_update": self.this_update,
            "next_update": self.next_update,
        }


def check(response: bytes, certificate: Certificate, issuer: Certificate, *, at: int) -> OcspClaims:
    """Check that a response says of this certificate, now, that it is not revoked.

    How old the response may be is for the policy to say.

    Args:
        response: DER.
        certificate: the certificate in question.
        issuer: its issuer, whose own chain the caller has checked.
        at: unix seconds.

    Raises:
        Refused: a check did not hold; its code says which.
    """
    answer = _load(response)
    try:
        _check_signature(answer, _responder(answer, issuer, at))
        _check_certificate_id(answer, certificate, issuer)
        claims = _check_times(answer, at)
        _check_status(answer)
    except (ValueError, UnsupportedAlgorithm) as error:
        # Decoded only now: several answers in one, dates or extensions that are none.
        raise Refused(Code.GPU_OCSP_MALFORMED, "a response that is not of its form") from error
    return claims


def check_all(responses: bytes, chain: Sequence[Certificate], *, at: int) -> OcspClaims:
    """Check one response for each certificate of a chain but the last, which is the root.

    Args:
        responses: DER, one after the other, in the order of the chain.
        chain: each certificate followed by its issuer; its signatures checked.
        at: unix seconds.

    Returns:
        The oldest of the this-updates, and the earliest of the next-updates.

    Raises:
        Refused: a response is missing or superfluous, or does not hold.
    """
    answers = split(responses)
    if len(answers) != len(chain) - 1:
        reason = f"{len(answers)} OCSP responses for {len(chain) - 1} certificates"
        raise Refused(Code.GPU_OCSP_MISSING, reason)
    found = [
        check(answer, certificate, issuer, at=at)
        for answer, certificate, issuer in zip(answers, chain[:-1], chain[1:], strict=True)
    ]
    return OcspClaims(
        min(claims.this_update for claims in found), min(claims.next_update for claims in found)
    )


def split(responses: bytes) -> tuple[bytes, ...]:
    """Split responses that stand one after the other.

    Raises:
        Refused: GPU_OCSP_MALFORMED, not that, or too many.
    """
    try:
        return _split(responses)
    except MalformedEvidence as error:
        raise Refused(Code.GPU_OCSP_MALFORMED, str(error)) from error


def _split(responses: bytes) -> tuple[bytes, ...]:
    if len(responses) > MAX_RESPONSES * MAX_LENGTH:
        raise MalformedEvidence("OCSP: too long")
    reader = Reader(responses, "OCSP")
    found: list[bytes] = []
    while not reader.exhausted:
        start = reader.at
        tag, _ = read_der(reader)
        if tag != _SEQUENCE or len(found) == MAX_RESPONSES:
            raise MalformedEvidence("OCSP: not responses, or too many")
        found.append(responses[start : reader.at])
    return tuple(found)


def _load(response: bytes) -> OCSPResponse:
    try:
        answer = load_der_ocsp_response(response) if len(response) <= MAX_LENGTH else None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused(Code.GPU_OCSP_MALFORMED, "not an OCSP response") from error
    if answer is None or answer.response_status is not OCSPResponseStatus.SUCCESSFUL:
        raise Refused(Code.GPU_OCSP_MALFORMED, "too long, or the responder gave no answer")
    return answer


def _responder(answer: OCSPResponse, issuer: Certificate, at: int) -> ec.EllipticCurvePublicKey:
    signer = answer.certificates[0] if answer.certificates else issuer
    if signer != issuer:
        _check_delegate(signer, issuer, at)
    key = signer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused(Code.GPU_OCSP_RESPONDER_BAD, "the responder's key is of another kind")
    return key


def _check_delegate(delegate: Certificate, issuer: Certificate, at: int) -> None:
    _check_delegation(delegate, issuer)
    certificates.check_dates(
        (delegate,),
        at=at,
        code_future=Code.GPU_OCSP_RESPONDER_BAD,
        code_expired=Code.GPU_OCSP_RESPONDER_BAD,
    )


def _check_delegation(delegate: Certificate, issuer: Certificate) -> None:
    try:
        # Remembered when it holds: a few responders answer for all GPUs and manifests there are.
        certificates.verify_issued(delegate, issuer)
        usage = delegate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except (InvalidSignature, TypeError, ValueError, ExtensionNotFound) as error:
        raise Refused(Code.GPU_OCSP_RESPONDER_BAD, "not the issuer's responder") from error
    if not isinstance(delegate.signature_hash_algorithm, _DIGESTS):
        raise Refused(Code.GPU_OCSP_RESPONDER_BAD, "certified over a weak digest")
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        raise Refused(Code.GPU_OCSP_RESPONDER_BAD, "the responder may not sign OCSP responses")
    _refuse_critical(delegate.extensions, Code.GPU_OCSP_RESPONDER_BAD)


def _check_signature(answer: OCSPResponse, key: ec.EllipticCurvePublicKey) -> None:
    digest = answer.signature_hash_algorithm
    if not isinstance(digest, _DIGESTS):
        raise Refused(Code.GPU_OCSP_SIGNATURE_BAD, "the response is signed over a weak digest")
    try:
        key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(digest))
    except InvalidSignature as error:
        reason = "the response's signature does not verify"
        raise Refused(Code.GPU_OCSP_SIGNATURE_BAD, reason) from error
    _refuse_critical(answer.extensions, Code.GPU_OCSP_MALFORMED)


def _check_certificate_id(
    answer: OCSPResponse, certificate: Certificate, issuer: Certificate
) -> None:
    name = _HASHES.get(type(answer.hash_algorithm))
    if name is None:
        raise Refused(Code.GPU_OCSP_OTHER_CERTIFICATE, "names its certificate by a weak hash")
    stated = (answer.issuer_name_hash, answer.issuer_key_hash, answer.serial_number)
    if stated != (
        hashlib.new(name, issuer.subject.public_bytes()).digest(),
        hashlib.new(name, _key_bits(issuer)).digest(),
        certificate.serial_number,
    ):
        raise Refused(Code.GPU_OCSP_OTHER_CERTIFICATE, "the response is about another certificate")
    _refuse_critical(answer.single_extensions, Code.GPU_OCSP_MALFORMED)


def _check_times(answer: OCSPResponse, at: int) -> OcspClaims:
    since, until = answer.this_update_utc, answer.next_update_utc
    if at + CLOCK_SKEW_S < since.timestamp():
        raise Refused(Code.GPU_OCSP_FROM_THE_FUTURE, "the response is from the future")
    if until is None or at > until.timestamp():
        raise Refused(Code.GPU_OCSP_EXPIRED, "the response is not to be used any more")
    return OcspClaims(int(since.timestamp()), int(until.timestamp()))


def _check_status(answer: OCSPResponse) -> None:
    if answer.certificate_status is OCSPCertStatus.REVOKED:
        # On hold, too: what may come back is not good now.
        raise Refused(Code.GPU_OCSP_REVOKED, f"revoked: {answer.revocation_reason}")
    if answer.certificate_status is not OCSPCertStatus.GOOD:
        raise Refused(Code.GPU_OCSP_UNKNOWN, "the responder does not know the certificate")


def _key_bits(certificate: Certificate) -> bytes:
    """The content of the BIT STRING in the certificate's public key (RFC 6960, section 4.1.1)."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _, content = read_der(Reader(spki, "public key"))
    reader = Reader(content, "public key")
    read_der(reader)
    _, bits = read_der(reader)
    return bits[1:]


def _refuse_critical(extensions: Extensions, code: Code) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise Refused(code, f"has the critical extension {extension.oid.dotted_string}")
