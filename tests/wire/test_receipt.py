"""Receipts: COSE_Sign1 as any COSE library reads it, in one encoding, salted, bound, unmovable."""

import hashlib
import json
from dataclasses import replace

import cbor2
import cwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BadSignature, Malformed, Unsupported, WireError
from wire.receipt import (
    ATTESTATION_PLACEHOLDER,
    PROFILE,
    Receipt,
    ResponseHash,
    SignedReceipt,
    Transfers,
    Verification,
    request_hash,
    sign,
    verify,
    with_attestation,
    without_attestation,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
RECEIPT = Receipt(
    key_document=b"\x01" * 32,
    request_hash=b"\x02" * 32,
    response_hash=b"\x03" * 32,
    model_digest=b"\x04" * 32,
    prompt_tokens=1234,
    completion_tokens=56,
    verification=Verification("audit", 78_901, b"\x05" * 32),
    transfers=Transfers("sealed", 23, 20, 3),
    issued_at=1_800_000_000,
)
CLAIMS = {
    6: 1_800_000_000,
    8: {3: b"\x01" * 32},
    10: b"\x02" * 32,
    265: PROFILE,
    -65537: b"\x03" * 32,
    -65538: b"\x04" * 32,
    -65539: [1234, 56],
    -65540: ["audit", 78_901, b"\x05" * 32],
    -65541: ["sealed", 23, 20, 3],
}
SIGNED = sign(RECEIPT, KEY)
PROTECTED = bytes.fromhex("a10127")


def sig_structure(protected, payload):
    """RFC 9052, section 4.4, by a foreign encoder."""
    return cbor2.dumps(["Signature1", protected, b"", payload])


def cose(claims=CLAIMS, *, protected=PROTECTED, unprotected=None, key=KEY, tag=18, canonical=True):
    """A COSE_Sign1 made without our code."""
    payload = claims if isinstance(claims, bytes) else cbor2.dumps(claims, canonical=canonical)
    signature = key.sign(sig_structure(protected, payload))
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected or {}, payload, signature]))


# --- the format, judged by others -------------------------------------------------------------


def test_our_reading_of_the_sig_structure_is_that_of_the_cose_working_group():
    """COSE working group examples, eddsa-sig-01."""
    vector = bytes.fromhex(
        "d28445a201270300a10442313154546869732069732074686520636f6e74656e742e58407142fd2ff96d56db85"
        "bee905a76ba1d0b7321a95c8c4d3607c5781932b7afb8711497dfa751bf40b58b3bcc32300b1487f3db34085ee"
        "f013bf08f4a44d6fef0d"
    )
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    protected, _, payload, signature = cbor2.loads(vector).value
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    key.verify(signature, sig_structure(protected, payload))
    with pytest.raises(WireError):  # but it is no receipt: further headers, no claims
        verify(vector, bytes.fromhex(public))


def test_a_receipt_is_the_cose_sign1_that_foreign_code_computes():
    assert cose() == SIGNED


def test_a_receipt_opens_with_a_cose_library():
    key = cwt.COSEKey.new({1: 1, -1: 6, 3: -8, -2: PUBLIC})
    assert cbor2.loads(cwt.COSE.new().decode(SIGNED, key)) == CLAIMS


def test_the_known_answer():
    assert SIGNED.hex() == (
        "d28443a10127a0590115a9061a6b49d20008a103582001010101010101010101010101010101010101010101"
        "010101010101010101010a582002020202020202020202020202020202020202020202020202020202020202"
        "0219010978257461673a736f74746f766f63652e696e76616c69642c323032363a726563656970742d76313a"
        "00010000582003030303030303030303030303030303030303030303030303030303030303033a0001000158"
        "2004040404040404040404040404040404040404040404040404040404040404043a00010002821904d21838"
        "3a00010003836561756469741a00013435582005050505050505050505050505050505050505050505050505"
        "050505050505053a0001000484667365616c65641714035840f3ff48905fe71db6cd6c576e2b88cc59133378"
        "a6d615a8007acbea20e3d8db0d568fdab9ce504812fb58a51c6ea8c67d6caba519f5095e8f9da366eabefc79"
        "0b"
    )


def test_the_claims_are_in_the_order_of_both_deterministic_encodings():
    """RFC 8949, section 4.2.1, and the length-first order of section 4.2.3, agree on our keys."""
    payload = cbor2.loads(SIGNED).value[2]
    keys = [cbor2.dumps(key) for key in cbor2.loads(payload)]
    assert keys == sorted(keys)
    assert keys == sorted(keys, key=lambda key: (len(key), key))


