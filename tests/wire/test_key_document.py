"""The key document has one encoding, and refuses every value outside its format."""

import hashlib
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import cbor
from wire.errors import Malformed, Unsupported, WireError
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument

ALGORITHMS = ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),)


def config(key_id, kem):
    public_key = PrivateKey.generate(kem, bytes([key_id]) * 32).public_bytes
    return KeyConfig(key_id, kem, public_key, ALGORITHMS)


XWING, X25519 = config(1, Kem.XWING), config(2, Kem.X25519)
DOCUMENT = KeyDocument(
    key_configs=(XWING, X25519),
    receipt_key=bytes(range(32)),
    tls_key=None,
    model="tinychat",
    model_digest=b"\x11" * 32,
    policy_digest=b"\x22" * 32,
    device="cpu",
    gpu_count=0,
    capacity=2,
    not_before=1_800_000_000,
    not_after=1_800_021_600,
)
ENCODED = DOCUMENT.encode()


def encoded_with(**changes):
    return cbor.encode(cbor2.loads(ENCODED) | changes)


def test_a_document_round_trips():
    for document in (DOCUMENT, replace(DOCUMENT, tls_key=b"\x33" * 32, gpu_count=8)):
        assert KeyDocument.decode(document.encode()) == document


def test_the_encoding_is_a_sorted_map_that_a_foreign_decoder_reads():
    members = cbor2.loads(ENCODED)
    assert members["version"] == 1
    assert members["tls_key"] is None
    assert members["not_after"] - members["not_before"] == 6 * 3600
    assert members["key_configs"] == [XWING.encode(), X25519.encode()]
    names = [cbor2.dumps(name) for name in members]
    assert names == sorted(names)  # RFC 8949, section 4.2.1


def test_the_known_answer():
    assert len(ENCODED) == 1538
    assert DOCUMENT.node == "f36a15a11b54e817d06f04ac212c2065bd929581fa84359446c403139a63320c"


def test_a_node_is_named_by_the_digest_of_the_encoding():
    assert DOCUMENT.digest == hashlib.sha256(ENCODED).digest()
    assert DOCUMENT.node == DOCUMENT.digest.hex()
    assert DOCUMENT.node == DOCUMENT.node.lower()


@pytest.mark.parametrize(
    "changes",
    [
        {"token_budget": 0},
        {"token_budget": 2**32 + 1},
        {"token_budget": True},
        {"receipt_key": bytes(31)},
        {"receipt_key": "0" * 32},
        {"receipt_key": bytearray(32)},
        {"tls_key": bytes(33)},
        {"tls_key": False},
        {"model": ""},
        {"model": "m" * 201},
        {"model": "a\nb"},
        {"model": " a"},
        {"model": "é"},
        {"model": b"tinychat"},
        {"model_digest": b""},
        {"model_digest": None},
        {"policy_digest": bytes(64)},
        {"device": "CPU"},
        {"device": ""},
        {"device": None},
        {"gpu_count": -1},
        {"gpu_count": 65},
        {"gpu_count": True},
        {"gpu_count": 1.0},
        {"capacity": 0},
        {"capacity": 3},
        {"capacity": 16},
        {"capacity": True},
        {"not_before": -1},
        {"not_before": 1_800_000_000.0},
        {"not_before": 1_800_021_600},
        {"not_before": 1_800_021_601},
        {"not_after": 1_800_021_601},
        {"not_after": 2**41},
        {"not_after": "later"},
    ],
)
def test_a_value_outside_the_format_is_refused_made_or_decoded(changes):
    with pytest.raises(Malformed):
        replace(DOCUMENT, **changes)
    if not isinstance(changes.get("receipt_key"), bytearray):  # CBOR cannot tell it from bytes
        with pytest.raises(Malformed):
            KeyDocument.decode(encoded_with(**changes))


@pytest.mark.parametrize(
    "configs",
    [
        (),
        (XWING,),
        (XWING, X25519, config(3, Kem.X25519)),
        (X25519, config(3, Kem.X25519)),
        (XWING, config(1, Kem.X25519)),
    ],
)
def test_a_document_has_two_key_configs_with_an_xwing_one_and_different_ids(configs):
    with pytest.raises(Malformed):
        replace(DOCUMENT, key_configs=configs)
    with pytest.raises(Malformed):
        KeyDocument.decode(encoded_with(key_configs=[item.encode() for item in configs]))


def test_two_xwing_configs_are_fine():
    document = replace(DOCUMENT, key_configs=(XWING, config(7, Kem.XWING)))
    assert KeyDocument.decode(document.encode()) == document


@pytest.mark.parametrize(
    "configs",
    [
        None,
        b"",
        [XWING.encode(), "text"],
        {"0": XWING.encode()},
        [XWING.encode(), X25519.encode() + b"\x00"],
        [XWING.encode(), X25519.encode()[:-1]],
    ],
)
def test_key_configs_are_a_list_of_whole_configs(configs):
    with pytest.raises(Malformed):
        KeyDocument.decode(encoded_with(key_configs=configs))


def test_a_key_config_with_an_unknown_algorithm_is_unsupported():
    foreign = bytearray(X25519.encode())
    foreign[1:3] = b"\x00\x10"  # DHKEM(P-256)
    with pytest.raises(Unsupported):
        KeyDocument.decode(encoded_with(key_configs=[XWING.encode(), bytes(foreign)]))


def test_another_version_is_unsupported():
    with pytest.raises(Unsupported):
        KeyDocument.decode(encoded_with(version=2))
    for version in (True, "1", -1, 1.0):
        with pytest.raises(Malformed):
            KeyDocument.decode(encoded_with(version=version))


def test_members_missing_further_or_of_another_kind_are_refused():
    members = cbor2.loads(ENCODED)
    for name in members:
        less = {key: value for key, value in members.items() if key != name}
        with pytest.raises(Malformed):
            KeyDocument.decode(cbor.encode(less))
    with pytest.raises(Malformed):
        KeyDocument.decode(encoded_with(account="someone"))
    for other in (list(members.values()), None, 7, cbor2.CBORTag(9, members)):
        with pytest.raises(Malformed):
            KeyDocument.decode(cbor.encode(other))


def test_another_encoding_of_the_same_document_is_refused():
    members = cbor2.loads(ENCODED)
    unsorted = dict(reversed(members.items()))
    indefinite = b"\xbf" + b"".join(map(cbor2.dumps, sum(members.items(), ()))) + b"\xff"
    for other in (cbor2.dumps(unsorted), indefinite):
        assert cbor2.loads(other) == members
        with pytest.raises(Malformed):
            KeyDocument.decode(other)


def test_a_document_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(Malformed, match="too long"):
        KeyDocument.decode(bytes(16385))


def test_every_truncation_and_any_extension_is_refused():
    for length in range(0, len(ENCODED), 7):
        with pytest.raises(Malformed):
            KeyDocument.decode(ENCODED[:length])
    for tail in (b"\x00", b"\xf6", ENCODED):
        with pytest.raises(Malformed):
            KeyDocument.decode(ENCODED + tail)


@given(st.integers(0, len(ENCODED) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_another_node_or_none(position, flip):
    changed = bytearray(ENCODED)
    changed[position] ^= flip
    try:
        document = KeyDocument.decode(bytes(changed))
    except WireError:
        return
    assert document.encode() == bytes(changed)
    assert document.node != DOCUMENT.node


@given(st.binary(max_size=64))
def test_garbage_is_refused(data):
    with pytest.raises(Malformed):
        KeyDocument.decode(data)
