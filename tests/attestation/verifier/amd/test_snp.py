"""SNP reports under a root of the tests': every line and version, and one forgery a check."""

import random
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import Code, Refused
from attestation.verifier.amd import snp
from tests.support.evidence.amd import CHIP, TCB, SnpMachine, integer
from tests.support.evidence.authority import NOT_AFTER, NOT_BEFORE, ec_key, root, rsa_key, tlv

NOW = 1_800_000_000
MADE = SnpMachine()


def verify(machine, quote=None, *, chain=None, crl=None, at=NOW, roots=None):
    return snp.verify(
        machine.quote() if quote is None else quote,
        [machine.chain] if chain is None else chain,
        machine.crl() if crl is None else crl,
        roots=machine.roots if roots is None else roots,
        at=at,
    )


def refusal(*args, **kwargs):
    with pytest.raises(Refused) as caught:
        verify(*args, **kwargs)
    return caught.value.code


def changed(quote, offset, value):
    return quote[:offset] + value + quote[offset + len(value) :]


@pytest.mark.parametrize("vlek", [False, True])
@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("Milan", 2),
        ("Milan", 3),
        ("Genoa", 2),
        ("Genoa", 4),
        ("Turin", 3),
        ("Turin", 4),
        ("Turin", 5),
    ],
)
def test_an_authentic_report_is_verified_without_a_warning(line, version, vlek):
    machine = SnpMachine(line, version, vlek, report_data=b"\x11" * 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        claims = verify(machine)
    found = claims.to_json()
    assert found["product"] == line.lower()
    assert found["version"] == version
    assert found["signing_key"] == int(vlek)
    assert found["provider"] == ("Tests" if vlek else "")
    assert found["report_data"] == "11" * 64
    assert found["measurement"] == "4d" * 48
    assert found["reported_tcb"] == TCB[line].hex()
    assert found["tcb"]["launch"]["microcode"] == TCB[line][7]
    assert found["mitigations"] == ["0x7" if version == 5 else "0x0", "0x0"]
    assert found["policy"] == "0x3001f"
    assert found["policy_bits"] == ["must-be-one", "smt"]
    assert found["platform_bits"] == ["alias-check-complete", "ecc", "smt"]
    assert found["current_version"] == "1.55.40"
    assert found["revocation"] == "checked"
    assert ("fmc" in found["tcb"]["current"]) == (line == "Turin")


@pytest.mark.parametrize(
    ("cpuid", "line"),
    [
        ((0x19, 0x01), "Milan"),
        ((0x19, 0x10), "Genoa"),
        ((0x19, 0xA0), "Genoa"),
        ((0x1A, 0x02), "Turin"),
        ((0x1A, 0x11), "Turin"),
    ],
)
def test_the_processor_is_of_the_line_that_the_certificate_names(cpuid, line):
    verify(SnpMachine(line, report={0x188: bytes(cpuid)}))
    other = "Genoa" if line == "Milan" else "Milan"
    assert refusal(SnpMachine(other, report={0x188: bytes(cpuid)})) is Code.SNP_PRODUCT_MISMATCH


@pytest.mark.parametrize("cpuid", [(0x19, 0x21), (0x1A, 0x50), (0x17, 0x31), (0, 0)])
def test_a_processor_of_no_known_line_is_refused(cpuid):
    assert refusal(SnpMachine(report={0x188: bytes(cpuid)})) is Code.SNP_PRODUCT_MISMATCH


@pytest.mark.parametrize("name", [b"Bergamo", b"Siena-B0", b"Genoa-B2"])
def test_processors_of_genoas_line_are_called_differently(name):
    assert verify(SnpMachine("Genoa", extensions={"2": tlv(0x16, name)})).product == "genoa"


def test_the_chain_comes_in_any_order_and_in_pieces():
    machine = SnpMachine()
    leaf, ask, ark = machine.key_certificate, machine.ask, machine.ark
    for pieces in (
        [leaf.der, ask.pem + ark.pem],
        [ark.der, ask.der, leaf.der],
        [ask.pem, ark.pem, leaf.pem],
    ):
        verify(machine, chain=pieces)


def test_a_hardware_id_may_be_written_as_an_octet_string():
    verify(SnpMachine(extensions={"4": tlv(4, CHIP)}))
    verify(SnpMachine("Turin", extensions={"4": tlv(4, CHIP[:8])}))


def test_reserved_components_may_be_left_out_of_the_certificate():
    verify(SnpMachine(extensions=dict.fromkeys(("3.4", "3.5", "3.6", "3.7"))))


def test_without_a_revocation_list_the_claims_say_that_nobody_looked():
    assert verify(SnpMachine(), crl=b"").to_json()["revocation"] == "unchecked"
    assert verify(SnpMachine(), crl=b"").crl_issued_at is None


def test_a_masked_chip_id_is_told_and_not_taken_for_another_chips():
    assert verify(SnpMachine(report={0x1A0: bytes(64)})).to_json()["chip_id_masked"]


# One forgery a check: the report


@pytest.mark.parametrize("length", [0, 3, 0x2A0, 0x49F, 0x4A1, 4096])
def test_another_length_is_malformed(length):
    quote = SnpMachine().quote()
    data = (quote + bytes(4096))[:length]
    assert refusal(SnpMachine(), data) is Code.SNP_MALFORMED


@pytest.mark.parametrize("version", [0, 1, 6, 0xFFFFFFFF])
def test_another_version_is_unsupported(version):
    report = {0: version.to_bytes(4, "little")}
    assert refusal(SnpMachine(report=report)) is Code.SNP_VERSION_UNSUPPORTED


@pytest.mark.parametrize("algorithm", [0, 2])
def test_another_algorithm_is_unsupported(algorithm):
    report = {0x34: bytes([algorithm])}
    assert refusal(SnpMachine(report=report)) is Code.SNP_ALGORITHM_UNSUPPORTED


def test_a_report_that_is_not_signed_is_refused():
    assert refusal(SnpMachine(report={0x48: b"\x1c"})) is Code.SNP_UNSIGNED


@pytest.mark.parametrize(
    ("version", "report"),
    [
        (3, {0x04C: b"\x01"}),
        (2, {0x188: b"\x19"}),
        (3, {0x18B: b"\x01"}),
        (3, {0x19F: b"\x01"}),
        (3, {0x1EB: b"\x01"}),
        (3, {0x1EF: b"\x01"}),
        (3, {0x1F8: b"\x01"}),
        (5, {0x208: b"\x01"}),
        (5, {0x29F: b"\x01"}),
        (3, {0x030: b"\x04"}),
        (3, {0x048: b"\x08"}),
        (3, {0x048: b"\x20"}),
        (3, {0x008: (0x1001F).to_bytes(8, "little")}),
        (3, {0x008: (0x3001F | 1 << 26).to_bytes(8, "little")}),
        (3, {0x038: bytes([4, 0, 1, 0, 0, 0, 0x1D, 0xDB])}),
        (3, {0x1E0: bytes([4, 0, 0, 0, 0, 1, 0x1D, 0xDB])}),
        (3, {0x1F0: bytes([4, 0, 0, 1, 0, 0, 0x1D, 0xDB])}),
    ],
)
def test_what_the_specification_does_not_define_is_malformed_though_signed(version, report):
    assert refusal(SnpMachine(version=version, report=report)) is Code.SNP_MALFORMED


@pytest.mark.parametrize("offset", [0x2A0 + 48, 0x2A0 + 72 + 71, 0x330, 0x49F])
def test_a_signature_with_bytes_beside_it_is_malformed(offset):
    assert (
        refusal(SnpMachine(), changed(SnpMachine().quote(), offset, b"\x01")) is Code.SNP_MALFORMED
    )


def test_a_report_that_the_host_asked_for_is_authentic():
    assert verify(SnpMachine(report={0x30: b"\xff" * 4})).report.vmpl == 0xFFFFFFFF


@pytest.mark.parametrize("scalars", [bytes(144), b"\xff" * 48 + bytes(96)])
def test_a_signature_of_nothing_is_refused(scalars):
    quote = changed(SnpMachine().quote(), 0x2A0, scalars)
    assert refusal(SnpMachine(), quote) is Code.SNP_SIGNATURE_BAD


@pytest.mark.parametrize("offset", [0x004, 0x050, 0x090, 0x140])
def test_a_changed_report_is_refused(offset):
    quote = SnpMachine().quote()
    flipped = changed(quote, offset, bytes([quote[offset] ^ 1]))
    assert refusal(SnpMachine(), flipped) is Code.SNP_SIGNATURE_BAD


def test_a_report_that_another_key_signed_is_refused():
    machine = SnpMachine(leaf={"key": ec_key("another")})
    assert refusal(machine) is Code.SNP_SIGNATURE_BAD


# The chain


LEAF, ASK, ARK = (each.pem for each in (MADE.key_certificate, MADE.ask, MADE.ark))


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [MADE.chain + b"x"],
        [LEAF + ASK],
        [ASK + ARK],
        [MADE.chain, ARK],
        [LEAF, ARK, ARK],
        [MADE.chain[:-100]],
        [b"\x30" * (1 << 20)],
    ],
)
def test_another_number_of_certificates_is_malformed(pieces):
    assert refusal(MADE, chain=pieces) is Code.SNP_CHAIN_MALFORMED


