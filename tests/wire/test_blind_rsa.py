import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from wire import blind_rsa
from wire.errors import BadSignature, Malformed

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc9474_appendix_a.json").read_text())
BY_NAME = {vector["variant"]: vector for vector in VECTORS["vectors"]}
DETERMINISTIC = BY_NAME["RSABSSA-SHA384-PSS-Deterministic"]


def hexed(vector, name):
    return bytes.fromhex(vector[name])


def public_key(vector):
    return rsa.RSAPublicNumbers(int(vector["e"], 16), int(vector["n"], 16)).public_key()


def blind_of(vector):
    """The r whose inverse the vector prints."""
    return pow(int(vector["inv"], 16), -1, int(vector["n"], 16)).to_bytes(512, "big")


def blinded(vector):
    return blind_rsa.blind(
        public_key(vector),
        hexed(vector, "prepared_msg"),
        salt=hexed(vector, "salt"),
        blind=blind_of(vector),
    )


@pytest.mark.parametrize("variant", BY_NAME)
def test_published_vectors_are_recomputed(variant):
    vector = BY_NAME[variant]
    key, message, prepared = public_key(vector), hexed(vector, "msg"), hexed(vector, "prepared_msg")
    if variant.endswith("Randomized"):
        assert blind_rsa.prepare(message, hexed(vector, "msg_prefix")) == prepared
    else:
        assert message == prepared
    encoded = blind_rsa._encode_pss(prepared, hexed(vector, "salt"), 4095)
    assert encoded.hex() == vector["encoded_msg"]
    blinded_message, blinding = blinded(vector)
    assert blinded_message.hex() == vector["blinded_msg"]
    assert blinding.inverse == int(vector["inv"], 16)
    signature = blind_rsa.finalize(key, prepared, hexed(vector, "blind_sig"), blinding)
    assert signature.hex() == vector["sig"]
    blind_rsa.verify(key, prepared, signature, salt_length=len(hexed(vector, "salt")))


def test_a_forged_blind_signature_is_not_finalized():
    _, blinding = blinded(DETERMINISTIC)
    forged = bytearray(hexed(DETERMINISTIC, "blind_sig"))
    forged[-1] ^= 1
    with pytest.raises(BadSignature):
        blind_rsa.finalize(
            public_key(DETERMINISTIC), hexed(DETERMINISTIC, "msg"), bytes(forged), blinding
        )


def test_a_signature_of_another_message_does_not_verify():
    with pytest.raises(BadSignature):
        blind_rsa.verify(public_key(DETERMINISTIC), b"another", hexed(DETERMINISTIC, "sig"))


@pytest.mark.parametrize("signature", [b"", b"\0", bytes(511), bytes(513), b"\xff" * 512])
def test_what_is_no_signature_does_not_verify(signature):
    with pytest.raises(BadSignature):
        blind_rsa.verify(public_key(DETERMINISTIC), b"message", signature)


def test_the_salt_length_is_part_of_the_variant():
    with pytest.raises(BadSignature):
        blind_rsa.verify(
            public_key(DETERMINISTIC),
            hexed(DETERMINISTIC, "msg"),
            hexed(DETERMINISTIC, "sig"),
            salt_length=0,
        )


@pytest.mark.parametrize("answer", [b"", bytes(511), bytes(513), b"\xff" * 512])
def test_an_answer_of_the_wrong_size_is_malformed(answer):
    _, blinding = blinded(DETERMINISTIC)
    with pytest.raises(Malformed, match="modulus"):
        blind_rsa.finalize(public_key(DETERMINISTIC), b"message", answer, blinding)


def test_longer_random_bytes_are_reduced_and_unblind():
    key = public_key(DETERMINISTIC)
    assert blind_rsa.blind_length(key) == 528
    n = int(DETERMINISTIC["n"], 16)
    random_bytes = bytes(range(1, 17)) * 33
    _, blinding = blind_rsa.blind(key, b"message", salt=bytes(48), blind=random_bytes)
    assert blinding.inverse * int.from_bytes(random_bytes, "big") % n == 1


@pytest.mark.parametrize("blind", [b"", b"\1" * 511, b"\1" * 513, b"\xff" * 512])
def test_a_blind_of_another_length_is_refused(blind):
    with pytest.raises(ValueError, match="blind"):
        blind_rsa.blind(public_key(DETERMINISTIC), b"message", salt=bytes(48), blind=blind)


def test_a_blind_of_zero_is_refused():
    with pytest.raises(Malformed, match="factor"):
        blind_rsa.blind(public_key(DETERMINISTIC), b"message", salt=bytes(48), blind=bytes(512))


@pytest.mark.parametrize("length", [1, 47, 49])
def test_a_salt_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match="salt"):
        blind_rsa.blind(
            public_key(DETERMINISTIC), b"message", salt=bytes(length), blind=b"\1" * 512
        )


def test_a_prefix_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        blind_rsa.prepare(b"message", bytes(31))


def test_a_blinding_does_not_show_itself():
    _, blinding = blinded(DETERMINISTIC)
    assert str(blinding.inverse) not in repr(blinding)
