import pytest

from attestation.errors import MalformedEvidence
from attestation.verifier.intel.quote import (
    MAX_QUOTE,
    PCK_CHAIN,
    DcapQuote,
    EnclaveReport,
    TdReport,
    TdReport15,
    TdReport15Extended,
    parse_enclave_report,
)
from tests.support.evidence.intel import HONEST_TD, IntelNode


def patched(data, offset, new):
    return data[:offset] + new + data[offset + len(new) :]


V4 = IntelNode(version=4).quote()
V5 = IntelNode(version=5).quote()
V3 = IntelNode(version=3).quote()


def test_every_kind_of_quote_is_taken_apart(honest):
    quote = DcapQuote.parse(honest.quote())
    assert quote.version == honest.version
    assert quote.tee == ("SGX" if honest.is_sgx else "TDX")
    assert type(quote.report) is honest.report_kind
    assert quote.report.report_data == HONEST_TD["report_data"]
    assert quote.certification_type == PCK_CHAIN
    assert quote.signed == honest.signed()
    assert (quote.unpadded, quote.padding) == (honest.quote(), b"")


@pytest.mark.parametrize(
    ("kind", "length"),
    [(EnclaveReport, 384), (TdReport, 584), (TdReport15, 648), (TdReport15Extended, 885)],
)
def test_reports_are_as_long_as_intel_says(kind, length):
    versions = {EnclaveReport: (3, 0), TdReport: (4, 2), TdReport15: (5, 3)}
    version, body = versions.get(kind, (5, 4))
    header = 48 + 6 * (version == 5)
    assert len(IntelNode(version=version, body=body).signed()) == header + length


def test_the_members_stand_where_the_specification_puts_them():
    report = bytearray(584)
    offsets = {"td_attributes": 120, "mr_td": 136, "rt_mr0": 328, "rt_mr3": 472, "report_data": 520}
    for index, offset in enumerate(offsets.values(), 1):
        report[offset] = index
    quote = DcapQuote.parse(patched(V4, 48, bytes(report)))
    assert [getattr(quote.report, name)[0] for name in offsets] == [1, 2, 3, 4, 5]


def test_padding_is_kept_apart():
    quote = DcapQuote.parse(V4 + b"\0\0\1")
    assert (quote.unpadded, quote.padding) == (V4, b"\0\0\1")


@pytest.mark.parametrize("quote", [V3, V4, V5], ids=["v3", "v4", "v5"])
def test_no_part_of_a_quote_is_a_quote(quote):
    for length in (*range(0, 1400, 13), *range(len(quote) - 60, len(quote))):
        with pytest.raises(MalformedEvidence):
            DcapQuote.parse(quote[:length])


@pytest.mark.parametrize(
    ("quote", "offset", "new", "message"),
    [
        (V4, 0, b"\x06\x00", "no version 6"),
        (V4, 0, b"\x03\x00", "no version 3 of TEE type 0x81"),
        (V3, 0, b"\x04\x00", "no version 4 of TEE type 0x0"),
        (V4, 2, b"\x03\x00", "another type"),
        (V4, 4, b"\x00\x00\x01\x00", "TEE type 0x10000"),
        (V4, 12, b"\x00", "not Intel's"),
        (V5, 48, b"\x01\x00", "the body is of another type"),
        (V5, 48, b"\x02\x00", "a length is not exact"),
        (V5, 48, b"\x04\x00", "ends before its end"),
        (V5, 50, b"\xff\xff\xff\x7f", "ends before its end"),
        (V4, 632, b"\x00\x00\x00\x00", "ends before its end"),
        (V4, 632, b"\xff\xff\xff\xff", "ends before its end"),
        (V4, 636 + 128, b"\x05\x00", "no certification of the quoting enclave"),
        (V4, 636 + 130, b"\x00\xca\x9a\x3b", "ends before its end"),
        (V4, 636 + 134 + 448, b"\x1f\x00", "not 32 bytes"),
        (V4, 636 + 134 + 448, b"\xff\xff", "ends before its end"),
        (V4, 636 + 134 + 448 + 36, b"\x00\x00\x00\x00", "a length is not exact"),
        (V3, 436 + 128 + 448 + 36, b"\x00\xca\x9a\x3b", "ends before its end"),
    ],
)
def test_a_quote_with_another_value_is_malformed(quote, offset, new, message):
    with pytest.raises(MalformedEvidence, match=message):
        DcapQuote.parse(patched(quote, offset, new))


def test_signature_data_longer_than_what_is_in_them_are_malformed():
    length = int.from_bytes(V4[632:636], "little")
    longer = patched(V4 + b"\0", 632, (length + 1).to_bytes(4, "little"))
    with pytest.raises(MalformedEvidence, match="a length is not exact"):
        DcapQuote.parse(longer)


def test_a_quote_longer_than_the_kernel_makes_them_is_malformed():
    assert DcapQuote.parse(V4.ljust(MAX_QUOTE, b"\0")).unpadded == V4
    with pytest.raises(MalformedEvidence, match="too long"):
        DcapQuote.parse(V4.ljust(MAX_QUOTE + 1, b"\0"))


@pytest.mark.parametrize("length", [0, 383, 385])
def test_an_enclave_report_has_one_length(length):
    with pytest.raises(MalformedEvidence):
        parse_enclave_report(bytes(length))