def test_a_receipt_fits_in_half_a_kilobyte():
    assert len(SIGNED) < 512


# --- verify -----------------------------------------------------------------------------------


def test_a_signed_receipt_verifies_to_what_was_signed():
    assert verify(SIGNED, PUBLIC) == RECEIPT
    largest = replace(
        RECEIPT, prompt_tokens=2**64 - 1, transfers=Transfers("none", 0, 0, 2**64 - 1)
    )
    assert verify(sign(largest, KEY), PUBLIC) == largest


def test_another_key_is_a_bad_signature():
    other = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32).public_key().public_bytes_raw()
    for key in (other, b"\xff" * 32, b"", PUBLIC[:-1]):
        with pytest.raises(BadSignature):
            verify(SIGNED, key)


@pytest.mark.parametrize(
    "protected",
    [
        cbor2.dumps({1: -7}),  # ES256
        cbor2.dumps({1: 5}),  # HMAC
        cbor2.dumps({1: -19}),  # Ed25519, fully specified: one name is enough
        cbor2.dumps({}),
        b"",
        cbor2.dumps({1: -8, 4: b"11"}),
        cbor2.dumps({1: -8, 2: [99], 99: 0}),  # a critical header
        bytes.fromhex("bf0127ff"),  # the same header, of indefinite length
        bytes.fromhex("a1013807"),  # the same header, -8 in two bytes
    ],
)
def test_another_protected_header_is_unsupported_though_its_signature_is_good(protected):
    with pytest.raises(Unsupported):
        verify(cose(protected=protected), PUBLIC)


@pytest.mark.parametrize("unprotected", [{4: b"11"}, {1: -8}, {"note": "x"}])
def test_an_unprotected_header_is_refused(unprotected):
    with pytest.raises(Malformed):
        verify(cose(unprotected=unprotected), PUBLIC)


def test_another_shape_is_refused():
    protected, unprotected, payload, signature = parts = cbor2.loads(SIGNED).value
    untagged = cbor2.dumps(parts)
    for other in (
        untagged,
        cose(tag=17),
        cose(tag=98),
        cbor2.dumps(cbor2.CBORTag(61, cbor2.CBORTag(18, parts))),
        cbor2.dumps(cbor2.CBORTag(18, parts[:3])),
        cbor2.dumps(cbor2.CBORTag(18, [*parts, None])),
        cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, None, signature])),
        cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, signature + b"\x00"])),
        cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, signature[:-1]])),
        cbor2.dumps(cbor2.CBORTag(18, [protected, None, payload, signature])),
        cbor2.dumps(cbor2.CBORTag(18, b"text")),
        b"\xd8\x12" + SIGNED[1:],  # tag 18 in two bytes
        b"",
        bytes(1025),
    ):
        with pytest.raises(Malformed):
            SignedReceipt.decode(other)


@pytest.mark.parametrize(
    "changes",
    [
        {6: True},
        {6: -1},
        {6: 1_800_000_000.0},
        {6: 2**41},
        {8: {3: b"\x01" * 31}},
        {8: {3: b"\x01" * 32, 1: b""}},
        {8: b"\x01" * 32},
        {10: b"\x02" * 33},
        {10: "2" * 32},
        {-65537: b""},
        {-65538: None},
        {-65539: [1234]},
        {-65539: [1234, 56, 1290]},
        {-65539: [1234, -1]},
        {-65539: [1234, 2**64]},
        {-65539: [True, 56]},
        {-65540: ["audits", 78_901, b"\x05" * 32]},
        {-65540: [["audit"], 78_901, b"\x05" * 32]},
        {-65540: ["audit", "78901", b"\x05" * 32]},
        {-65540: ["audit", 78_901, b"\x05" * 16]},
        {-65540: ["audit", 78_901]},
        {-65541: ["open", 23, 20, 3]},
        {-65541: ["sealed", 23, 20]},
        {-65541: ["sealed", 23, 20, 3, 0]},
        {-65541: ["sealed", 23.0, 20, 3]},
        {4: 1_900_000_000},  # exp: a receipt does not expire
        {"note": "free text"},
    ],
)
def test_claims_outside_the_format_are_refused_though_signed(changes):
    with pytest.raises(Malformed):
        verify(cose(CLAIMS | changes), PUBLIC)


def test_a_missing_claim_is_refused_though_signed():
    for name in CLAIMS:
        less = {key: value for key, value in CLAIMS.items() if key != name}
        with pytest.raises(Malformed):
            verify(cose(less), PUBLIC)