def test_a_root_that_is_not_pinned_is_refused():
    assert refusal(SnpMachine(), roots=frozenset()) is Code.SNP_ROOT_UNKNOWN


def test_an_intermediate_that_the_root_did_not_sign_is_refused():
    machine = SnpMachine()
    forged = root("ARK-Milan", rsa_key("impostor")).issue("SEV-Milan", rsa_key("ask"))
    chain = [machine.key_certificate.der, forged.der, machine.ark.der]
    assert refusal(machine, chain=chain) is Code.SNP_CHAIN_BAD


def test_a_leaf_that_the_intermediate_did_not_sign_is_refused():
    machine, other = SnpMachine(), SnpMachine()
    other.__dict__["ask"] = machine.ark.issue("SEV-Milan", rsa_key("another"), serial=0x10001)
    chain = [other.key_certificate.der, machine.ask.der, machine.ark.der]
    assert refusal(machine, chain=chain) is Code.SNP_CHAIN_BAD


@pytest.mark.parametrize(
    ("options", "at", "code"),
    [
        ({}, NOT_BEFORE - 1, Code.SNP_CERTIFICATE_NOT_YET_VALID),
        ({}, NOT_AFTER + 1, Code.SNP_CERTIFICATE_EXPIRED),
        ({"leaf": {"not_before": NOW + 1}}, NOW, Code.SNP_CERTIFICATE_NOT_YET_VALID),
        ({"leaf": {"not_after": NOW - 1}}, NOW, Code.SNP_CERTIFICATE_EXPIRED),
        ({"intermediate": {"not_after": NOW - 1}}, NOW, Code.SNP_CERTIFICATE_EXPIRED),
        ({}, 0, Code.SNP_CERTIFICATE_NOT_YET_VALID),
        ({}, 1 << 40, Code.SNP_CERTIFICATE_EXPIRED),
    ],
)
def test_a_chain_outside_its_dates_is_refused(options, at, code):
    assert refusal(SnpMachine(**options), at=at) is code


