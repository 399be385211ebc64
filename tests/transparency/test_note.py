"""Signed notes, cosignatures and verifier keys; the numbers are others'."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transparency import note
from transparency.checkpoint import Checkpoint
from transparency.errors import BadCosignature, BadSignature, Malformed, TransparencyError
from transparency.note import KeyType, Note, NoteSignature, Signer, VerifierKey

# The example of Go's package golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
    "qdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

# Verifier keys in use: a checksum database (type 1) and a witness (type 4).
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
WITNESS_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

# c2sp.org/tlog-cosignature, "Format" and "Ed25519 signed message".
C2SP_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
C2SP_NOTE = (
    C2SP_TEXT
    + "\n\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe"
    "4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\N{EM DASH} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9d"
    "lrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()


@pytest.fixture
def witness(world):
    return world.witnesses[0]


def test_the_published_note_verifies_under_the_published_key():
    parsed, key = Note.parse(GO_NOTE), VerifierKey.parse(GO_KEY)
    note.verify(parsed.text, parsed.signatures[0], key)
    assert parsed.encode() == GO_NOTE


@pytest.mark.parametrize("text", [GO_KEY, SUMDB_KEY, WITNESS_KEY])
def test_a_published_verifier_key_has_one_spelling(text):
    assert str(VerifierKey.parse(text)) == text


def test_the_witness_key_is_of_the_cosignature_type():
    assert VerifierKey.parse(WITNESS_KEY).type is KeyType.COSIGNATURE
    assert VerifierKey.parse(SUMDB_KEY).type is KeyType.ED25519


def test_the_specifications_cosigned_checkpoint_is_read_as_it_says():
    parsed = Note.parse(C2SP_NOTE)
    checkpoint = Checkpoint.parse(parsed.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    names = [line.name for line in parsed.signatures]
    assert names == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert int.from_bytes(parsed.signatures[1].signature[:8], "big") == 1679315147
    assert parsed.encode() == C2SP_NOTE
    assert checkpoint.encode() == C2SP_TEXT


def test_a_cosignature_signs_the_message_of_the_specification(witness):
    line = note.cosign(C2SP_TEXT, witness, 1679315147)
    message = f"cosignature/v1\ntime 1679315147\n{C2SP_TEXT}".encode()
    witness.private_key.public_key().verify(line.signature[8:], message)
    public_key = witness.verifier_key.public_key
    material = witness.name.encode() + b"\n\x04" + public_key
    assert line.key_id == hashlib.sha256(material).digest()[:4]
    assert note.verify_cosignature(C2SP_TEXT, line, witness.verifier_key) == 1679315147


def test_each_key_type_signs_its_own_kind_only(world, witness):
    with pytest.raises(ValueError, match="signs notes"):
        note.sign("text\n", witness)
    with pytest.raises(ValueError, match="cosigns"):
        note.cosign("text\n", world.log, 0)


def test_a_signature_does_not_verify_for_another_text_key_or_kind(world, witness):
    line = note.sign("text\n", world.log)
    with pytest.raises(BadSignature):
        note.verify("other\n", line, world.log.verifier_key)
    stranger = Signer.from_seed(world.log.name, KeyType.ED25519, bytes(32)).verifier_key
    with pytest.raises(BadSignature):
        note.verify("text\n", line, stranger)
    disguised = NoteSignature(stranger.name, stranger.key_id, line.signature)
    with pytest.raises(BadSignature):
        note.verify("text\n", disguised, stranger)
    cosignature = note.cosign("text\n", witness, 5)
    with pytest.raises(BadSignature):
        note.verify("text\n", cosignature, witness.verifier_key)
    with pytest.raises(BadCosignature):
        note.verify_cosignature("text\n", line, world.log.verifier_key)


@pytest.mark.parametrize("change", ["time", "signature", "short", "empty", "text"])
def test_a_changed_cosignature_does_not_verify(witness, change):
    line = note.cosign("text\n", witness, 1000)
    signature = {
        "time": (1001).to_bytes(8, "big") + line.signature[8:],
        "signature": line.signature[:-1] + bytes([line.signature[-1] ^ 1]),
        "short": line.signature[:-1],
        "empty": line.signature[:8],
        "text": line.signature,
    }[change]
    text = "other\n" if change == "text" else "text\n"
    changed = NoteSignature(line.name, line.key_id, signature)
    with pytest.raises(BadCosignature):
        note.verify_cosignature(text, changed, witness.verifier_key)


def test_a_cosignature_time_beyond_the_limit_is_refused(witness):
    line = note.cosign("text\n", witness, 2**63)
    with pytest.raises(BadCosignature):
        note.verify_cosignature("text\n", line, witness.verifier_key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+c74f20a3",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        GO_KEY.replace("PeterNeumann", "PeterNeuman"),
        GO_KEY.replace("PeterNeumann", "Peter Neumann"),
        GO_KEY.replace("PeterNeumann", ""),
        GO_KEY + "A",
        GO_KEY[:-4],
        GO_KEY.replace("+ARpc", "+Ahpc"),
        "name+00000000+",
    ],
)
def test_a_verifier_key_in_another_form_is_refused(text):
    with pytest.raises(Malformed):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\n",
        GO_NOTE[:-1],
        GO_NOTE + b"\n",
        GO_NOTE + b"trailing",
        GO_NOTE.replace(b"\n\n", b"\n"),
        GO_NOTE.replace(b"If", b"\tIf"),
        GO_NOTE.replace(b"If", b"\rIf"),
        GO_NOTE.replace(b"If", b"\xff"),
        GO_NOTE.replace("\N{EM DASH}".encode(), b"-"),
        GO_NOTE.replace(b"PeterNeumann x08", b"PeterNeumann  x08"),
        GO_NOTE.replace(b"PeterNeumann x08", b"Peter+Neumann x08"),
        GO_NOTE.replace(b"PeterNeumann x08", b" x08"),
        GO_NOTE.replace(b"AM=\n", b"AM\n"),
        GO_NOTE.replace(b"AM=\n", b"AN=\n"),
        b"text\n\n\xe2\x80\x94 name AAAAAA==\n",
        b"x" * 65536 + GO_NOTE,
    ],
)
def test_a_note_in_another_form_is_refused(data):
    with pytest.raises(Malformed):
        Note.parse(data)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_note_in_its_one_encoding_or_malformed(data):
    try:
        parsed = Note.parse(data)
    except Malformed:
        return
    assert parsed.encode() == data


@given(position=st.integers(0, len(C2SP_NOTE) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_signed_note_can_be_changed(position, bit):
    data = bytearray(GO_NOTE)
    data[position % len(data)] ^= 1 << bit
    key = VerifierKey.parse(GO_KEY)
    with pytest.raises(TransparencyError):
        _verified(bytes(data), key)


def _verified(data, key):
    parsed = Note.parse(data)
    lines = parsed.by(key)
    if not lines:
        raise BadSignature("no line by the key")
    note.verify(parsed.text, lines[0], key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n",
        "origin\n1\n",
        C2SP_TEXT[:-1],
        C2SP_TEXT + "extension\n",
        C2SP_TEXT + "\n",
        C2SP_TEXT.replace("20852163", "020852163"),
        C2SP_TEXT.replace("20852163", "-1"),
        C2SP_TEXT.replace("20852163", "+1"),
        C2SP_TEXT.replace("20852163", "\u0661"),
        C2SP_TEXT.replace("20852163", "9223372036854775808"),
        C2SP_TEXT.replace("20852163", ""),
        C2SP_TEXT.replace("20852163", "0"),
        C2SP_TEXT.replace("q2I=", "q2J="),
        C2SP_TEXT.replace("q2I=", "q2I"),
        C2SP_TEXT.replace("CsUY", ""),
        C2SP_TEXT.replace("example.com/behind-the-sofa", ""),
    ],
)
def test_a_checkpoint_in_another_form_is_refused(text):
    with pytest.raises(Malformed):
        Checkpoint.parse(text)
