"""A plain TPM's evidence: accepted as it is made, and with one thing forged refused for that."""

import json
import random

import pytest

from attestation.errors import Code, MalformedEvidence, Refused
from attestation.verifier.tpm import quote
from attestation.verifier.tpm.claims import Provenance, describe
from attestation.verifier.tpm.evidence import MAX_ENCODED, TpmEvidence
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE, ec_key, root
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
    Key,
    Machine,
    attest,
    certificate,
    certification,
    certification_of,
    chain_of,
    issuer,
    quote_of,
    rsa_attestation_key,
    selection,
    tpm2b,
    usage_extensions,
)

MACHINE = Machine()
DEVICE = Key(ec_key("device", MACHINE.key.private.curve))


def verify(machine=MACHINE, *, chain=None, at=NOW, roots=ROOTS, log=b"", certified=b"", **changes):
    return quote.verify(
        machine.evidence(**changes),
        chain=chain_of(machine.key) if chain is None else chain,
        certification=certified,
        event_log=log,
        roots=roots,
        at=at,
    )


@pytest.mark.parametrize(
    "machine",
    [MACHINE, Machine(rsa_attestation_key()), Machine(banks=(SHA1, SHA256, SHA384), indices=(7,))],
)
def test_authentic_evidence_is_verified(machine):
    claims = verify(machine, log=machine.log)
    assert claims.provenance is Provenance.CERTIFICATE
    assert claims.extra_data == EXTRA_DATA
    assert claims.registers == machine.registers
    assert claims.secure_boot is True
    found = json.loads(json.dumps(claims.to_json()))
    assert found["ak_provenance"] == "certificate"
    assert found["quotes"][0]["extraData"] == EXTRA_DATA.hex()
    assert found["clock"] == {"milliseconds": 5_000_000, "resets": 3, "restarts": 1, "safe": True}
    assert found["event_log"]["events"][0][1] in {
        "EV_S_CRTM_VERSION",
        "EV_EFI_VARIABLE_DRIVER_CONFIG",
    }


def test_without_a_chain_the_key_is_unproven_and_said_to_be():
    claims = verify(chain=b"")
    assert claims.provenance is Provenance.UNPROVEN
    assert claims.to_json()["ak_provenance"] == "unproven"
    assert claims.to_json()["event_log"] is None


def test_a_key_can_be_certified_by_another_of_the_same_tpm():
    certified = certification(DEVICE, MACHINE.key)
    claims = verify(chain=chain_of(DEVICE), certified=certified)
    assert claims.provenance is Provenance.CERTIFICATION


def test_a_selection_is_shown_as_runs():
    assert describe((("sha1", (0, 1, 2, 7)), ("sha256", (23,)))) == "sha1 0-2,7; sha256 23"


OTHERS = Key(ec_key("another", MACHINE.key.private.curve))
FORGED = MACHINE.message[:60] + bytes([MACHINE.message[60] ^ 1]) + MACHINE.message[61:]
HONEST = MACHINE.key.sign(MACHINE.message)
STRANGER = root("sottovoce tests, TPM root", ec_key("a stranger's root"))


def over(message):
    """A statement with the machine's own signature over it."""
    return {"attest": message, "signature": MACHINE.key.sign(message)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"attest": FORGED, "signature": HONEST}, Code.TPM_SIGNATURE_BAD),
        ({"signature": OTHERS.sign(MACHINE.message)}, Code.TPM_SIGNATURE_BAD),
        ({"signature": rsa_attestation_key().sign(MACHINE.message)}, Code.TPM_SIGNATURE_SCHEME),
        ({"signature": HONEST + b"\0"}, Code.TPM_MALFORMED),
        ({"public": Key(attributes=0x40072).public}, Code.TPM_AK_ATTRIBUTES),
        ({"public": OTHERS.public}, Code.TPM_AK_MISMATCH),
        ({"public": b""}, Code.TPM_MALFORMED),
        (over(attest(0x8018, b"", magic=0x544347)), Code.TPM_NOT_GENERATED),
        (over(certification_of(b"name")), Code.TPM_NOT_A_QUOTE),
        (over(MACHINE.message + b"\0"), Code.TPM_MALFORMED),
        (
            {"registers": {"sha256": MACHINE.registers["sha256"] | {4: bytes(32)}}},
            Code.TPM_PCR_DIGEST_MISMATCH,
        ),
        ({"registers": Machine(indices=(0, 7)).registers}, Code.TPM_PCR_SELECTION_MISMATCH),
        (
            {"registers": Machine(banks=(SHA1, SHA256)).registers},
            Code.TPM_PCR_SELECTION_MISMATCH,
        ),
        ({"registers": {}}, Code.TPM_PCR_SELECTION_MISMATCH),
        (over(quote_of(Machine(indices=(1,)).values, SHA256)), Code.TPM_PCR_SELECTION_MISMATCH),
        (
            over(attest(0x8018, selection({SHA256: range(24)}) + tpm2b(bytes(32)))),
            Code.TPM_PCR_DIGEST_MISMATCH,
        ),
    ],
)
def test_each_forgery_has_its_code(changes, code, refusal):
    assert refusal(verify, **changes) is code


def test_a_register_has_its_bank_s_length(refusal):
    values = {"sha256": {0: bytes(16)}}
    key = MACHINE.key
    signed = quote_of({SHA256: {0: bytes(16)}}, SHA256)
    code = refusal(
        quote.check,
        signed,
        quote.parse_signature(key.sign(signed)),
        key.public_key,
        values,
    )
    assert code is Code.TPM_MALFORMED


def chain(*certificates):
    return b"".join(each.pem for each in certificates)


