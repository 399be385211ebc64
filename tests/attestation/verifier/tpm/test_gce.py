"""Google's evidence: quotes over several banks, one key, its certificate, the log."""

import json
import random
from dataclasses import replace

import pytest

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm import gce
from attestation.verifier.tpm.claims import Provenance
from attestation.verifier.tpm.gce import MAX_ENCODED, GceEvidence
from attestation.verifier.tpm.instance import Instance
from attestation.verifier.tpm.protobuf import MAX_FIELDS, parse_message
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE, opaque, tlv
from tests.support.evidence.tpm import (
    AK_USAGE,
    EK_USAGE,
    EXTRA_DATA,
    NOW,
    ROOT,
    ROOTS,
    SHA1,
    SHA256,
    SHA384,
    Event,
    GoogleMachine,
    Key,
    Machine,
    certificate,
    instance_extension,
    message,
    number,
    rsa_attestation_key,
    usage_extensions,
    varint,
)

GOOGLE = GoogleMachine()


def verify(machine=GOOGLE, *, evidence=None, chain=None, at=NOW, roots=ROOTS):
    return gce.verify(
        machine.evidence if evidence is None else evidence,
        chain=ROOT.pem if chain is None else chain,
        roots=roots,
        at=at,
    )


def test_authentic_evidence_is_verified():
    claims = verify()
    found = json.loads(json.dumps(claims.to_json()))
    assert claims.tpm.provenance is Provenance.CERTIFICATE
    assert claims.tpm.registers.keys() == {"sha1", "sha256"}
    assert [quote["extraData"] for quote in found["quotes"]] == [EXTRA_DATA.hex()] * 2
    assert [quote["pcr_bank"] for quote in found["quotes"]] == ["sha1 0-23", "sha256 0-23"]
    assert found["secure_boot"] is True
    assert found["unchecked"] == []
    assert found["instance"] == {
        "zone": "zone-1a",
        "project_number": 0x051B5A475C,
        "project_id": "tests.invalid:project",
        "instance_id": 0x53E3FBBF8306C50C,
        "instance_name": "machine",
        "production": True,
    }


@pytest.mark.parametrize("key", [rsa_attestation_key(), Key()])
def test_every_kind_of_key_is_taken(key):
    assert verify(GoogleMachine(Machine(key), quotes=(SHA256, SHA384))).tpm.key


def test_without_issuers_the_key_is_unproven_and_its_certificate_says_nothing():
    claims = verify(chain=b"")
    assert claims.tpm.provenance is Provenance.UNPROVEN
    assert claims.tpm.chain == ()
    assert claims.to_json()["instance"] is None
    bare = verify(GoogleMachine(left_out=frozenset({6, 7})), chain=b"")
    assert bare.tpm.provenance is Provenance.UNPROVEN


def test_what_no_check_reaches_is_named():
    further = b"".join(message(field, b"x") for field in (5, 8, 9))
    claims = verify(GoogleMachine(further=further))
    assert claims.unchecked == ("canonical_event_log", "sev_snp_attestation", "tdx_attestation")


@pytest.mark.parametrize(
    ("extension", "production"),
    [
        (instance_extension(production=False), False),
        (instance_extension(properties=False), None),
    ],
)
def test_the_certificate_says_whether_it_is_of_production(extension, production):
    assert verify(GoogleMachine(extensions=(extension,))).instance.production is production


def test_a_certificate_may_be_silent_about_the_machine():
    assert verify(GoogleMachine(extensions=(opaque("1.3.6.1.4.1.11129.9", b""),))).instance is None


