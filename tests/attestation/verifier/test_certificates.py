import warnings
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier import certificates
from attestation.verifier.certificates import CrlCodes
from tests.support.evidence.authority import (
    NOT_AFTER,
    NOT_BEFORE,
    PSS_SHA384,
    Holder,
    ca_extensions,
    certify,
    ec_key,
    name_of,
    opaque,
    revocation_list,
    root,
    rsa_key,
    tlv,
)

NOW = 1_800_000_000
ROOT, SIGNATURE = Code.QUOTE_ROOT_UNKNOWN, Code.QUOTE_SIGNATURE_BAD
FUTURE, EXPIRED = Code.QUOTE_FROM_THE_FUTURE, Code.QUOTE_TOO_OLD
REVOKED = Code.PLATFORM_REFUSED
CODES = CrlCodes(SIGNATURE, FUTURE, EXPIRED, REVOKED)


def three(root_options=None, middle_options=None, **leaf_options):
    top = root("Root", **(root_options or {}))
    middle = top.issue("Middle", **{"extensions": ca_extensions(), **(middle_options or {})})
    return middle.issue("Leaf", **leaf_options)


def check(chain, roots=None):
    chain = chain.chain if isinstance(chain, Holder) else chain
    pinned = frozenset({certificates.fingerprint(chain[-1])}) if roots is None else roots
    certificates.check_chain(chain, roots=pinned, code_root=ROOT, code_signature=SIGNATURE)


def refusal(call, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value


# Loading


def test_a_der_certificate_and_a_pem_chain_load_in_their_order():
    leaf = three()
    text = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in leaf.chain)
    assert certificates.load(leaf.der, at_most=1) == (leaf.certificate,)
    assert certificates.load(text, at_most=3) == leaf.chain
    assert certificates.load(text.replace(b"\n", b"\r\n"), at_most=3) == leaf.chain
    assert certificates.load(text.removesuffix(b"\n"), at_most=3) == leaf.chain
    assert certificates.load(text + b"\n\n", at_most=3) == leaf.chain


OVERSIZE = b"-----BEGIN CERTIFICATE-----\n" + b"AAAA\n" * (1 << 18)
PEM, DER = root("Root").pem, root("Root").der


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" + PEM,
        b"\n" + PEM,
        PEM + b"x",
        PEM + b"\x00",
        PEM + b" \n" + PEM,
        PEM + PEM,
        PEM.replace(b"-----END", b"----END"),
        PEM.replace(b"CERTIFICATE", b"X509 CRL"),
        PEM.replace(b"-----END", b"=\n-----END"),
        b"-----BEGIN CERTIFICATE-----\nMIIBA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMB==\n-----END CERTIFICATE-----\n",
        DER + b"\x00",
        DER[:-1],
        b"\x30\x84\x40\x00\x00\x00" + DER[4:],  # 1 GiB, it says
        b"\x30\x80" * 8000,
        b"\x30" + b"\xff" * 17000,
        b"\x30" * (1 << 20),
        OVERSIZE,
    ],
)
def test_anything_else_is_malformed(data):
    with pytest.raises(MalformedEvidence):
        certificates.load(data, at_most=1)


def test_a_certificate_with_a_broken_extension_or_key_is_malformed_when_it_is_loaded():
    broken = root("Root", extensions=[opaque("2.5.29.19", b"\x30\x03\x01")])
    with pytest.raises(MalformedEvidence):
        certificates.load(broken.der, at_most=1)
    strange = root("Root").der.replace(bytes.fromhex("2b81040022"), bytes.fromhex("2b81040001"))
    with pytest.raises(MalformedEvidence):
        certificates.load(strange, at_most=1)


def test_every_truncation_is_malformed():
    der = root("Root").der
    for length in range(0, len(der), 7):
        with pytest.raises(MalformedEvidence):
            certificates.load(der[:length], at_most=1)