@pytest.mark.parametrize("vlek", [False, True])
def test_a_revoked_intermediate_is_refused(vlek):
    machine = SnpMachine(vlek=vlek)
    assert refusal(machine, crl=machine.crl([0x10001])) is Code.SNP_REVOKED
    verify(machine, crl=machine.crl([0x10003]))


def test_a_malformed_list_is_refused():
    machine = SnpMachine()
    for data in (b"x", machine.crl() + b"\x00", machine.ark.der):
        assert refusal(machine, crl=data) is Code.SNP_CRL_MALFORMED


def test_a_list_of_another_issuer_is_refused():
    machine = SnpMachine()
    forged = root("ARK-Milan", ec_key("impostor")).crl()
    assert refusal(machine, crl=forged) is Code.SNP_CRL_SIGNATURE_BAD
    assert refusal(machine, crl=SnpMachine("Genoa").crl()) is Code.SNP_CRL_SIGNATURE_BAD


def test_a_list_outside_its_dates_is_refused():
    machine = SnpMachine()
    assert refusal(machine, crl=machine.crl(last_update=NOW + 1)) is Code.SNP_CRL_NOT_YET_VALID
    assert refusal(machine, crl=machine.crl(next_update=NOW - 1)) is Code.SNP_CRL_EXPIRED


# The endorsement


@pytest.mark.parametrize(
    ("line", "vlek", "extensions"),
    [
        ("Milan", False, {"2": None}),
        ("Milan", False, {"2": tlv(0x0C, b"Milan")}),
        ("Milan", False, {"2": tlv(0x16, b"Mil\xe4n")}),
        ("Milan", False, {"2": tlv(0x16, b"Milan") + b"\x00"}),
        ("Milan", False, {"2": tlv(0x16, b"Milan-" + b"B" * 130)}),
        ("Milan", False, {"3.1": None}),
        ("Milan", False, {"3.8": b"\x02\x01\xdb"}),
        ("Milan", False, {"3.8": b"\x02\x02\x00\x04"}),
        ("Milan", False, {"3.8": b"\x02\x02\x01\x00"}),
        ("Milan", False, {"3.8": b"\x02\x03\x00\x00\xdb"}),
        ("Milan", False, {"3.8": b"\x02\x00"}),
        ("Milan", False, {"3.4": b""}),
        ("Milan", False, {"3.4": b"\x03\x01\x00"}),
        ("Turin", False, {"3.9": None}),
        ("Milan", False, {"4": None}),
        ("Milan", False, {"4": CHIP[:8]}),
        ("Milan", False, {"4": tlv(5, CHIP)}),
        ("Turin", False, {"4": CHIP}),
        ("Milan", False, {"5": tlv(0x16, b"Tests")}),
        ("Milan", True, {"4": CHIP}),
        ("Milan", True, {"5": None}),
    ],
)
def test_a_malformed_endorsement_is_refused(line, vlek, extensions):
    machine = SnpMachine(line, vlek=vlek, extensions=extensions)
    assert refusal(machine) is Code.SNP_ENDORSEMENT_MALFORMED