BAD_QUOTE = message(1, GOOGLE.machine.message) + message(2, b"") + message(3, number(1, SHA256))


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (replace(GOOGLE, quote_options={SHA1: {"extra_data": b"x"}}), Code.GCE_QUOTES_MISMATCH),
        (replace(GOOGLE, quotes=(SHA256, SHA256)), Code.GCE_QUOTES_MISMATCH),
        (replace(GOOGLE, quotes=()), Code.GCE_MALFORMED),
        (replace(GOOGLE, quotes=(SHA256,) * 5), Code.GCE_MALFORMED),
        (replace(GOOGLE, quote_options={SHA1: {"magic": 1}}), Code.TPM_NOT_GENERATED),
        (replace(GOOGLE, public=b""), Code.GCE_MALFORMED),
        (replace(GOOGLE, public=Key().public), Code.TPM_SIGNATURE_SCHEME),
        (
            GoogleMachine(Machine(rsa_attestation_key(attributes=0x40072))),
            Code.TPM_AK_ATTRIBUTES,
        ),
        (replace(GOOGLE, certified=Key()), Code.TPM_AK_MISMATCH),
        (replace(GOOGLE, left_out=frozenset({6, 7})), Code.GCE_CERTIFICATE_MISSING),
        (replace(GOOGLE, left_out=frozenset({6})), Code.GCE_MALFORMED),
        (replace(GOOGLE, left_out=frozenset({7})), Code.TPM_CHAIN_BAD),
        (
            replace(GOOGLE, extensions=(opaque("1.3.6.1.4.1.11129.2.1.21", b"\x30\x00"),)),
            Code.GCE_INSTANCE_MALFORMED,
        ),
        (replace(GOOGLE, further=message(10, b"")), Code.GCE_MALFORMED),
        (replace(GOOGLE, further=message(3, b"")), Code.GCE_MALFORMED),
        (replace(GOOGLE, left_out=frozenset({3}), further=number(3, 1)), Code.GCE_MALFORMED),
        (
            replace(GOOGLE, left_out=frozenset({3}), further=message(3, b"x")),
            Code.TPM_EVENT_LOG_MALFORMED,
        ),
        (replace(GOOGLE, quotes=(SHA256,), further=message(2, b"\x20\x00")), Code.GCE_MALFORMED),
        (replace(GOOGLE, quotes=(SHA256,), further=message(2, BAD_QUOTE)), Code.GCE_MALFORMED),
    ],
)
def test_each_forgery_has_its_code(machine, code, refusal):
    assert refusal(verify, machine) is code


def test_another_boot_than_the_log_s_is_refused(refusal):
    log = Machine(events=(Event(4, 0xD, b"x"),)).log
    machine = replace(GOOGLE, left_out=frozenset({3}), further=message(3, log))
    assert refusal(verify, machine) is Code.TPM_EVENT_LOG_MISMATCH


def test_a_chain_is_no_longer_than_it_can_be(refusal):
    others = [certificate(Key(), serial=serial) for serial in range(2, 6)]
    further = b"".join(message(7, each.der) for each in others)
    code = refusal(verify, replace(GOOGLE, further=further))
    assert code is Code.TPM_CHAIN_MALFORMED


def test_a_usage_alone_does_not_make_an_attestation_key(refusal):
    endorsement = usage_extensions(EK_USAGE, digital_signature=False)
    code = refusal(verify, replace(GOOGLE, usage=endorsement))
    assert code is Code.TPM_CERTIFICATE_NOT_OF_AN_AK
    claims = verify(replace(GOOGLE, usage=usage_extensions(AK_USAGE)))
    assert claims.tpm.provenance is Provenance.CERTIFICATE


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"roots": frozenset()}, Code.TPM_ROOT_UNKNOWN),
        ({"chain": b"no certificate"}, Code.TPM_CHAIN_MALFORMED),
        ({"at": NOT_BEFORE - 1}, Code.TPM_CERTIFICATE_NOT_YET_VALID),
        ({"at": NOT_AFTER + 1}, Code.TPM_CERTIFICATE_EXPIRED),
    ],
)
def test_what_it_is_judged_with_has_its_codes(options, code, refusal):
    assert refusal(verify, **options) is code


def test_the_evidence_is_bounded():
    with pytest.raises(MalformedEvidence, match="too long"):
        GceEvidence.parse(bytes(MAX_ENCODED + 1))


