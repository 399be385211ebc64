"""The bytes of a report: SPDM, opaque data, and the firmware id of a certificate."""

import struct

import pytest

from attestation.errors import MalformedEvidence
from attestation.verifier.nvidia import firmware, opaque, report
from attestation.verifier.nvidia.opaque import MultiGpuMode
from attestation.verifier.nvidia.reader import Reader, read_der
from tests.support.evidence.authority import ec_key, tlv
from tests.support.evidence.nvidia import (
    DRIVER,
    FIRMWARE_ID,
    MEASUREMENTS,
    NONCE,
    OPAQUE,
    VBIOS,
    Report,
    attestation_key,
    block,
    composite,
    fwid,
    tlvs,
)

KEY = ec_key("attestation GH100 one ")


def refused(decode, data, match=None):
    with pytest.raises(MalformedEvidence, match=match):
        decode(data)


# Report


def test_a_report_is_parsed_to_its_last_byte():
    made = Report()
    encoded = made.encode(KEY)
    parsed = report.decode(encoded)
    assert parsed.nonce == NONCE
    assert parsed.measurements == MEASUREMENTS
    assert parsed.signed == made.signed == encoded[:-96]
    assert parsed.signature == encoded[-96:]
    assert parsed.opaque_data.driver_version == DRIVER


def test_every_truncation_is_refused():
    encoded = Report().encode(KEY)
    for length in range(len(encoded)):
        refused(report.decode, encoded[:length])


def test_a_stray_zero_byte_after_the_signature_is_refused():
    refused(report.decode, Report(trailing=b"\x00").encode(KEY), "after its end")


def test_a_report_longer_than_the_buffer_of_the_library_is_refused():
    refused(report.decode, bytes(report.MAX_LENGTH + 1), "too long")


@pytest.mark.parametrize(
    "header", ["10e001ff", "12e001ff", "11e101ff", "11e000ff", "11e00100", "11e00101"]
)
def test_another_request_is_refused(header):
    made = Report(request_header=bytes.fromhex(header))
    refused(report.decode, made.encode(KEY), "does not ask")


@pytest.mark.parametrize("header", ["12600000", "117f0000", "11e00000"])
def test_another_response_is_refused(header):
    made = Report(response_header=bytes.fromhex(header))
    refused(report.decode, made.encode(KEY), "does not answer")


def test_slots_that_differ_or_do_not_exist_are_refused():
    refused(report.decode, Report(slot=8).encode(KEY), "does not exist")
    refused(report.decode, Report(slot=1).encode(KEY), "another slot")
    same = Report(slot=1, response_header=bytes.fromhex("11600001"))
    assert report.decode(same.encode(KEY)).nonce == NONCE


@pytest.mark.parametrize(
    ("blocks", "count", "match"),
    [
        (b"", 0, "empty"),
        (block(1, b"a"), 0, "after its end"),
        (block(1, b"a"), 2, "truncated"),
        (block(1, b"a") + block(1, b"b"), 2, "index 1 twice"),
        (block(1, b"a", specification=2), 1, "not DMTF's"),
        (block(1, b"abc", size=5), 1, "truncated"),
        (block(1, b"a") + b"\x00", 1, "after its end"),
        (block(1, b"a", size=5) + b"\x00", 1, "after its end"),
        (block(1, b"a", size=0xFFFF), 1, "truncated"),
    ],
)
def test_blocks_that_do_not_fill_their_record_are_refused(blocks, count, match):
    refused(report.decode, Report(blocks=blocks, count=count).encode(KEY), match)


def test_a_record_that_claims_sixteen_megabytes_is_refused():
    signed = bytearray(Report().signed)
    signed[37 + 5 : 37 + 8] = b"\xff\xff\xff"
    refused(report.decode, bytes(signed), "truncated")


# Opaque data


def test_the_versions_are_read_as_people_write_them():
    data = opaque.decode(tlvs(OPAQUE.items()))
    assert (data.driver_version, data.vbios_version) == (DRIVER, VBIOS)
    assert (data.project, data.project_sku, data.chip_sku) == ("1010", "0200", "882")
    assert data.firmware_id == FIRMWARE_ID
    assert not data.nvdec0_disabled


def test_what_is_not_stated_is_empty():
    data = opaque.decode(b"")
    assert data.driver_version == data.vbios_version == data.project == ""
    assert data.firmware_id == b""
    assert data.multi_gpu_mode is MultiGpuMode.UNSTATED
    assert not data.nvdec0_disabled