def test_a_serial_number_of_zero_is_read_without_a_warning():
    holder = root("Root", serial=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (loaded,) = certificates.load(holder.der, at_most=1)
        assert certificates.serial_number(loaded) == 0
        check((loaded,))


def test_only_the_warning_about_serial_numbers_is_silenced():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with certificates._zero_serial_numbers():
            warnings.warn("something else", DeprecationWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == ["something else"]


# Chains


@pytest.mark.parametrize(
    ("key", "rsa_padding", "digest"),
    [
        (rsa_key("ca"), None, hashes.SHA256()),
        (rsa_key("ca"), None, hashes.SHA512()),
        (rsa_key("ca"), PSS_SHA384, hashes.SHA384()),
        (ec_key("ca"), None, hashes.SHA256()),
        (ec_key("ca", ec.SECP256R1()), None, hashes.SHA256()),
        (ec_key("ca", ec.SECP521R1()), None, hashes.SHA512()),
    ],
)
def test_a_chain_holds_with_each_kind_of_signature(key, rsa_padding, digest):
    signing = {"rsa_padding": rsa_padding, "digest": digest}
    middle = {"key": key, "extensions": ca_extensions(path_length=0), **signing}
    check(three({"key": key, **signing}, middle, **signing))


def test_a_root_alone_and_a_root_without_extensions_hold():
    check(root("Root"))
    check(root("Root", extensions=()).issue("Leaf"))


def test_an_empty_chain_is_the_callers_error():
    with pytest.raises(ValueError, match="at least its root"):
        check((), roots=frozenset())


def test_a_root_that_is_not_pinned_is_refused():
    assert refusal(check, three(), roots=frozenset()).code is ROOT
    other = root("Root", ec_key("another")).fingerprint
    assert refusal(check, three(), roots=frozenset({other})).code is ROOT


def forged(subject):
    """The same names, another key."""
    impostor = root("Middle", ec_key("impostor"))
    return impostor.issue(subject)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (lambda: (forged("Leaf").certificate, *three().chain[1:]), "does not verify"),
        (lambda: (three().chain[0], three().chain[2]), "is not issued by"),
        (lambda: three().chain[:2], "is not issued by"),
        (lambda: three(issuer_name=name_of("Another")).chain, "is not issued by"),
        (lambda: three(None, {"extensions": ()}).chain, "does not say that it is a CA"),
        (
            lambda: (
                three(
                    None,
                    {"extensions": [(x509.BasicConstraints(ca=False, path_length=None), True)]},
                ).chain
            ),
            "is not a CA",
        ),
        (lambda: three({"extensions": ca_extensions(path_length=0)}).chain, "so long a chain"),
        (
            lambda: three(None, {"extensions": ca_extensions(key_cert_sign=False)}).chain,
            "may not sign certificates",
        ),
        (
            lambda: (
                three(
                    extensions=[(opaque("1.2.3.4", b"\x05\x00")[0], True)],
                ).chain
            ),
            "critical extension 1.2.3.4",
        ),
        (lambda: three({"key": rsa_key("weak", 1024)}).chain, "another kind or length"),
        (lambda: three(None, {"key": ec_key("k", ec.SECP256K1())}).chain, "another kind"),
        (lambda: three({"digest": hashes.SHA224()}).chain, "weak digest"),
    ],
)
def test_each_broken_rule_of_a_chain_is_refused(chain, reason):
    refused = refusal(check, chain())
    assert refused.code is SIGNATURE
    assert reason in refused.reason


def test_a_key_of_another_kind_is_refused_as_an_issuer():
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    leaf = certify("Leaf", key.public_key(), root("Root"))
    assert (
        "another kind"
        in refusal(
            check,
            (root("Root").certificate, leaf),
            roots=frozenset({certificates.fingerprint(leaf)}),
        ).reason
    )


def test_no_flip_of_a_signed_certificate_is_accepted():
    leaf = three()
    top = leaf.chain[1:]
    for offset, bit in product(range(0, len(leaf.der), 5), (1, 128)):
        der = bytearray(leaf.der)
        der[offset] ^= bit
        with pytest.raises((MalformedEvidence, Refused)):
            check((*certificates.load(bytes(der), at_most=1), *top))


# Dates


@pytest.mark.parametrize(
    ("at", "code"),
    [(NOT_BEFORE - 1, FUTURE), (NOT_AFTER + 1, EXPIRED), (0, FUTURE), (1 << 40, EXPIRED)],
)
def test_a_certificate_outside_its_dates_is_refused(at, code):
    chain = three().chain
    assert (
        refusal(
            certificates.check_dates, chain, at=at, code_future=FUTURE, code_expired=EXPIRED
        ).code
        is code
    )


@pytest.mark.parametrize("at", [NOT_BEFORE, NOW, NOT_AFTER])
def test_the_first_and_the_last_second_are_within(at):
    certificates.check_dates(three().chain, at=at, code_future=FUTURE, code_expired=EXPIRED)


# Revocation


def check_crl(crl, issuer, holders, at=NOW):
    if not isinstance(crl, x509.CertificateRevocationList):
        crl = certificates.load_crl(crl)
    chain = [holder.certificate for holder in holders]
    certificates.check_crl(crl, issuer.certificate, chain, at=at, codes=CODES)


