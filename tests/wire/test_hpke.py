import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hpke as pyca
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from hypothesis import given
from hypothesis import strategies as st

from wire import hpke
from wire.errors import Malformed, OpenFailed, Truncated, Unsupported, WireError
from wire.hpke import Aead, Kdf, Kem, PrivateKey, RecipientContext, Suite
from wire.xwing import XWingKem

FOLDER = Path(__file__).parent / "vectors"
SUITES = [Suite(kem, Kdf.HKDF_SHA256, aead) for kem in Kem for aead in Aead]
INFO = b"info"


def key_of(kem):
    return PrivateKey.generate(kem, bytes(range(32)))


def contexts(suite):
    key = key_of(suite.kem)
    enc, sender = hpke.setup_sender(suite, key.public_bytes, INFO)
    assert len(enc) == suite.enc_length
    return sender, hpke.setup_recipient(suite, key, enc, INFO), enc


def test_xwing_decapsulates_the_drafts_own_vector():
    vector = json.loads((FOLDER / "xwing_draft_appendix_c.json").read_text())
    key = PrivateKey.generate(Kem.XWING, bytes.fromhex(vector["seed"]))
    assert hashlib.sha256(key.public_bytes).hexdigest() == vector["pk_sha256"]
    assert XWingKem().decap(bytes.fromhex(vector["ct"]), key.kem_key).hex() == vector["ss"]