LEAF, CA = certificate(MACHINE.key), issuer()
NO_CA = issuer(extensions=())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"chain": b"no certificate"}, Code.TPM_CHAIN_MALFORMED),
        ({"chain": chain(*[LEAF] * 6)}, Code.TPM_CHAIN_MALFORMED),
        ({"roots": frozenset({STRANGER.fingerprint})}, Code.TPM_ROOT_UNKNOWN),
        ({"chain": chain(LEAF, CA)}, Code.TPM_ROOT_UNKNOWN),
        ({"chain": chain(LEAF, ROOT)}, Code.TPM_CHAIN_BAD),
        ({"chain": chain(NO_CA.issue("", MACHINE.key.private), NO_CA, ROOT)}, Code.TPM_CHAIN_BAD),
        ({"chain": chain(ROOT)}, Code.TPM_CERTIFICATE_NOT_OF_AN_AK),
        (
            {"chain": chain_of(MACHINE.key, extensions=usage_extensions(EK_USAGE))},
            Code.TPM_CERTIFICATE_NOT_OF_AN_AK,
        ),
        ({"chain": chain_of(MACHINE.key, extensions=())}, Code.TPM_CERTIFICATE_NOT_OF_AN_AK),
        (
            {"chain": chain_of(MACHINE.key, extensions=usage_extensions()[2:3])},
            Code.TPM_CERTIFICATE_NOT_OF_AN_AK,
        ),
        (
            {
                "chain": chain_of(
                    MACHINE.key, extensions=usage_extensions(AK_USAGE, digital_signature=False)
                )
            },
            Code.TPM_CERTIFICATE_NOT_OF_AN_AK,
        ),
        ({"chain": chain_of(OTHERS)}, Code.TPM_AK_MISMATCH),
        ({"at": NOT_BEFORE - 1}, Code.TPM_CERTIFICATE_NOT_YET_VALID),
        ({"at": NOT_AFTER + 1}, Code.TPM_CERTIFICATE_EXPIRED),
        (
            {"chain": b"", "certified": certification(DEVICE, MACHINE.key)},
            Code.TPM_CERTIFIER_UNKNOWN,
        ),
    ],
)
def test_each_break_of_the_chain_has_its_code(options, code, refusal):
    assert refusal(verify, **options) is code


def test_a_certificate_of_a_root_s_own_is_no_chain(refusal):
    alone = root("sottovoce tests, alone", MACHINE.key.private, extensions=usage_extensions())
    code = refusal(verify, chain=alone.pem, roots=frozenset({alone.fingerprint}))
    assert code is Code.TPM_CERTIFICATE_NOT_OF_AN_AK


@pytest.mark.parametrize(
    ("certified", "code"),
    [
        (certification(OTHERS, MACHINE.key), Code.TPM_CERTIFICATION_SIGNATURE_BAD),
        (certification(DEVICE, OTHERS), Code.TPM_CERTIFICATION_OF_ANOTHER),
        (certification(DEVICE, Key(attributes=0x50073)), Code.TPM_CERTIFICATION_OF_ANOTHER),
        (certification(DEVICE, MACHINE.key) + b"\0", Code.TPM_CERTIFICATION_MALFORMED),
        (tpm2b(MACHINE.message) + DEVICE.sign(MACHINE.message), Code.TPM_NOT_A_CERTIFICATION),
    ],
)
def test_each_forged_certification_has_its_code(certified, code, refusal):
    assert refusal(verify, chain=chain_of(DEVICE), certified=certified) is code


def members(**changes):
    return json.loads(MACHINE.evidence()) | changes


def encoded(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b" " + MACHINE.evidence(),
        MACHINE.evidence().replace(b"{", b'{"attest":"",', 1),
        b"{" + bytes(MAX_ENCODED),
        encoded(members(more=1)),
        encoded(members(attest=1)),
        encoded(members(attest="AA==")),
        encoded(members(pcrs=[])),
        encoded(members(pcrs={"sha3": {}})),
        encoded(members(pcrs={"sha256": []})),
        encoded(members(pcrs={"sha256": {"24": "00" * 32}})),
        encoded(members(pcrs={"sha256": {"00": "00" * 32}})),
        encoded(members(pcrs={"sha256": {"0": "00" * 20}})),
        encoded(members(pcrs={"sha256": {"0": "0g" * 32}})),
        encoded(members(pcrs={"sha256": {"0": "AA" * 32}})),
        encoded(members(pcrs={"sha256": {"0": 0}})),
    ],
)
def test_evidence_has_one_form(text, refusal):
    with pytest.raises(MalformedEvidence):
        TpmEvidence.decode(text)
    assert refusal(quote.verify, text, roots=ROOTS, at=NOW) is Code.TPM_MALFORMED


def flips(count):
    """Flip a bit in the statement, the signature, or a register; nothing of it is accepted."""
    source = random.Random(4)
    proven = chain_of(MACHINE.key)
    honest = TpmEvidence.decode(MACHINE.evidence())
    for _ in range(count):
        parts = [honest.attest, honest.signature, honest.registers["sha256"][7]]
        which = source.randrange(3)
        changed = bytearray(parts[which])
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
        parts[which] = bytes(changed)
        registers = {"sha256": honest.registers["sha256"] | {7: parts[2]}}
        forged = TpmEvidence(parts[0], parts[1], honest.public, registers).encode()
        with pytest.raises(Refused):
            quote.verify(forged, chain=proven, roots=ROOTS, at=NOW)


def test_no_flipped_bit_is_accepted():
    flips(200)


@pytest.mark.soak
def test_no_flipped_bit_of_ten_thousand_is_accepted():
    flips(10_000)