def test_a_list_that_does_not_name_the_certificates_holds():
    top = root("Root", rsa_key("ca"), rsa_padding=PSS_SHA384)
    leaf = top.issue("Leaf", serial=7, rsa_padding=PSS_SHA384)
    check_crl(top.crl([5, 6], rsa_padding=PSS_SHA384), top, [leaf])
    pem = revocation_list(top).public_bytes(serialization.Encoding.PEM)
    check_crl(pem, top, [top, leaf])
    check_crl(top.crl(), top, [leaf], at=NOT_BEFORE)
    check_crl(top.crl(), top, [leaf], at=NOT_AFTER)


@pytest.mark.parametrize(
    ("options", "at", "code"),
    [
        ({}, NOT_BEFORE - 1, FUTURE),
        ({}, NOT_AFTER + 1, EXPIRED),
        ({"revoked": [5, 7]}, NOW, REVOKED),
        ({"issuer_name": name_of("Another")}, NOW, SIGNATURE),
        ({"digest": hashes.SHA224()}, NOW, SIGNATURE),
        ({"extensions": [(x509.DeltaCRLIndicator(1), True)]}, NOW, SIGNATURE),
        (
            {
                "revoked": [5],
                "entry_extensions": [
                    (x509.CertificateIssuer([x509.DNSName("elsewhere.invalid")]), True)
                ],
            },
            NOW,
            SIGNATURE,
        ),
    ],
)
def test_each_broken_rule_of_a_list_is_refused(options, at, code):
    top = root("Root")
    leaf = top.issue("Leaf", serial=7)
    assert refusal(check_crl, top.crl(**options), top, [leaf], at=at).code is code


def test_a_list_signed_by_another_key_is_refused():
    top, impostor = root("Root"), root("Root", ec_key("impostor"))
    assert refusal(check_crl, impostor.crl(), top, [top]).code is SIGNATURE


def test_an_issuer_that_may_not_sign_lists_is_refused():
    top = root("Root", extensions=ca_extensions(crl_sign=False))
    assert refusal(check_crl, top.crl(), top, [top]).code is SIGNATURE


def test_a_root_without_key_usage_may_sign_lists():
    top = root("Root", extensions=())
    check_crl(top.crl(), top, [top])


def test_a_list_that_does_not_say_when_it_ends_counts_as_expired():
    top = root("Root")
    made = revocation_list(top)
    dates = made.tbs_certlist_bytes.index(b"\x17\x0d") + 15
    tbs = tlv(0x30, made.tbs_certlist_bytes[2:dates] + made.tbs_certlist_bytes[dates + 15 :])
    algorithm = tlv(0x30, bytes.fromhex("06082a8648ce3d040303"))
    signature = tlv(3, b"\x00" + top.key.sign(tbs, ec.ECDSA(hashes.SHA384())))
    endless = certificates.load_crl(tlv(0x30, tbs + algorithm + signature))
    assert endless.next_update_utc is None
    assert refusal(check_crl, endless, top, [top]).code is EXPIRED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x00",
        b"-----BEGIN X509 CRL-----\n",
        root("Root").pem,
        root("Root").crl() + b"\x00",
        b"\x30" * (257 << 10),
        b"\x30" * (1 << 20),
    ],
)
def test_what_is_no_list_is_malformed(data):
    with pytest.raises(MalformedEvidence):
        certificates.load_crl(data)


def test_a_list_with_a_broken_extension_is_malformed_when_it_is_loaded():
    with pytest.raises(MalformedEvidence):
        certificates.load_crl(root("Root").crl(extensions=[opaque("2.5.29.20", b"\x02")]))
    with pytest.raises(MalformedEvidence):
        certificates.load_crl(
            root("Root").crl([5], entry_extensions=[opaque("2.5.29.21", b"\x0a")])
        )


def test_pkcs1_is_what_an_rsa_certificate_says_when_it_says_nothing_else():
    holder = root("Root", rsa_key("ca"))
    assert isinstance(holder.certificate.signature_algorithm_parameters, padding.PKCS1v15)
    check(holder)


def test_a_name_longer_than_the_rules_allow_is_read_without_a_warning(monkeypatch):
    limits = dict.fromkeys(x509.name._NAMEOID_LENGTH_LIMIT, (1, 100))
    monkeypatch.setattr(x509.name, "_NAMEOID_LENGTH_LIMIT", limits)
    made = root("sottovoce tests, a signer with a name that is longer than sixty-four characters")
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (loaded,) = certificates.load(made.der, at_most=1)
    assert loaded == made.certificate


def test_a_critical_alternative_name_is_understood():
    """A TPM's certificates have one, and no subject."""
    name = x509.SubjectAlternativeName([x509.DNSName("tpm.test.invalid")])
    leaf = three(extensions=((name, True),))
    check(leaf)