def test_another_profile_is_unsupported():
    with pytest.raises(Unsupported):
        verify(cose(CLAIMS | {265: PROFILE + "2"}), PUBLIC)


def test_claims_in_another_encoding_are_refused_though_signed():
    for claims in (
        cbor2.dumps(dict(reversed(CLAIMS.items()))),
        cbor2.dumps({float(k) if k == 6 else k: v for k, v in CLAIMS.items()}, canonical=True),
        cbor2.dumps(CLAIMS, canonical=True) + b"\x00",
        cbor2.dumps(list(CLAIMS.values())),
        b"",
    ):
        with pytest.raises(Malformed):
            verify(cose(claims), PUBLIC)


def test_every_truncation_and_any_extension_is_refused():
    for length in range(len(SIGNED)):
        with pytest.raises(Malformed):
            verify(SIGNED[:length], PUBLIC)
    for tail in (b"\x00", b"\xf6", SIGNED):
        with pytest.raises(Malformed):
            verify(SIGNED + tail, PUBLIC)


def test_every_flipped_bit_is_refused():
    for position in range(len(SIGNED)):
        for bit in range(8):
            flipped = bytearray(SIGNED)
            flipped[position] ^= 1 << bit
            with pytest.raises(WireError):
                verify(bytes(flipped), PUBLIC)


@given(st.binary(max_size=80))
def test_garbage_is_refused(data):
    with pytest.raises(Malformed):
        verify(data, PUBLIC)


def test_a_receipt_cannot_be_made_of_values_outside_the_format():
    for make in (
        lambda: replace(RECEIPT, key_document=b""),
        lambda: replace(RECEIPT, request_hash=bytes(33)),
        lambda: replace(RECEIPT, issued_at=1.5),
        lambda: replace(RECEIPT, completion_tokens=-1),
        lambda: Verification("some", 1, bytes(32)),
        lambda: Verification("audit", -1, bytes(32)),
        lambda: Transfers("none", 0, 2**64, 0),
    ):
        with pytest.raises(Malformed):
            make()


# --- the salted hashes ------------------------------------------------------------------------

SALT = bytes(range(32))


def test_the_request_hash_is_the_documented_one():
    body = b'{"model":"tinychat"}'
    expected = hashlib.sha256(SALT + b"/v1/chat/completions" + b"\x00" + body).digest()
    assert request_hash(SALT, b"/v1/chat/completions", body) == expected
    assert (
        request_hash(SALT, b"/v1/chat/completions", body).hex()
        == "850f59809f0f3c9a76d17ee5d8d588b94711f1360e4cc5479d26f451c78c62cd"
    )


def test_no_byte_moves_between_path_and_body():
    with pytest.raises(Malformed):
        request_hash(SALT, b"/v1\x00", b"")
    assert request_hash(SALT, b"/v1", b"\x00") != request_hash(SALT, b"/v1", b"")


def test_the_response_hash_is_the_documented_one():
    running = ResponseHash(SALT)
    assert running.digest() == hashlib.sha256(SALT).digest()
    running.add(b"one")
    running.add(b"")
    framed = b"\x00\x00\x00\x03one" + b"\x00\x00\x00\x00"
    assert running.digest() == hashlib.sha256(SALT + framed).digest()
    assert (
        running.digest().hex() == "55902955c766246e8cf19542897d25ce526c8471c5e0ba3fe966d5cdce162b54"
    )


def test_no_byte_moves_between_two_payloads():
    def of(*payloads):
        running = ResponseHash(SALT)
        for payload in payloads:
            running.add(payload)
        return running.digest()

    assert len({of(b"ab"), of(b"a", b"b"), of(b"", b"ab"), of(b"ab", b"")}) == 4


def test_a_salt_is_32_bytes():
    for salt in (b"", bytes(16), bytes(33)):
        with pytest.raises(Malformed):
            request_hash(salt, b"/", b"")
        with pytest.raises(Malformed):
            ResponseHash(salt)


# --- the attestation member -------------------------------------------------------------------

HASHED = b'{"id":"chatcmpl-1","choices":[],"attestation":null}'
ATTESTATION = b'{"receipt":"aGVsbG8=","node":"00","verification":[]}'


EVENT = b'{"type":"response.completed","response":{"id":"resp_1","attestation":null}}'


def test_an_event_carries_the_attestation_at_the_end_of_its_response():
    carried = with_attestation(EVENT, ATTESTATION)
    assert without_attestation(carried) == (EVENT, ATTESTATION)
    assert json.loads(carried)["response"]["attestation"] == json.loads(ATTESTATION)


