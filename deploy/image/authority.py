"""A CA for the TPMs of one evening: it says of a key that it is a TPM's, because it was asked to.

Whoever runs machines with TPMs runs such a CA, challenges each TPM by its endorsement key
(docs/decisions, number 11) and pins the root in the trust file. Here the TPM is a program of our
own, so nothing is challenged, and the root is as good as the person who made it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.verifier.tpm.keys import PublicKey
from attestation.verifier.tpm.provenance import AK_CERTIFICATE

LIFE = timedelta(days=30)


class Authority:
    """A root, freshly made, and what it has signed."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP384R1())
        name = _name("TPMs of this machine (proves nothing)")
        usage = _usage(key_cert_sign=True, crl_sign=True)
        self._root = (
            _builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA384())
        )

    @property
    def fingerprint(self) -> bytes:
        """The SHA-256 of the root, as a trust file pins it."""
        return self._root.fingerprint(hashes.SHA256())

    def chain(self, key: PublicKey) -> bytes:
        """Certify a TPM's attestation key; return the chain in PEM, leaf first."""
        usages = x509.ExtendedKeyUsage([x509.ObjectIdentifier(AK_CERTIFICATE)])
        leaf = (
            _builder(_name("attestation key"), self._root.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(usages, critical=False)
            .sign(self._key, hashes.SHA384())
        )
        return leaf.public_bytes(Encoding.PEM) + self._root.public_bytes(Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFE)
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})