def test_a_key_on_another_curve_is_refused():
    machine = SnpMachine(leaf={"key": ec_key("vcek", ec.SECP256R1())})
    assert refusal(machine) is Code.SNP_ENDORSEMENT_MALFORMED
    machine = SnpMachine(leaf={"key": rsa_key("vcek")})
    assert refusal(machine) is Code.SNP_ENDORSEMENT_MALFORMED


def test_a_leaf_of_another_kind_is_refused():
    machine = SnpMachine(names=("SEV-ELSE", "SEV-Milan", "ARK-Milan"))
    assert refusal(machine) is Code.SNP_ENDORSEMENT_MALFORMED


def test_a_product_without_a_name_we_know_is_refused():
    assert (
        refusal(SnpMachine(extensions={"2": tlv(0x16, b"Venice")})) is Code.SNP_PRODUCT_UNSUPPORTED
    )


def test_a_report_that_names_the_other_kind_of_key_is_refused():
    assert refusal(SnpMachine(report={0x48: b"\x04"})) is Code.SNP_SIGNING_KEY_MISMATCH
    assert refusal(SnpMachine(vlek=True, report={0x48: b"\x00"})) is Code.SNP_SIGNING_KEY_MISMATCH


@pytest.mark.parametrize(
    "names",
    [
        ("SEV-VCEK", "SEV-Genoa", "ARK-Genoa"),
        ("SEV-VCEK", "SEV-VLEK-Milan", "ARK-Milan"),
        ("SEV-VCEK", "SEV-Milan", "ARK-Genoa"),
    ],
)
def test_a_key_under_another_lines_or_kinds_issuers_is_refused(names):
    assert refusal(SnpMachine(names=names)) is Code.SNP_PRODUCT_MISMATCH


def test_a_name_without_or_with_several_common_names_is_no_issuers():
    machine = SnpMachine(names=("SEV-VCEK", "", "ARK-Milan"))
    assert refusal(machine) is Code.SNP_PRODUCT_MISMATCH


@pytest.mark.parametrize("line", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("at", range(8))
def test_each_byte_of_the_reported_tcb_is_the_certificates(line, at):
    number = {"Turin": (9, 1, 2, 3, 5, 6, 7, 8)}.get(line, (1, 2, 4, 5, 6, 7, 3, 8))[at]
    extensions = {f"3.{number}": integer(TCB[line][at] + 1)}
    assert refusal(SnpMachine(line, extensions=extensions)) is Code.SNP_TCB_MISMATCH


@pytest.mark.parametrize("line", ["Milan", "Turin"])
def test_another_chips_key_is_refused(line):
    length = 8 if line == "Turin" else 64
    machine = SnpMachine(line, extensions={"4": bytes(reversed(CHIP[:length]))})
    assert refusal(machine) is Code.SNP_CHIP_ID_MISMATCH


def test_a_chip_id_longer_than_turins_is_another_chips():
    assert refusal(SnpMachine("Turin", report={0x1A0: CHIP})) is Code.SNP_CHIP_ID_MISMATCH


# Flips


def flips(count, seed):
    machine, generator = SnpMachine("Turin", 5), random.Random(seed)
    quote, chain, crl, roots = machine.quote(), [machine.chain], machine.crl(), machine.roots
    for _ in range(count):
        data = bytearray(quote)
        data[generator.randrange(0x2A0)] ^= generator.randrange(1, 256)
        with pytest.raises(Refused):
            snp.authenticate(bytes(data), chain, crl, roots=roots)


def test_no_flip_of_a_signed_byte_is_accepted():
    flips(200, seed=1)


@pytest.mark.soak
def test_no_flip_of_ten_thousand_is_accepted():
    flips(10_000, seed=2)
