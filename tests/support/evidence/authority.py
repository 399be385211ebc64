"""SYNTHESISED: a certification authority of the tests', able to issue what no vendor would.

Every evidence made with it verifies under a root of the tests' only, and proves nothing else.
"""

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

NOT_BEFORE = 1_790_000_000
NOT_AFTER = 1_890_000_000
PSS_SHA384 = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


@cache
def rsa_key(name, bits=2048):  # noqa: ARG001 - a name has a key of its own, by the cache
    """The RSA key of this name: always the same one within a run, for making one is slow."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name, curve=None):
    """The EC key of this name, always the same one."""
    seed = hashes.Hash(hashes.SHA256())
    seed.update(name.encode())
    return ec.derive_private_key(int.from_bytes(seed.finalize()), curve or ec.SECP384R1())


def name_of(common_name):
    """A name; without a common name if that is empty."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def date(at):
    return datetime.fromtimestamp(at, UTC)


def ca_extensions(*, path_length=None, key_cert_sign=True, crl_sign=True):
    """The extensions of an ordinary CA, as (value, critical)."""
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
    return ((x509.BasicConstraints(ca=True, path_length=path_length), True), (usage, True))


def opaque(oid, value):
    """A non-critical extension of these DER bytes."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False


@dataclass(frozen=True)
class Holder:
    """A certificate, the private key to it, and who issued it (None: itself)."""

    certificate: x509.Certificate
    key: object
    issuer: "Holder | None" = None

    @property
    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self):
        return self.certificate.fingerprint(hashes.SHA256())

    @property
    def chain(self):
        """The certificates from this one to the root."""
        return (self.certificate, *(self.issuer.chain if self.issuer else ()))

    def issue(self, common_name, key=None, **options):
        """Issue a certificate to `common_name`; options as of `certify`."""
        key = key or ec_key(common_name)
        return Holder(certify(common_name, key.public_key(), self, **options), key, self)

    def crl(self, revoked=(), **options):
        """Issue a revocation list that names the serial numbers `revoked`; its DER."""
        return revocation_list(self, revoked, **options).public_bytes(serialization.Encoding.DER)


def root(common_name, key=None, **options):
    """A root that signs itself; a CA unless `extensions` say something else."""
    key = key or ec_key(common_name)
    options.setdefault("extensions", ca_extensions())
    itself = Holder(None, key)
    return Holder(certify(common_name, key.public_key(), itself, **options), key)


def certify(
    common_name,
    public_key,
    issuer,
    *,
    extensions=(),
    serial=1,
    not_before=NOT_BEFORE,
    not_after=NOT_AFTER,
    issuer_name=None,
    digest=None,
    rsa_padding=None,
):
    """Make a certificate; `rsa_padding` is the issuer's, for a key of RSA (None: PKCS #1 v1.5)."""
    if issuer_name is None:
        issuer_name = issuer.certificate.subject if issuer.certificate else name_of(common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(common_name))
        .issuer_name(issuer_name)
        .public_key(public_key)
        .serial_number(serial or 1)
        .not_valid_before(date(not_before))
        .not_valid_after(date(not_after))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    digest = digest or hashes.SHA384()
    made = builder.sign(issuer.key, digest, rsa_padding=rsa_padding)
    return made if serial else _number_zero(made, issuer.key, digest, rsa_padding)


def revocation_list(
    issuer,
    revoked=(),
    *,
    last_update=NOT_BEFORE,
    next_update=NOT_AFTER,
    extensions=(),
    entry_extensions=(),
    issuer_name=None,
    digest=None,
    rsa_padding=None,
):
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer_name or issuer.certificate.subject)
        .last_update(date(last_update))
        .next_update(date(next_update))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        entry = entry.revocation_date(date(last_update))
        for value, critical in entry_extensions:
            entry = entry.add_extension(value, critical)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, digest or hashes.SHA384(), rsa_padding=rsa_padding)


def _number_zero(certificate, key, digest, rsa_padding):
    """The same certificate, numbered zero as AMD does: no builder makes one, so it is patched."""
    first = bytes.fromhex("a003020102020101")  # version 3, serial number 1
    tbs = certificate.tbs_certificate_bytes.replace(first, first[:-1] + b"\x00", 1)
    der = certificate.public_bytes(serialization.Encoding.DER)
    start = der.index(certificate.tbs_certificate_bytes) + len(tbs)
    algorithm = der[start : start + 2 + der[start + 1]]
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(tbs, rsa_padding or padding.PKCS1v15(), digest)
    else:
        signature = key.sign(tbs, ec.ECDSA(digest))
    body = tbs + algorithm + tlv(3, b"\x00" + signature)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(tlv(0x30, body))


def tlv(tag, value):
    """One DER element."""
    length = len(value)
    if length < 128:
        return bytes([tag, length]) + value
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + value
