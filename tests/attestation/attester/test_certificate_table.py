import struct

import pytest

from attestation.attester.certificate_table import MAX_ENTRIES, parse_certificate_table
from attestation.errors import MalformedEvidence
from tests.support.evidence.certificate_table import certificate_table

FOUND = {"vcek": b"one", "ask": b"second", "ark": b"", "vlek": b"x" * 100}


@pytest.mark.parametrize("big_endian", [False, True])
def test_certificates_are_found_by_their_guid_in_either_order_of_bytes(big_endian):
    assert parse_certificate_table(certificate_table(FOUND, big_endian=big_endian)) == FOUND


def test_entries_of_others_are_passed_over():
    table = certificate_table({"ecae0c0f-9502-43b1-afa2-0ae2e0d565b6": b"cpuid", "ask": b"a"})
    assert parse_certificate_table(table) == {"ask": b"a"}
    assert parse_certificate_table(bytes(24)) == {}


def entry(guid, offset, length):
    return struct.pack("<16sII", guid, offset, length)


VCEK = certificate_table({"vcek": b"x"})[:16]


@pytest.mark.parametrize(
    "table",
    [
        b"",
        bytes(23),
        certificate_table(FOUND)[:-1],
        certificate_table(FOUND)[:30],
        entry(VCEK, 0, 1 << 30) + bytes(24),
        entry(VCEK, 0xFFFFFFFF, 1) + bytes(24),
        entry(VCEK, 0, 1) * 2 + bytes(24),
        entry(b"\x01" * 16, 0, 1) * (MAX_ENTRIES + 1),
    ],
)
def test_a_table_that_points_outside_or_does_not_end_is_malformed(table):
    with pytest.raises(MalformedEvidence):
        parse_certificate_table(table)
