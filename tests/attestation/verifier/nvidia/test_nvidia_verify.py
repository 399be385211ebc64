"""One forgery for each check of a GPU's report."""

import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import Code, Refused
from attestation.verifier.nvidia.verify import verify
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE, ca_extensions, ec_key, rsa_key
from tests.support.evidence.nvidia import (
    DRIVER,
    FIRMWARE_ID,
    NONCE,
    NOW,
    OPAQUE,
    VBIOS,
    Report,
    attestation_key,
    composite,
    dice,
    opaque,
    pem,
    rim_signer,
    roots,
    signing,
)

LEAF = attestation_key()
REPORT = Report().encode(LEAF.key)


def check(report=REPORT, leaf=LEAF, *, chain=None, pinned=None, at=NOW):
    chain = pem(leaf) if chain is None else chain
    return verify(report, chain, roots=roots() if pinned is None else pinned, at=at)


def code(*args, **kwargs):
    with pytest.raises(Refused) as caught:
        check(*args, **kwargs)
    return caught.value.code


def test_an_honest_report_states_its_claims():
    claims = check()
    assert (claims.chip, claims.architecture) == ("GH100", "hopper")
    assert claims.nonce == NONCE
    stated = claims.to_json()
    assert stated["driver_version"] == DRIVER
    assert stated["vbios_version"] == VBIOS
    assert stated["multi_gpu_mode"] == "spt"
    assert stated["measurement_blocks"] == 64
    assert stated["fwid"] == FIRMWARE_ID.hex()
    assert stated["sig_off"] == len(REPORT) - 96
    assert stated["length"] == len(REPORT)
    assert stated["measurements_compared"] is None
    assert stated["confidential_mode_measured"] is False


def test_blackwell_is_told_by_its_certificate():
    leaf = attestation_key(chip="GB202")
    claims = check(Report().encode(leaf.key), leaf)
    assert (claims.chip, claims.architecture) == ("GB202", "blackwell")


@pytest.mark.parametrize("name", ["LS10 A01 FSP FMC LF", "GR100 A01 GSP FMC LF", "GH100"])
def test_what_is_no_known_gpu_has_no_architecture(name):
    leaf = attestation_key(common_name=name)
    assert check(Report().encode(leaf.key), leaf).architecture == "unknown"


def test_the_device_is_the_same_under_another_firmware():
    other = attestation_key(firmware="newer")
    claims = check(Report().encode(other.key), other)
    assert claims.device == check().device
    assert claims.attestation_key != check().attestation_key


def test_a_report_of_another_form():
    assert code(REPORT[:-1]) == Code.GPU_REPORT_MALFORMED
    assert code(REPORT + b"\x00") == Code.GPU_REPORT_MALFORMED


def test_a_chain_that_is_none():
    for chain in (b"", b"junk", pem(LEAF) + b"junk", b"\x30\x84\x3f\xff\xff\xff", pem(LEAF) * 9):
        assert code(chain=chain) == Code.GPU_CHAIN_MALFORMED


def test_a_chain_of_another_length():
    assert code(chain=pem(LEAF.issuer)) == Code.GPU_CHAIN_LENGTH
    assert code(chain=pem(LEAF) + LEAF.pem) == Code.GPU_CHAIN_LENGTH


def test_a_root_that_is_not_pinned():
    assert code(pinned=frozenset()) == Code.GPU_ROOT_UNKNOWN


def test_a_chain_in_another_order():
    first, second, *rest = (each.public_bytes(Encoding.PEM) for each in LEAF.chain)
    assert code(chain=b"".join((second, first, *rest))) == Code.GPU_CHAIN_BAD


def test_a_certificate_that_another_authority_has_issued():
    middle = rim_signer(extensions=ca_extensions()).issue("x", extensions=ca_extensions())
    forged = pem(middle.issue("GH100 A01 GSP FMC LF", extensions=(signing(),)))
    own_root = pem(LEAF).rsplit(b"-----BEGIN", 1)[1]
    assert code(chain=forged.rsplit(b"-----BEGIN", 1)[0] + b"-----BEGIN" + own_root) == (
        Code.GPU_CHAIN_BAD
    )


def test_a_certificate_before_and_after_its_dates():
    assert code(at=NOT_BEFORE - 1) == Code.GPU_CERTIFICATE_NOT_YET_VALID
    assert code(at=NOT_AFTER + 1) == Code.GPU_CERTIFICATE_EXPIRED
    assert code(at=0) == Code.GPU_CERTIFICATE_NOT_YET_VALID
    assert code(at=1 << 62) == Code.GPU_CERTIFICATE_EXPIRED


@pytest.mark.parametrize(
    "options",
    [
        {"key": rsa_key("gpu")},
        {"key": ec_key("gpu", ec.SECP256R1())},
        {"extensions": (signing(digital_signature=False), composite())},
        {"extensions": (composite(),)},
    ],
)
def test_a_key_that_is_not_one_for_reports(options):
    assert code(leaf=attestation_key(**options)) == Code.GPU_KEY_UNSUITABLE


def test_a_report_that_another_key_has_signed():
    assert code(Report().encode(ec_key("another"))) == Code.GPU_SIGNATURE_BAD
    assert code(leaf=attestation_key("two")) == Code.GPU_SIGNATURE_BAD
    assert code(REPORT[:-96] + bytes(96)) == Code.GPU_SIGNATURE_BAD
    assert code(REPORT[:-96] + b"\xff" * 96) == Code.GPU_SIGNATURE_BAD


@pytest.mark.parametrize("extension", [composite(bytes(48)), dice(bytes(48)), None])
def test_a_certificate_for_another_firmware_than_the_report_states(extension):
    leaf = attestation_key(extensions=tuple(filter(None, (signing(), extension))))
    assert code(leaf=leaf) == Code.GPU_FIRMWARE_ID_MISMATCH


def test_a_report_without_firmware_id_is_not_compared():
    fields = {kind: value for kind, value in OPAQUE.items() if kind != 20}
    assert check(Report(opaque_fields=fields).encode(LEAF.key)).firmware_id == FIRMWARE_ID


def test_a_certificate_whose_firmware_id_is_not_of_its_form():
    leaf = attestation_key(extensions=(signing(), opaque("2.23.133.5.4.1", b"\x30\x01")))
    assert code(leaf=leaf) == Code.GPU_CHAIN_MALFORMED


def flips(count):
    rng = random.Random(4)
    for _ in range(count):
        at, by = rng.randrange(len(REPORT)), rng.randrange(1, 256)
        changed = bytearray(REPORT)
        changed[at] ^= by
        yield bytes(changed)


def test_no_flipped_byte_is_accepted():
    for changed in flips(200):
        assert code(changed) in {Code.GPU_REPORT_MALFORMED, Code.GPU_SIGNATURE_BAD}


@pytest.mark.soak
def test_no_flipped_byte_of_ten_thousand_is_accepted():
    for changed in flips(10_000):
        assert code(changed) in {Code.GPU_REPORT_MALFORMED, Code.GPU_SIGNATURE_BAD}
