"""A TPM's structures are read as Part 2 writes them, to the last byte, and in no other form."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import Code, MalformedEvidence
from attestation.verifier.tpm.attest import parse_certification, parse_quote, parse_selection
from attestation.verifier.tpm.keys import (
    MAX_SIGNATURE,
    Attributes,
    check_signature,
    parse_public,
    parse_signature,
    spki,
)
from attestation.verifier.tpm.reader import Reader
from tests.support.evidence.authority import ec_key, rsa_key
from tests.support.evidence.tpm import (
    ECDSA,
    EXTRA_DATA,
    NULL,
    RSAPSS,
    RSASSA,
    SHA1,
    SHA256,
    SHA384,
    Key,
    attest,
    certification_of,
    quote_of,
    rsa_attestation_key,
    selection,
    tpm2b,
    u,
)

VALUES = {SHA256: {0: b"\x01" * 32, 7: b"\x02" * 32}, SHA384: {23: b"\x03" * 48}}
QUOTE = quote_of(VALUES, SHA256)
P384 = Key(ec_key("attestation", ec.SECP384R1()), digest=SHA384)
KEYS = (Key(), P384, rsa_attestation_key(), Key(rsa_key("attestation"), scheme=RSAPSS))


def test_a_quote_says_which_registers_and_when():
    quote = parse_quote(QUOTE)
    assert quote.attested.selection == (("sha256", (0, 7)), ("sha384", (23,)))
    assert quote.extra_data == EXTRA_DATA
    assert (quote.clock.milliseconds, quote.clock.resets, quote.clock.restarts) == (5_000_000, 3, 1)
    assert quote.clock.safe
    assert quote.firmware_version == 0x2023
    assert len(quote.qualified_signer) == 34


def test_a_certification_names_an_object():
    assert parse_certification(certification_of(Key().name)).attested.name == Key().name


@pytest.mark.parametrize(
    ("parse", "good"), [(parse_quote, QUOTE), (parse_certification, certification_of(b"name"))]
)
def test_a_statement_is_neither_shorter_nor_longer(parse, good):
    for length in range(6, len(good)):
        with pytest.raises(MalformedEvidence):
            parse(good[:length])
    for more in (b"\0", bytes(1024)):
        with pytest.raises(MalformedEvidence):
            parse(good + more)


def test_what_no_tpm_made_is_no_quote(refusal):
    assert refusal(parse_quote, attest(0x8018, b"", magic=0)) is Code.TPM_NOT_GENERATED
    assert refusal(parse_quote, certification_of(b"name")) is Code.TPM_NOT_A_QUOTE
    assert refusal(parse_certification, QUOTE) is Code.TPM_NOT_A_CERTIFICATION


@pytest.mark.parametrize(
    ("banks", "reason"),
    [
        ({}, "no register"),
        ({SHA256: ()}, "no register"),
        ({0x12: (1,)}, "unknown bank"),
        (dict.fromkeys((4, 11, 12, 13, 0x27), (1,)), "more banks"),
    ],
)
def test_a_selection_is_of_banks_that_are_known(banks, reason):
    with pytest.raises(MalformedEvidence, match=reason):
        parse_selection(Reader(selection(banks), "selection"))


def test_a_selection_names_no_bank_twice():
    twice = u(2, 4) + selection({SHA256: (1,)})[4:] * 2
    with pytest.raises(MalformedEvidence, match="twice"):
        parse_selection(Reader(twice, "selection"))


def test_a_selection_has_no_more_registers_than_a_tpm():
    with pytest.raises(MalformedEvidence, match="at most 3"):
        parse_selection(Reader(u(1, 4) + u(SHA256, 2) + b"\x04" + bytes(4), "selection"))


def test_a_clock_is_safe_or_not():
    with pytest.raises(MalformedEvidence, match="neither"):
        parse_quote(quote_of(VALUES, SHA256, safe=2))


@pytest.mark.parametrize("key", KEYS)
def test_a_key_and_its_signature_are_understood(key, refusal):
    public = parse_public(key.public)
    assert spki(public.key) == spki(key.public_key)
    assert public.name == key.name
    assert Attributes.RESTRICTED in public.attributes
    assert parse_public(tpm2b(key.public)) == public
    public.check_attestation_key()
    signature = parse_signature(key.sign(b"message"))
    public.check_scheme(signature)
    check_signature(public.key, signature, b"message", Code.TPM_SIGNATURE_BAD)
    wrong = refusal(check_signature, public.key, signature, b"another", Code.TPM_SIGNATURE_BAD)
    assert wrong is Code.TPM_SIGNATURE_BAD


@pytest.mark.parametrize("key", KEYS)
def test_keys_and_signatures_are_neither_shorter_nor_longer(key):
    for parse, good in ((parse_public, key.public), (parse_signature, key.sign(b"message"))):
        for length in (*range(4, len(good), 7), len(good) - 1):
            with pytest.raises(MalformedEvidence):
                parse(good[:length])
        for more in (b"\0", bytes(MAX_SIGNATURE)):
            with pytest.raises(MalformedEvidence):
                parse(good + more)


@pytest.mark.parametrize(
    ("public", "reason"),
    [
        (Key(name_algorithm=SHA256).public.replace(u(SHA256, 2), u(0x12, 2), 1), "name algorithm"),
        (u(8, 2) + Key().public[2:], "neither RSA nor ECC"),
        (Key().public.replace(u(3, 2) + u(NULL, 2), u(5, 2) + u(NULL, 2)), "another curve"),
        (Key().public[:-1] + bytes([Key().public[-1] ^ 1]), "not on the curve"),
        (rsa_attestation_key(exponent=2).public, "no public key"),
        (Key(rsa_key("short", 1024), scheme=RSASSA).public, "2,048"),
        (rsa_attestation_key().public.replace(u(2048, 2), u(3072, 2), 1), "as it says"),
    ],
)
def test_keys_of_other_kinds_are_malformed(public, reason):
    with pytest.raises(MalformedEvidence, match=reason):
        parse_public(public)


ENCRYPTION = Key(
    rsa_key("attestation"),
    attributes=0x000300B2,
    symmetric=u(6, 2) + u(128, 2) + u(0x43, 2),
    own_scheme=u(NULL, 2),
)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (ENCRYPTION, Code.TPM_AK_ATTRIBUTES),
        *(
            (Key(attributes=0x00050072 ^ bit), Code.TPM_AK_ATTRIBUTES)
            for bit in (1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17, 1 << 18)
        ),
        (Key(own_scheme=u(NULL, 2)), Code.TPM_KEY_UNSUPPORTED),
        (rsa_attestation_key(own_scheme=u(0x15, 2)), Code.TPM_KEY_UNSUPPORTED),
        (Key(own_scheme=u(0x1A, 2) + u(SHA256, 2) + u(0, 2)), Code.TPM_KEY_UNSUPPORTED),
    ],
)
def test_other_keys_are_no_attestation_keys(key, code, refusal):
    assert refusal(parse_public(key.public).check_attestation_key) is code


def test_a_key_with_a_key_derivation_scheme_is_read():
    encoded = Key().public.replace(u(3, 2) + u(NULL, 2), u(3, 2) + u(0x20, 2) + u(SHA256, 2))
    assert spki(parse_public(encoded).key) == spki(Key().public_key)


@pytest.mark.parametrize("head", [u(ECDSA, 2) + u(SHA1, 2), u(0x1B, 2) + u(SHA256, 2)])
def test_signatures_that_are_weak_or_of_another_scheme_are_refused(head, refusal):
    assert refusal(parse_signature, head + tpm2b(bytes(32)) * 2) is Code.TPM_SIGNATURE_SCHEME


def test_a_signature_is_of_the_key_s_kind_and_scheme(refusal):
    signature = parse_signature(rsa_attestation_key().sign(b"message"))
    public = parse_public(Key().public)
    assert refusal(public.check_scheme, signature) is Code.TPM_SIGNATURE_SCHEME
    code = refusal(check_signature, public.key, signature, b"message", Code.TPM_SIGNATURE_BAD)
    assert code is Code.TPM_SIGNATURE_BAD