def test_xwing_opens_what_two_other_implementations_open():
    vector = json.loads((FOLDER / "xwing_hpke_crosscheck.json").read_text())
    key = PrivateKey.generate(Kem.XWING, bytes.fromhex(vector["seed"]))
    assert key.public_bytes.hex() == vector["public_key"]
    sealed = bytes.fromhex(vector["enc_then_ct"])
    enc, ciphertext = sealed[: vector["enc_len"]], sealed[vector["enc_len"] :]
    suite = Suite(Kem.XWING, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    context = hpke.setup_recipient(suite, key, enc, vector["info_ascii"].encode())
    assert context.open(b"", ciphertext) == vector["plaintext_ascii"].encode()


def pyca_suite(suite):
    kem = {Kem.X25519: pyca.KEM.X25519, Kem.XWING: pyca.KEM.MLKEM768_X25519}[suite.kem]
    aead = {
        Aead.AES_128_GCM: pyca.AEAD.AES_128_GCM,
        Aead.AES_256_GCM: pyca.AEAD.AES_256_GCM,
        Aead.CHACHA20_POLY1305: pyca.AEAD.CHACHA20_POLY1305,
    }[suite.aead]
    return pyca.Suite(kem, pyca.KDF.HKDF_SHA256, aead)


def pyca_private_key(kem):
    if kem == Kem.X25519:
        return x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))
    expanded = hashlib.shake_256(bytes(range(32))).digest(96)
    return pyca.MLKEM768X25519PrivateKey(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_another_hpke_and_ours_open_each_other(suite):
    other, other_key, key = pyca_suite(suite), pyca_private_key(suite.kem), key_of(suite.kem)
    sealed = other.encrypt(b"theirs", other_key.public_key(), INFO)
    enc, ciphertext = sealed[: suite.enc_length], sealed[suite.enc_length :]
    assert hpke.setup_recipient(suite, key, enc, INFO).open(b"", ciphertext) == b"theirs"
    enc, sender = hpke.setup_sender(suite, key.public_bytes, INFO)
    assert other.decrypt(enc + sender.seal(b"", b"ours"), other_key, INFO) == b"ours"


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_both_sides_count_and_export_alike(suite):
    sender, recipient, _ = contexts(suite)
    for number in range(3):
        sealed = sender.seal(b"aad", bytes([number]))
        assert len(sealed) == 1 + hpke.TAG_LENGTH
        assert recipient.open(b"aad", sealed) == bytes([number])
    assert sender.export(b"label", 48) == recipient.export(b"label", 48)
    assert sender.export(b"label", 32) != sender.export(b"other", 32)


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_secrets_rebuild_the_context_elsewhere(suite):
    sender, recipient, _ = contexts(suite)
    carried = recipient.secrets.to_bytes()
    rebuilt = RecipientContext.from_secrets(hpke.ContextSecrets.from_bytes(carried))
    assert rebuilt.open(b"", sender.seal(b"", b"first")) == b"first"
    assert rebuilt.export(b"label", 32) == sender.export(b"label", 32)


def test_secrets_of_a_used_context_stay_with_it():
    sender, recipient, _ = contexts(SUITES[0])
    recipient.open(b"", sender.seal(b"", b"first"))
    with pytest.raises(OpenFailed, match="used"):
        _ = recipient.secrets


def test_secrets_do_not_show_themselves():
    _, recipient, _ = contexts(SUITES[0])
    assert recipient.secrets.key.hex() not in repr(recipient.secrets)
    assert repr(recipient.secrets.exporter_secret) not in repr(recipient.secrets)


@pytest.mark.parametrize("suite", [SUITES[0], SUITES[4]], ids=str)
def test_secrets_have_one_encoding(suite):
    data = contexts(suite)[1].secrets.to_bytes()
    assert hpke.ContextSecrets.from_bytes(data).to_bytes() == data
    for end in range(len(data)):
        with pytest.raises(Truncated):
            hpke.ContextSecrets.from_bytes(data[:end])
    with pytest.raises(Malformed):
        hpke.ContextSecrets.from_bytes(data + b"\0")
    with pytest.raises(Unsupported):
        hpke.ContextSecrets.from_bytes(b"\xff\xff" + data[2:])


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_one_failure_ends_a_context(suite):
    sender, recipient, _ = contexts(suite)
    sealed = sender.seal(b"", b"plaintext")
    with pytest.raises(OpenFailed):
        recipient.open(b"other", sealed)
    with pytest.raises(OpenFailed, match="earlier"):
        recipient.open(b"", sealed)


@given(st.sampled_from(SUITES), st.data())
def test_a_mutated_ciphertext_does_not_open(suite, data):
    sender, recipient, _ = contexts(suite)
    sealed = bytearray(sender.seal(b"", b"plaintext"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(OpenFailed):
        recipient.open(b"", bytes(sealed))


@pytest.mark.parametrize("length", range(17))
def test_a_ciphertext_cut_short_does_not_open(length):
    sender, recipient, _ = contexts(SUITES[0])
    sealed = sender.seal(b"", b"plaintext")[:length]
    with pytest.raises(OpenFailed):
        recipient.open(b"", sealed)


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_an_enc_of_zeros_is_our_error(suite):
    with pytest.raises(OpenFailed, match="decapsulate"):
        hpke.setup_recipient(suite, key_of(suite.kem), bytes(suite.enc_length), INFO)


@pytest.mark.parametrize("suite", [SUITES[0], SUITES[3]], ids=str)
@pytest.mark.parametrize("change", [-1, 1])
def test_an_enc_of_another_length_is_malformed(suite, change):
    enc = contexts(suite)[2]
    with pytest.raises(Malformed, match="length"):
        hpke.setup_recipient(suite, key_of(suite.kem), (enc + b"\0")[: len(enc) + change], INFO)


@given(st.sampled_from([SUITES[0], SUITES[3]]), st.data())
def test_a_mutated_enc_opens_nothing(suite, data):
    sender, _, enc = contexts(suite)
    mutated = bytearray(enc)
    # Bit 255 of an X25519 share is ignored by X25519 itself, but not by either KEM's hash.
    mutated[data.draw(st.integers(0, len(enc) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(OpenFailed):
        hpke.setup_recipient(suite, key_of(suite.kem), bytes(mutated), INFO).open(
            b"", sender.seal(b"", b"plaintext")
        )


def test_another_info_opens_nothing():
    sender, _, enc = contexts(SUITES[0])
    context = hpke.setup_recipient(SUITES[0], key_of(Kem.X25519), enc, b"other")
    with pytest.raises(OpenFailed):
        context.open(b"", sender.seal(b"", b"plaintext"))


@pytest.mark.parametrize(
    "public_key",
    [bytes(32), b"", bytes(31), bytes(1216), b"\xff" * 1216],
    ids=["degenerate", "empty", "short", "zeros", "not reduced"],
)
@pytest.mark.parametrize("suite", [SUITES[0], SUITES[3]], ids=str)
def test_what_is_no_public_key_is_malformed(suite, public_key):
    with pytest.raises(Malformed):
        hpke.setup_sender(suite, public_key, INFO)


def test_a_key_of_the_other_kem_is_unsupported():
    enc = contexts(SUITES[0])[2]
    with pytest.raises(Unsupported):
        hpke.setup_recipient(SUITES[0], key_of(Kem.XWING), enc, INFO)


def test_xwing_takes_no_ephemeral_key():
    key = key_of(Kem.XWING)
    with pytest.raises(Unsupported, match="ephemeral"):
        hpke.setup_sender(SUITES[3], key.public_bytes, INFO, ephemeral=key)


def test_a_private_key_needs_a_whole_seed():
    with pytest.raises(ValueError, match="32 bytes"):
        PrivateKey.generate(Kem.XWING, bytes(31))


def test_a_private_key_does_not_show_itself():
    key = key_of(Kem.X25519)
    assert bytes(range(32)).hex() not in repr(key)


@pytest.mark.parametrize("ids", [(0x0010, 1, 1), (0x0020, 2, 1), (0x0020, 1, 0xFFFF), (0, 0, 0)])
def test_other_algorithms_are_unsupported(ids):
    with pytest.raises(Unsupported):
        hpke.suite_of(*ids)


@pytest.mark.parametrize("length", [0, 8161])
def test_an_export_has_a_sensible_length(length):
    with pytest.raises(ValueError, match="8160"):
        contexts(SUITES[0])[0].export(b"", length)


def test_every_error_of_this_file_is_ours():
    assert issubclass(OpenFailed, WireError)