@pytest.mark.parametrize(
    "registers",
    [
        b"",
        number(1, 0x12),
        number(1, SHA256) * 2,
        message(1, b""),
        number(1, SHA256) + number(3, 1),
        number(1, SHA256) + number(2, 1),
        number(1, SHA256) + message(2, number(1, 24) + message(2, bytes(32))),
        number(1, SHA256) + message(2, message(1, b"") + message(2, bytes(32))),
        number(1, SHA256) + message(2, number(1, 1) * 2 + message(2, bytes(32))),
        number(1, SHA256) + message(2, number(3, 1)),
        number(1, SHA256) + message(2, number(1, 1)) * 2,
    ],
)
def test_other_registers_are_malformed(registers):
    quote = message(2, message(1, b"") + message(2, b"") + message(3, registers))
    with pytest.raises(MalformedEvidence):
        GceEvidence.parse(quote)


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abcd",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x09" + bytes(8),
        b"\x0d" + bytes(4),
        b"\x0b\x0c",
        b"\x02\x00",
        b"\x08\x80\x00",
        b"\x08" + b"\xff" * 9 + b"\x02",
        b"\x08" + b"\xff" * 10 + b"\x01",
        number(1, 0) * (MAX_FIELDS + 1),
    ],
)
def test_other_messages_are_malformed(data):
    with pytest.raises(MalformedEvidence):
        parse_message(data)


def test_numbers_reach_their_limit():
    assert parse_message(number(1, 2**64 - 1)) == {1: [2**64 - 1]}
    assert parse_message(b"") == {}
    assert varint(300) == b"\xac\x02"


GOOD = instance_extension()[0].value
BODY = GOOD[2:]


def with_properties(value):
    plain = instance_extension(properties=False)[0].value[2:]
    return tlv(0x30, plain + value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        b"\x31" + GOOD[1:],
        tlv(0x30, BODY + b"\x05\x00"),
        tlv(0x30, BODY[9:]),
        tlv(0x30, b"\x82\x00\x01"),
        b"\x30\x82\x00\x01\x00",
        b"\x30\x81\x01\x00",
        GOOD.replace(b"\x02\x05\x05", b"\x02\x05\x85"),
        GOOD.replace(b"zone-1a", b"zone-1\xff"),
        with_properties(tlv(0xA1, tlv(0x30, b""))),
        with_properties(tlv(0xA0, tlv(0x31, b""))),
        with_properties(tlv(0xA0, tlv(0x30, tlv(0xA1, tlv(0x01, b"\x01"))))),
        with_properties(tlv(0xA0, tlv(0x30, tlv(0xA1, tlv(0x02, b"\xff"))))),
        with_properties(tlv(0xA0, b"")),
    ],
)
def test_another_statement_about_the_machine_is_malformed(value):
    with pytest.raises(MalformedEvidence):
        Instance.parse(value)


def test_a_number_has_content():
    empty = GOOD.replace(tlv(2, bytes.fromhex("051b5a475c")), tlv(2, b""))
    with pytest.raises(MalformedEvidence):
        Instance.parse(tlv(0x30, empty[2:]))
    without = with_properties(tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0x02, b"\0")))))
    assert Instance.parse(without).production is None
    long = tlv(0x30, tlv(0x0C, b"z" * 130) + BODY[9:])
    assert Instance.parse(long).zone == "z" * 130


def flips(count):
    """Flip a bit in the quotes, the log's measured part, the key or its certificate."""
    source = random.Random(6)
    good = GOOGLE.evidence
    begin = good.index(GOOGLE.quote(SHA1)[:20])
    end = begin + len(GOOGLE.quote(SHA1)) + len(GOOGLE.quote(SHA256))
    for _ in range(count):
        changed = bytearray(good)
        changed[source.randrange(begin, end)] ^= 1 << source.randrange(8)
        with pytest.raises(Refused):
            verify(evidence=bytes(changed))


def test_no_flipped_bit_is_accepted():
    flips(200)


@pytest.mark.soak
def test_no_flipped_bit_of_ten_thousand_is_accepted():
    flips(10_000)
