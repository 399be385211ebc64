"""A bundle is a CMW collection in one encoding."""

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.bundle import COLLECTION_TYPE, MAX_ENCODED, Bundle
from attestation.errors import MalformedEvidence

BUNDLE = Bundle(
    key_document=b"the key document",
    platform="simulated",
    quote=b"\xff\xfe\xfd the quote",
    engine_policy=b'{"version":1}',
    collateral=b"certificates",
    gpu_reports=(b"gpu zero", b"gpu one"),
    event_log=b"events",
)
ENCODED = BUNDLE.encode()
LEAST = Bundle(b"d", "tdx", b"q", b"{}")


def written(members):
    """JSON as the format wants it, of members it may not want."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def changed(**members):
    return written(json.loads(ENCODED) | members)


def without(*labels):
    members = json.loads(ENCODED)
    return written({label: members[label] for label in members if label not in labels})


@pytest.mark.parametrize("bundle", [BUNDLE, LEAST, replace(LEAST, quote=b"")])
def test_a_bundle_round_trips(bundle):
    assert Bundle.decode(bundle.encode()) == bundle


def test_a_foreign_reader_finds_each_record():
    members = json.loads(ENCODED)
    assert members.pop("__cmwc_t") == COLLECTION_TYPE
    for media_type, value, indicator in members.values():
        assert "/" in media_type
        assert "=" not in value
        assert indicator in (1, 2, 4)
    value = members["quote"][1]
    assert base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)) == BUNDLE.quote
    assert members["quote"][0].endswith(".simulated")


def test_empty_parts_are_left_out():
    assert set(json.loads(LEAST.encode())) == {"__cmwc_t", "key-document", "quote", "engine-policy"}


@pytest.mark.parametrize("label", ["__cmwc_t", "key-document", "quote", "engine-policy", "gpu.0"])
def test_a_part_that_must_be_there_is_missed(label):
    with pytest.raises(MalformedEvidence):
        Bundle.decode(without(label))


def test_the_parts_that_may_be_missing():
    bundle = Bundle.decode(without("collateral", "event-log", "gpu.0", "gpu.1"))
    assert bundle == replace(BUNDLE, collateral=b"", event_log=b"", gpu_reports=())


@pytest.mark.parametrize("label", sorted(json.loads(ENCODED).keys() - {"__cmwc_t"}))
def test_a_record_of_another_shape_is_refused(label):
    media_type, value, indicator = json.loads(ENCODED)[label]
    for record in (
        None,
        {},
        value,
        [media_type, value],
        [media_type, value, indicator, 0],
        [media_type, value, str(indicator)],
        [media_type, value, float(indicator) + 0.5],
        [media_type, value, True],
        [media_type, value, 3],
        ["text/plain", value, indicator],
        [None, value, indicator],
        [media_type, None, indicator],
        [media_type, value + "=", indicator],
        [media_type, value + "!", indicator],
        [media_type, "é" + value, indicator],
        [media_type, " " + value, indicator],
        [media_type, "_" * 5, indicator],
    ):
        with pytest.raises(MalformedEvidence):
            Bundle.decode(changed(**{label: record}))


def test_stray_bits_in_base64_are_refused():
    media_type, _, indicator = json.loads(ENCODED)["quote"]
    Bundle.decode(changed(quote=[media_type, "AA", indicator]))
    with pytest.raises(MalformedEvidence):
        Bundle.decode(changed(quote=[media_type, "AB", indicator]))


@pytest.mark.parametrize("platform", ["", "TDX", "a b", "-tdx", "t" * 33, "é", "tdx\n"])
def test_a_platform_is_a_short_lower_case_name(platform):
    media_type = "application/vnd.sottovoce.quote." + platform
    with pytest.raises(MalformedEvidence):
        Bundle.decode(changed(quote=[media_type, "AA", 4]))


def test_further_members_are_refused():
    for label in ("more", "gpu.3", "gpu.x", "gpu.00", "gpu."):
        with pytest.raises(MalformedEvidence):
            Bundle.decode(changed(**{label: ["application/octet-stream", "AA", 4]}))
    with pytest.raises(MalformedEvidence):
        Bundle.decode(changed(__cmwc_t="tag:example.org,2026:other"))


def test_too_many_gpu_reports_are_refused():
    with pytest.raises(MalformedEvidence, match="too many"):
        Bundle.decode(replace(BUNDLE, gpu_reports=(b"r",) * 65).encode())


def test_what_is_no_collection_is_refused():
    for data in (b"", b"null", b"[]", b'"text"', b"{}", b"\xff", b"{" * 10000):
        with pytest.raises(MalformedEvidence):
            Bundle.decode(data)


def test_a_bundle_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(MalformedEvidence, match="too long"):
        Bundle.decode(b" " * (MAX_ENCODED + 1))


def test_another_encoding_of_the_same_bundle_is_refused():
    members = json.loads(ENCODED)
    for other in (
        json.dumps(members).encode(),
        json.dumps(dict(reversed(members.items())), separators=(",", ":")).encode(),
        ENCODED.replace(b"gpu.0", b"gpu\\u002e0"),
        ENCODED.replace(b",4]", b",4.0]"),
        ENCODED + b"\n",
        b"\xef\xbb\xbf" + ENCODED,
        json.dumps(members, sort_keys=True, separators=(",", ":")).encode("utf-16"),
    ):
        with pytest.raises(MalformedEvidence):
            Bundle.decode(other)


def test_a_member_named_twice_is_refused():
    quote = written({"quote": json.loads(ENCODED)["quote"]})[1:-1]
    with pytest.raises(MalformedEvidence):
        Bundle.decode(ENCODED.replace(quote, quote + b"," + quote))


def test_every_truncation_is_refused():
    for length in range(len(ENCODED)):
        with pytest.raises(MalformedEvidence):
            Bundle.decode(ENCODED[:length])


@given(st.integers(0, len(ENCODED) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_another_bundle_or_none(position, flip):
    mutated = bytearray(ENCODED)
    mutated[position] ^= flip
    try:
        bundle = Bundle.decode(bytes(mutated))
    except MalformedEvidence:
        return
    assert bundle != BUNDLE
    assert bundle.encode() == bytes(mutated)
