import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import key_config
from wire.errors import Malformed, Truncated, Unsupported, WireError
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig

# RFC 9458, appendix A.
PUBLISHED = bytes.fromhex(
    "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003"
)
XWING = KeyConfig(
    2,
    Kem.XWING,
    PrivateKey.generate(Kem.XWING, bytes(32)).public_bytes,
    ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),),
)


def test_published_config_is_read_and_written():
    config = KeyConfig.decode(PUBLISHED)
    assert config.key_id == 1
    assert config.kem == Kem.X25519
    assert [aead for _, aead in config.algorithms] == [Aead.AES_128_GCM, Aead.CHACHA20_POLY1305]
    assert config.encode() == PUBLISHED


def test_a_list_of_both_kems_comes_back():
    configs = (KeyConfig.decode(PUBLISHED), XWING)
    assert key_config.decode_list(key_config.encode_list(configs)) == configs


@pytest.mark.parametrize("data", [PUBLISHED, XWING.encode()], ids=["X25519", "X-Wing"])
def test_a_config_cut_anywhere_is_truncated(data):
    for end in range(len(data)):
        with pytest.raises(Truncated):
            KeyConfig.decode(data[:end])


def test_a_list_cut_anywhere_is_refused():
    data = key_config.encode_list([KeyConfig.decode(PUBLISHED), XWING])
    ends = set(range(len(data))) - {2 + len(PUBLISHED)}
    for end in ends:
        with pytest.raises(Malformed):
            key_config.decode_list(data[:end])


@pytest.mark.parametrize("tail", [b"\0", b"\0\1\0\1"])
def test_trailing_bytes_are_malformed(tail):
    with pytest.raises(Malformed, match="trailing"):
        KeyConfig.decode(PUBLISHED + tail)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("010020", "010010", Unsupported),  # P-256
        ("00010003", "00020003", Unsupported),  # HKDF-SHA384
        ("00010003", "0001ffff", Unsupported),  # export only
        ("00010003", "00010001", Malformed),  # the same algorithm twice
        ("550008", "550006", Malformed),
        ("550008", "550000", Malformed),
    ],
)
def test_one_bad_value_makes_a_config_bad(old, new, error):
    with pytest.raises(error):
        KeyConfig.decode(bytes.fromhex(PUBLISHED.hex().replace(old, new)))


def test_no_algorithms_at_all_is_malformed():
    with pytest.raises(Malformed):
        KeyConfig.decode(PUBLISHED[:35] + b"\0\0")


def test_two_configs_with_one_key_id_are_malformed():
    config = KeyConfig.decode(PUBLISHED)
    with pytest.raises(Malformed, match="one key identifier"):
        key_config.decode_list(key_config.encode_list([config, config]))


def test_one_bad_config_makes_the_list_bad():
    data = key_config.encode_list([XWING, KeyConfig.decode(PUBLISHED)])
    with pytest.raises(Unsupported):
        key_config.decode_list(data.replace(b"\x01\x00\x20", b"\x01\x00\x10"))


def test_an_empty_list_is_malformed():
    with pytest.raises(Malformed, match="empty"):
        key_config.decode_list(b"")


@pytest.mark.parametrize(("key_id", "public_key"), [(256, bytes(32)), (-1, bytes(32)), (1, b"")])
def test_a_config_that_has_no_encoding_cannot_be_made(key_id, public_key):
    with pytest.raises(Malformed):
        KeyConfig(key_id, Kem.X25519, public_key, XWING.algorithms)


@given(st.data())
def test_a_mutated_config_is_refused_or_written_as_it_was_read(data):
    mutated = bytearray(PUBLISHED)
    at = data.draw(st.integers(0, len(mutated) - 1))
    mutated[at] ^= data.draw(st.integers(1, 255))
    try:
        config = KeyConfig.decode(bytes(mutated))
    except WireError:
        return
    assert config.encode() == bytes(mutated)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_list_or_our_error(data):
    try:
        configs = key_config.decode_list(data)
    except WireError:
        return
    assert key_config.encode_list(configs) == data