def test_a_switched_off_video_decoder_is_seen():
    assert opaque.decode(tlvs([(11, b"\x55")])).nvdec0_disabled


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({36: b"\x00\x00"}, MultiGpuMode.SINGLE),
        ({36: b"\x01\x00"}, MultiGpuMode.MULTI),
        ({36: b"\x02\x00"}, MultiGpuMode.PROTECTED_PCIE),
        ({36: b"\x03\x00"}, MultiGpuMode.UNKNOWN),
        ({36: b"\x00\x01"}, MultiGpuMode.UNKNOWN),
        ({21: b"\x55"}, MultiGpuMode.SINGLE),
        ({21: b"\xaa"}, MultiGpuMode.PROTECTED_PCIE),
        ({21: b"\xaa", 36: b"\x00\x00"}, MultiGpuMode.PROTECTED_PCIE),
        ({21: b"\x55", 36: b"\x02\x00"}, MultiGpuMode.PROTECTED_PCIE),
        ({21: b"\x00"}, MultiGpuMode.UNSTATED),
    ],
)
def test_of_two_statements_about_links_the_weaker_one_counts(fields, mode):
    assert opaque.decode(tlvs(fields.items())).multi_gpu_mode is mode


def headed(fields, *, magic=b"NVDAOD", profile=0, major=1):
    entries = (struct.pack("<HHH", k, 0x87, len(v)) + v for k, v in fields)
    return magic + struct.pack("<HBBH", profile, major, 9, 0) + b"".join(entries)


def test_the_headed_form_says_the_same():
    assert opaque.decode(headed(OPAQUE.items())).fields == OPAQUE
    refused(opaque.decode, headed([], profile=1), "profile")
    refused(opaque.decode, headed([], major=3), "version 3")
    refused(opaque.decode, headed([])[:-1], "truncated")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (tlvs([(3, b"1.2")]) * 2, "type 3 twice"),
        (tlvs([(3, b"1.2")])[:-1], "truncated"),
        (b"\x03", "truncated"),
        (b"\x03\x00\xff\xff", "truncated"),
        (bytes(opaque.MAX_LENGTH + 1), "too long"),
        (tlvs([(3, b"1\xff")]), "not text"),
        (tlvs([(17, b"a\x00b")]), "not text"),
        (tlvs([(3, b"1" * 64)]), "not text"),
        (tlvs([(6, bytes(7))]), "8 bytes"),
        (tlvs([(20, bytes(32))]), "48 bytes"),
        (tlvs([(11, b"\x55\x55")]), "1 bytes"),
        (tlvs([(36, b"\x00")]), "2 bytes"),
        (tlvs([(21, b"\x55\x00")]), "1 bytes"),
        (tlvs([(34, b"\x03\x00")]), "version 3"),
    ],
)
def test_opaque_data_of_another_form_is_refused(data, match):
    refused(opaque.decode, data, match)


# Firmware id


@pytest.mark.parametrize("chip", ["GH100", "GB100"])
def test_the_firmware_id_is_found_in_either_extension(chip):
    assert firmware.firmware_id(attestation_key(chip=chip).certificate) == FIRMWARE_ID


def test_a_certificate_may_state_no_firmware_id():
    assert firmware.firmware_id(attestation_key(extensions=()).certificate) == b""
    assert firmware.decode_dice(tlv(0x30, tlv(0x80, b"NVIDIA"))) == b""


SPKI = tlv(0x30, b"")


@pytest.mark.parametrize(
    "der",
    [
        b"",
        tlv(0x31, b""),
        tlv(0x30, tlv(2, b"\x01") + SPKI),
        tlv(0x30, SPKI + SPKI + fwid()),
        tlv(0x30, tlv(2, b"\x01") + SPKI + fwid() + SPKI),
        tlv(0x30, tlv(2, b"\x01") + SPKI + tlv(0x30, tlv(6, b"\x2a"))),
        tlv(0x30, tlv(2, b"\x01") + SPKI + tlv(0x30, tlv(6, b"\x2a") + tlv(5, b""))),
        composite()[0].value + b"\x00",
    ],
)
def test_a_device_id_of_another_form_is_refused(der):
    refused(firmware.decode_composite, der)


@pytest.mark.parametrize(
    "der", [b"", tlv(0x30, b"\xa6"), tlv(0x30, tlv(0xA6, b"")), tlv(0x30, tlv(0xA6, b"\x30\x00"))]
)
def test_tcb_info_of_another_form_is_refused(der):
    refused(firmware.decode_dice, der)


# DER


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 70000])
def test_der_elements_are_read_with_their_one_length(length):
    reader = Reader(tlv(0x04, bytes(length)) + b"rest", "element")
    assert read_der(reader) == (0x04, bytes(length))
    assert not reader.exhausted


@pytest.mark.parametrize(
    "data",
    [
        "1f8100",  # a tag of two bytes
        "3080",  # an indefinite length
        "308101",  # a long form for a short length
        "30820080",  # a length with a leading zero
        "30850000000001",  # a length of five bytes
        "3084ffffffff",  # four gigabytes
        "30",
    ],
)
def test_other_der_is_refused(data):
    refused(lambda der: read_der(Reader(der, "element")), bytes.fromhex(data))
