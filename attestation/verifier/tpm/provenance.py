"""Whose key it is: from an attestation key to a CA that says it is a TPM's.

A quote proves something only if its key is in a TPM and can sign nothing else. Two ways to show it
offline (docs/decisions, number 11, says why not more):

    root signs ... signs certificate of the attestation key
    root signs ... signs certificate of another attestation key, which signs, in the same TPM, that
                   it holds the object whose name is that of the quote's key (TPM2_Certify)

An endorsement key decrypts and never signs: its certificate alone shows nothing of another key to
somebody who was not there when the TPM was challenged.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.x509 import Certificate, ExtendedKeyUsage, ExtensionNotFound, KeyUsage

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.tpm.attest import MAX_ATTEST, parse_certification
from attestation.verifier.tpm.claims import Provenance
from attestation.verifier.tpm.keys import (
    PublicArea,
    PublicKey,
    Signature,
    check_signature,
    parse_signature,
    spki,
)
from attestation.verifier.tpm.reader import Reader

AK_CERTIFICATE = "2.23.133.8.3"
"""tcg-kp-AIKCertificate: the certified key is an attestation key (TCG OID Registry)."""

EK_CERTIFICATE = "2.23.133.8.1"
"""tcg-kp-EKCertificate, which Google's CA gives to attestation keys too."""

MAX_CHAIN = 5


def check(
    public: PublicArea, chain: bytes, certification: bytes, *, roots: frozenset[bytes]
) -> tuple[Provenance, tuple[Certificate, ...]]:
    """Check where a key comes from, as far as there is something to check.

    Args:
        public: the attestation key's public area.
        chain: certificates, leaf first, root last; or empty.
        certification: what the leaf's key has signed of this one; or empty: the leaf is of it.
        roots: fingerprints of the roots that the chain may lead to.

    Raises:
        Refused: a check did not hold; or a certification without a chain.
    """
    if not chain:
        if certification:
            raise Refused(Code.TPM_CERTIFIER_UNKNOWN, "nothing says whose key has certified")
        return Provenance.UNPROVEN, ()
    certified = load_chain([chain])
    usages = frozenset({AK_CERTIFICATE})
    leaf_key = check_chain(certified, roots=roots, usages=usages)
    if certification:
        _check_certified(public, leaf_key, certification)
        return Provenance.CERTIFICATION, certified
    check_same_key(public.key, leaf_key)
    return Provenance.CERTIFICATE, certified


def load_chain(pieces: Sequence[bytes]) -> tuple[Certificate, ...]:
    """Load a chain given in pieces, DER or PEM, leaving out what is there twice.

    Raises:
        Refused: not certificates, or too many.
    """
    try:
        found = [each for piece in pieces for each in certificates.load(piece, at_most=MAX_CHAIN)]
    except MalformedEvidence as error:
        raise Refused(Code.TPM_CHAIN_MALFORMED, str(error)) from error
    chain = tuple(dict.fromkeys(found))
    if len(chain) > MAX_CHAIN:
        raise Refused(Code.TPM_CHAIN_MALFORMED, f"more than {MAX_CHAIN} certificates")
    return chain


def check_chain(
    chain: tuple[Certificate, ...], *, roots: frozenset[bytes], usages: frozenset[str]
) -> PublicKey:
    """Check a chain to a pinned root whose leaf is an attestation key's; return that key.

    Args:
        chain: leaf first, root last.
        roots: fingerprints of the pinned roots.
        usages: the extended key usages by which this CA says "attestation key"; one is enough.

    Raises:
        Refused: the root is unknown, the chain broken, or the leaf is not an attestation key's.
    """
    certificates.check_chain(
        chain,
        roots=roots,
        code_root=Code.TPM_ROOT_UNKNOWN,
        code_signature=Code.TPM_CHAIN_BAD,
    )
    leaf = chain[0]
    if not _usages(leaf) & usages or not _may_sign(leaf) or len(chain) == 1:
        raise Refused(Code.TPM_CERTIFICATE_NOT_OF_AN_AK, "the leaf is not an attestation key's")
    return leaf.public_key()  # type: ignore[return-value]  # another kind never signs a quote


def check_same_key(key: PublicKey, certified: PublicKey) -> None:
    """Check that a certificate is of this key.

    Raises:
        Refused: it is another's.
    """
    if spki(key) != spki(certified):
        raise Refused(Code.TPM_AK_MISMATCH, "the certificate is of another attestation key")


def parse_certified(data: bytes) -> tuple[bytes, Signature]:
    """Parse a certification: a TPM2B_ATTEST, and the TPMT_SIGNATURE over what is in it.

    Raises:
        MalformedEvidence: not of the format.
        Refused: the signature is of a scheme that is not taken.
    """
    reader = Reader(data, "certification")
    message = reader.sized(at_most=MAX_ATTEST)
    return message, parse_signature(reader.rest())


def _check_certified(public: PublicArea, certifier: PublicKey, data: bytes) -> None:
    try:
        message, signature = parse_certified(data)
        check_signature(certifier, signature, message, Code.TPM_CERTIFICATION_SIGNATURE_BAD)
        name = parse_certification(message).attested.name
    except MalformedEvidence as error:
        raise Refused(Code.TPM_CERTIFICATION_MALFORMED, str(error)) from error
    if name != public.name:
        raise Refused(
            Code.TPM_CERTIFICATION_OF_ANOTHER, "another key than the quote's is certified"
        )


def _usages(certificate: Certificate) -> frozenset[str]:
    try:
        usages = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        return frozenset()
    return frozenset(usage.dotted_string for usage in usages)


def _may_sign(certificate: Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(KeyUsage).value
    except ExtensionNotFound:
        return False
    return usage.digital_signature