def test_the_attestation_takes_the_place_of_the_placeholder_and_leaves_it_again():
    carried = with_attestation(HASHED, ATTESTATION)
    assert carried == HASHED.replace(b"null", ATTESTATION)
    assert without_attestation(carried) == (HASHED, ATTESTATION)
    assert json.loads(carried)["attestation"] == json.loads(ATTESTATION)
    assert HASHED.endswith(b"," + ATTESTATION_PLACEHOLDER + b"}")


def test_a_model_that_writes_the_member_into_its_text_confuses_nobody():
    said = json.dumps(',"attestation":null} and ,"attestation":{"receipt":""}}')
    hashed = b'{"content":' + said.encode() + b',"attestation":null}'
    carried = with_attestation(hashed, ATTESTATION)
    assert without_attestation(carried) == (hashed, ATTESTATION)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[DONE]",
        HASHED,  # null is no attestation
        EVENT,
        b'{"attestation":{"receipt":""}}',  # never the only member
        b'{"id":1,"attestation":{"receipt":""},"usage":null}',  # not the last
        b'{"id":1,"attestation" :{"receipt":""}}',
        b'{"id":1,"attestation": {"receipt":""}}',
        b'{"id":1,"attestation":{"receipt":""} }',
        b'{"id":1, "attestation":{"receipt":""}}',
        b'{"id":1,"attestation":{"receipt":""}} ',
        b'{"id":1,"attestation":{"receipt":""}}\n',
        b'{"id":1,"attestation":{"receipt":""}',
        b'{"id":1,"attestation":{"receipt":""}}}',
        b'{"id":1,"attestation":["receipt"]}',
        b'{"id":1,"attestation":"receipt"}',
        b'{"id":1,"attestation":{"receipt":}}',
        b'{"a":{"id":1,"attestation":{"receipt":""}}}',  # deeper
        b'{"response":{"id":1,"attestation":{"receipt":""}},"a":1}',  # not in the last member
        b'{"response":1,"a":{"id":1,"attestation":{"receipt":""}}}',
        b'{"a":{"response":{"id":1,"attestation":{"receipt":""}}}}',  # deeper still
        b'{"response":{"attestation":{"receipt":""}}}',  # never the only member
        b'{"response":{"id":1,"attestation":{"receipt":""}} }',
        b'{"id":1,"response":{"id":1,"attestation":{}},"attestation":{}}',  # twice
        b'{"id":1,"attestation":{"a":1,"attestation":{}}}',  # twice, one inside the other
        b'{"a":{"b":1,"attestation":{}},"attestation":{}}',
        b'{"id":1,"attestation":{},"attestation":{}}',
        b'{"attestation":1,"id":1,"attestation":{}}',
        b'[{"id":1},"attestation":{}}',
        b'"id":1,"attestation":{}}',
        b'{"id":1,"id":2,"attestation":{}}',
        b'{"id":NaN,"attestation":{}}',
        b'{"id":"\xff","attestation":{}}',
    ],
)
def test_a_payload_that_does_not_carry_exactly_one_attestation_at_its_end_is_refused(payload):
    with pytest.raises(Malformed):
        without_attestation(payload)


@pytest.mark.parametrize(
    ("payload", "attestation"),
    [
        (b"{}", ATTESTATION),
        (b'{"attestation":null}', ATTESTATION),
        (b'{"attestation":null,"id":1}', ATTESTATION),
        (HASHED, b""),
        (HASHED, b"null"),
        (HASHED, b"[]"),
        (HASHED, b'{},"more":{}'),
        (HASHED, b'{"a":1,"attestation":{}}'),
        (b'{"a":{"b":1,"attestation":{}},"attestation":null}', ATTESTATION),
        (b"no JSON" + HASHED, ATTESTATION),
    ],
)
def test_an_attestation_that_would_not_be_found_again_is_not_put_in(payload, attestation):
    with pytest.raises(Malformed):
        with_attestation(payload, attestation)


TEXT = st.text(max_size=20) | st.just(',"attestation":{"a":1}}')
OBJECTS = st.dictionaries(TEXT.filter(lambda name: name != "attestation"), TEXT, max_size=3)


@given(OBJECTS.filter(bool), OBJECTS, st.booleans())
def test_put_in_and_taken_out_is_the_same_for_any_object(members, attestation, ascii_only):
    def compact(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).encode()

    hashed = compact(members)[:-1] + b',"attestation":null}'
    carried = with_attestation(hashed, compact(attestation))
    assert without_attestation(carried) == (hashed, compact(attestation))
