"""One forgery for each check of an OCSP response."""

import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as builder
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.errors import Code, Refused
from attestation.verifier.nvidia import ocsp
from attestation.verifier.nvidia.reader import Reader, read_der
from tests.support.evidence.authority import ca_extensions, ec_key, opaque, rsa_key, tlv
from tests.support.evidence.nvidia import (
    NOW,
    attestation_key,
    delegate,
    device_root,
    ocsp_response,
    ocsp_responses,
    ocsp_signed,
    rim_signer,
)

DEVICE = attestation_key().issuer
ISSUER = DEVICE.issuer
RESPONSE = ocsp_response(DEVICE)
TBS = builder.load_der_ocsp_response(RESPONSE).tbs_response_bytes
REVOKED, UNKNOWN = builder.OCSPCertStatus.REVOKED, builder.OCSPCertStatus.UNKNOWN
BAD_RESPONDER = Code.GPU_OCSP_RESPONDER_BAD


def check(response=RESPONSE, holder=DEVICE, *, at=NOW):
    return ocsp.check(response, holder.certificate, holder.issuer.certificate, at=at)


def code(*args, **kwargs):
    with pytest.raises(Refused) as caught:
        check(*args, **kwargs)
    return caught.value.code


def made(**options):
    return code(ocsp_response(DEVICE, **options))


def test_a_good_response_of_a_delegate_says_when():
    claims = check()
    assert (claims.this_update, claims.next_update) == (NOW - 3600, NOW + 3600)
    assert claims.to_json()["status"] == "good"


def test_the_issuer_may_answer_itself():
    for listed in ([], [ISSUER.certificate]):
        assert check(ocsp_response(DEVICE, responder=ISSUER, certificates=listed)) == check()


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384()])
def test_the_certificate_may_be_named_by_either_hash(digest):
    assert check(ocsp_response(DEVICE, id_digest=digest)) == check()


@pytest.mark.parametrize(
    "response", [b"", b"junk", RESPONSE[:-1], RESPONSE + b"\x00", tlv(0x30, bytes(ocsp.MAX_LENGTH))]
)
def test_what_is_no_response(response):
    assert code(response) == Code.GPU_OCSP_MALFORMED


def test_a_responder_that_gives_no_answer():
    later = builder.OCSPResponseBuilder.build_unsuccessful(builder.OCSPResponseStatus.TRY_LATER)
    assert code(later.public_bytes(Encoding.DER)) == Code.GPU_OCSP_MALFORMED


def test_several_answers_in_one():
    reader, parts = Reader(read_der(Reader(TBS, "tbs"))[1], "tbs"), []
    while not reader.exhausted:
        tag, content = read_der(reader)
        parts.append(tlv(tag, content * (2 if tag == 0x30 else 1)))
    assert code(ocsp_signed(TBS)) == Code.GPU_OCSP_SIGNATURE_BAD  # by no key of a responder's
    key = delegate(ISSUER).key
    listed = [delegate(ISSUER).certificate]
    assert check(ocsp_signed(TBS, key, listed)) == check()
    twice = ocsp_signed(tlv(0x30, b"".join(parts)), key, listed)
    assert code(twice) == Code.GPU_OCSP_MALFORMED


# Who may answer


def test_a_delegate_of_another_authority():
    other = delegate(rim_signer(extensions=ca_extensions()))
    assert made(responder=other) == BAD_RESPONDER


def test_a_delegate_whose_issuer_is_higher_up():
    assert made(responder=delegate(device_root())) == BAD_RESPONDER


def test_a_delegate_whose_certificate_is_forged():
    forger = ISSUER.__class__(ISSUER.certificate, ec_key("forger"), ISSUER.issuer)
    assert made(responder=delegate(forger)) == BAD_RESPONDER


@pytest.mark.parametrize("usages", [[], [ExtendedKeyUsageOID.SERVER_AUTH]])
def test_a_certificate_that_delegates_nothing(usages):
    assert made(responder=delegate(ISSUER, usages=usages)) == BAD_RESPONDER


def test_a_device_that_answers_for_itself():
    assert made(responder=DEVICE) == BAD_RESPONDER


def test_a_delegate_over_a_weak_digest_or_with_a_critical_extension():
    weak = delegate(ISSUER, digest=hashes.SHA224())
    assert made(responder=weak) == BAD_RESPONDER
    critical = (opaque("1.2.3", b"\x05\x00")[0], True)
    assert made(responder=delegate(ISSUER, critical=[critical])) == BAD_RESPONDER


def test_a_delegate_before_and_after_its_dates():
    assert made(responder=delegate(ISSUER, not_before=NOW + 1)) == BAD_RESPONDER
    assert made(responder=delegate(ISSUER, not_after=NOW - 1)) == BAD_RESPONDER


def test_a_delegate_with_a_key_of_another_kind():
    assert made(responder=delegate(ISSUER, key=rsa_key("responder"))) == BAD_RESPONDER


# What is signed


def test_a_response_that_another_key_has_signed():
    listed = [delegate(ISSUER).certificate]
    assert code(ocsp_signed(TBS, ec_key("another"), listed)) == Code.GPU_OCSP_SIGNATURE_BAD


def test_a_response_over_a_weak_digest():
    assert made(digest=hashes.SHA224()) == Code.GPU_OCSP_SIGNATURE_BAD


@pytest.mark.parametrize(
    ("oid", "expected"),
    [("2b6570", Code.GPU_OCSP_SIGNATURE_BAD), ("2a0304", Code.GPU_OCSP_MALFORMED)],
    ids=["Ed25519", "unknown"],
)
def test_a_signature_of_another_algorithm(oid, expected):
    key, listed = delegate(ISSUER).key, [delegate(ISSUER).certificate]
    assert code(ocsp_signed(TBS, key, listed, oid=bytes.fromhex(oid))) == expected


@pytest.mark.parametrize(
    "holder", [attestation_key("two").issuer, ISSUER, rim_signer()], ids=["peer", "issuer", "other"]
)
def test_a_response_about_another_certificate(holder):
    response = ocsp_response(holder, responder=delegate(ISSUER))
    assert code(response) == Code.GPU_OCSP_OTHER_CERTIFICATE


def test_a_certificate_that_is_named_by_a_weak_hash():
    assert made(id_digest=hashes.SHA1()) == Code.GPU_OCSP_OTHER_CERTIFICATE


def test_a_critical_extension_of_the_response():
    critical = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)
    assert made(extensions=[critical]) == Code.GPU_OCSP_MALFORMED
    nonce = (x509.OCSPNonce(b"\x01" * 16), False)
    assert check(ocsp_response(DEVICE, extensions=[nonce])) == check()


def test_a_response_from_the_future_but_for_the_skew_of_clocks():
    assert made(this_update=NOW + 301) == Code.GPU_OCSP_FROM_THE_FUTURE
    assert check(ocsp_response(DEVICE, this_update=NOW + 300)).this_update == NOW + 300
    assert code(at=0) == BAD_RESPONDER  # its certificate is not valid yet, either


def test_a_response_that_is_not_to_be_used_any_more():
    assert code(at=NOW + 3601) == Code.GPU_OCSP_EXPIRED
    assert made(next_update=None) == Code.GPU_OCSP_EXPIRED


def test_a_certificate_that_is_revoked_on_hold_or_unknown():
    assert made(status=REVOKED) == Code.GPU_OCSP_REVOKED
    assert made(status=UNKNOWN) == Code.GPU_OCSP_UNKNOWN


def flips(count):
    rng = random.Random(4)
    start = RESPONSE.index(TBS)
    for _ in range(count):
        at, by = rng.randrange(start, start + len(TBS)), rng.randrange(1, 256)
        changed = bytearray(RESPONSE)
        changed[at] ^= by
        yield bytes(changed)


def test_no_flipped_byte_of_what_is_signed_is_accepted():
    for changed in flips(200):
        assert code(changed).startswith("gpu-ocsp-")


@pytest.mark.soak
def test_no_flipped_byte_of_ten_thousand_is_accepted():
    for changed in flips(10_000):
        assert code(changed).startswith("gpu-ocsp-")


# Chains


def check_all(responses, holder=DEVICE):
    return ocsp.check_all(responses, holder.chain, at=NOW)


def code_of_all(responses):
    with pytest.raises(Refused) as caught:
        check_all(responses)
    return caught.value.code


def test_a_chain_needs_a_response_for_each_certificate_but_the_root():
    assert check_all(ocsp_responses(DEVICE)) == check()
    parts = ocsp.split(ocsp_responses(DEVICE))
    assert len(parts) == 3
    assert code_of_all(b"".join(parts[:2])) == Code.GPU_OCSP_MISSING
    assert code_of_all(b"".join(parts * 2)) == Code.GPU_OCSP_MISSING
    assert code_of_all(b"") == Code.GPU_OCSP_MISSING
    assert code_of_all(b"".join(reversed(parts))).startswith("gpu-ocsp-")
    revoked = ocsp_response(ISSUER, status=REVOKED)
    assert code_of_all(parts[0] + revoked + parts[2]) == Code.GPU_OCSP_REVOKED


def test_of_a_chain_the_oldest_response_counts():
    first, second, third = ocsp.split(ocsp_responses(DEVICE))
    older = ocsp_response(ISSUER, this_update=NOW - 7200, next_update=NOW + 60)
    found = check_all(first + older + third)
    assert (found.this_update, found.next_update) == (NOW - 7200, NOW + 60)
    assert second != older


@pytest.mark.parametrize(
    "responses",
    [
        b"\x30",
        b"\x31\x00",
        b"\x30\x84\x3f\xff\xff\xff",
        b"\x30\x00" * (ocsp.MAX_RESPONSES + 1),
        bytes(ocsp.MAX_RESPONSES * ocsp.MAX_LENGTH + 1),
    ],
)
def test_what_are_no_responses(responses):
    assert code_of_all(responses) == Code.GPU_OCSP_MALFORMED
