import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from wire import privacy_pass
from wire.errors import BadSignature, Malformed, Truncated, Unsupported, WireError
from wire.privacy_pass import Token, TokenChallenge, TokenRequest

FOLDER = Path(__file__).parent / "vectors"
ISSUANCE = json.loads((FOLDER / "rfc9578_type2_appendix.json").read_text())["vectors"]
SCHEME = json.loads((FOLDER / "rfc9577_appendix_a.json").read_text())


def hexed(vector, name):
    return bytes.fromhex(vector[name])


def issuance(vector):
    return privacy_pass.begin_issuance(
        TokenChallenge.decode(hexed(vector, "token_challenge")),
        hexed(vector, "pkS"),
        nonce=hexed(vector, "nonce"),
        salt=hexed(vector, "salt"),
        blind=hexed(vector, "blind"),
    )


FIRST = ISSUANCE[0]
SPKI = hexed(FIRST, "pkS")
TOKEN = Token.decode(hexed(FIRST, "token"))
CHALLENGE = TokenChallenge.decode(hexed(FIRST, "token_challenge"))


@pytest.mark.parametrize("vector", ISSUANCE, ids=range(1, 6))
def test_published_issuances_are_recomputed(vector):
    request, pending = issuance(vector)
    assert request.encode().hex() == vector["token_request"]
    token = pending.finish(hexed(vector, "token_response"))
    assert token.encode().hex() == vector["token"]
    challenge = TokenChallenge.decode(hexed(vector, "token_challenge"))
    assert challenge.encode().hex() == vector["token_challenge"]
    privacy_pass.verify_token(token, hexed(vector, "pkS"), challenge.digest)


@pytest.mark.parametrize("vector", SCHEME["token_structures"], ids=range(5))
def test_published_token_structures_are_recomputed(vector):
    challenge = TokenChallenge(
        hexed(vector, "issuer_name").decode(),
        hexed(vector, "redemption_context"),
        hexed(vector, "origin_info").decode(),
    )
    assert TokenChallenge.decode(challenge.encode()) == challenge
    token = Token(
        hexed(vector, "nonce"), challenge.digest, hexed(vector, "token_key_id"), bytes(256)
    )
    assert token.signed_part.hex() == vector["token_authenticator_input"]


@pytest.mark.parametrize("vector", SCHEME["headers"], ids=["one type", "two types"])
def test_published_challenge_fields_are_read(vector):
    (offered,) = privacy_pass.parse_challenges(vector["WWW-Authenticate"].encode())
    assert offered.challenge.encode().hex() == vector["token-challenge-0"]
    assert offered.spki.hex() == vector["token-key-0"]
    assert offered.max_age == vector["max-age-0"]
    plain = privacy_pass.format_challenge(offered.challenge, offered.spki)
    assert vector["WWW-Authenticate"].startswith(plain.decode())


def test_the_structures_have_the_published_sizes():
    assert len(SPKI) == privacy_pass.SPKI_LENGTH == 342
    assert len(TOKEN.encode()) == privacy_pass.TOKEN_LENGTH == 354
    assert len(hexed(FIRST, "token_request")) == privacy_pass.TOKEN_REQUEST_LENGTH == 259


def test_an_issuer_key_has_one_encoding():
    key = privacy_pass.load_spki(SPKI)
    assert privacy_pass.public_key_spki(key) == SPKI
    assert privacy_pass.key_id(SPKI) == TOKEN.key_id


@pytest.mark.parametrize("end", [0, 1, 71, 72, 341])
def test_an_issuer_key_cut_short_is_truncated(end):
    with pytest.raises(Truncated):
        privacy_pass.load_spki(SPKI[:end])


@given(st.integers(0, 341), st.integers(1, 255))
def test_a_mutated_issuer_key_is_refused_or_another_key(at, flip):
    mutated = bytearray(SPKI)
    mutated[at] ^= flip
    try:
        key = privacy_pass.load_spki(bytes(mutated))
    except WireError:
        return
    assert privacy_pass.public_key_spki(key) == bytes(mutated)


def test_keys_of_another_size_or_exponent_are_unsupported():
    numbers = privacy_pass.load_spki(SPKI).public_numbers()
    for other in (
        rsa.RSAPublicNumbers(3, numbers.n),
        rsa.RSAPublicNumbers(65537, numbers.n >> 1 | 1),
    ):
        with pytest.raises(Unsupported):
            privacy_pass.public_key_spki(other.public_key())


def test_a_token_is_finished_once():
    _, pending = issuance(FIRST)
    pending.finish(hexed(FIRST, "token_response"))
    with pytest.raises(ValueError, match="once"):
        pending.finish(hexed(FIRST, "token_response"))


def test_a_forged_answer_makes_no_token():
    _, pending = issuance(FIRST)
    with pytest.raises(BadSignature):
        pending.finish(hexed(ISSUANCE[1], "token_response"))


@pytest.mark.parametrize("length", [0, 255, 257])
def test_an_answer_of_another_length_makes_no_token(length):
    _, pending = issuance(FIRST)
    with pytest.raises(Malformed):
        pending.finish(bytes(length))


@pytest.mark.parametrize(("nonce", "salt"), [(31, 48), (33, 48), (32, 0), (32, 47)])
def test_randomness_of_another_length_is_refused(nonce, salt):
    with pytest.raises(ValueError, match="32 bytes"):
        privacy_pass.begin_issuance(
            CHALLENGE, SPKI, nonce=bytes(nonce), salt=bytes(salt), blind=b"\1" * 272
        )


def test_issuance_takes_plain_random_bytes_as_its_blind():
    request, _ = privacy_pass.begin_issuance(
        CHALLENGE, SPKI, nonce=bytes(32), salt=bytes(48), blind=b"\xff" * privacy_pass.BLIND_LENGTH
    )
    assert len(request.encode()) == 259
    assert request.truncated_key_id == privacy_pass.key_id(SPKI)[-1]


@pytest.mark.parametrize("part", ["nonce", "signature"])
def test_a_token_changed_after_signing_does_not_verify(part):
    parts = {
        name: getattr(TOKEN, name) for name in ("nonce", "challenge_digest", "key_id", "signature")
    }
    parts[part] = bytes([parts[part][0] ^ 1]) + parts[part][1:]
    with pytest.raises(BadSignature):
        privacy_pass.verify_token(Token(**parts), SPKI, CHALLENGE.digest)


def test_a_token_for_another_challenge_is_refused():
    with pytest.raises(Unsupported, match="challenge"):
        privacy_pass.verify_token(TOKEN, SPKI, TokenChallenge("issuer.example").digest)


def test_a_token_of_another_key_is_refused():
    other = SPKI[:-10] + bytes([SPKI[-10] ^ 1]) + SPKI[-9:]
    with pytest.raises(Unsupported, match="key"):
        privacy_pass.verify_token(TOKEN, other, CHALLENGE.digest)


DECODERS = [
    (TokenChallenge, CHALLENGE.encode()),
    (TokenRequest, hexed(FIRST, "token_request")),
    (Token, TOKEN.encode()),
]


@pytest.mark.parametrize(("structure", "data"), DECODERS)
def test_a_structure_cut_anywhere_is_truncated(structure, data):
    for end in range(len(data)):
        with pytest.raises(Truncated):
            structure.decode(data[:end])


@pytest.mark.parametrize(("structure", "data"), DECODERS)
def test_trailing_bytes_and_other_types_are_refused(structure, data):
    with pytest.raises(Malformed, match="trailing"):
        structure.decode(data + b"\0")
    for other in (b"\0\1", b"\0\3", b"\xff\xff"):
        with pytest.raises(Unsupported, match="type"):
            structure.decode(other + data[2:])


@given(st.sampled_from(DECODERS), st.data())
def test_a_mutated_structure_is_refused_or_written_as_it_was_read(decoder, data):
    structure, encoded = decoder
    mutated = bytearray(encoded)
    mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        value = structure.decode(bytes(mutated))
    except WireError:
        return
    assert value.encode() == bytes(mutated)


@pytest.mark.parametrize(
    "parts",
    [
        ("",),
        ("issüer",),
        ("issuer", bytes(31)),
        ("issuer", b"", "örigin"),
        ("i" * 65536,),
        ("issuer", b"", "o" * 65536),
    ],
)
def test_a_challenge_that_has_no_encoding_cannot_be_made(parts):
    with pytest.raises(Malformed):
        TokenChallenge(*parts)


def test_a_token_with_a_part_of_another_length_cannot_be_made():
    with pytest.raises(Malformed):
        Token(bytes(31), bytes(32), bytes(32), bytes(256))
    with pytest.raises(Malformed):
        Token(bytes(32), bytes(32), bytes(32), bytes(255))


def test_a_token_does_not_show_itself():
    assert repr(TOKEN) == "Token()"


def test_the_spent_row_is_a_hash_of_key_id_and_nonce():
    expected = hashlib.sha256(TOKEN.key_id + TOKEN.nonce).digest()
    assert privacy_pass.spent_row(TOKEN.key_id, TOKEN.nonce) == expected


# HTTP fields.


def test_authorization_is_padded_base64url_in_quotes():
    value = privacy_pass.format_authorization(TOKEN)
    assert value.startswith(b'PrivateToken token="AAKq')
    assert len(value) == len(b'PrivateToken token=""') + 472
    assert privacy_pass.parse_authorization(value) == TOKEN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"PrivateToken", b"privatetoken"),
        (b"token=", b"extra=1, TOKEN ="),
        (
            b'"',
            b'",x="y',
        ),
    ],
    ids=["case", "unknown parameter", "further parameter"],
)
def test_authorization_is_read_with_any_case_and_unknown_parameters(old, new):
    value = privacy_pass.format_authorization(TOKEN)
    head, tail = value[:30], value[30:]
    mutated = head.replace(old, new) + tail if old != b'"' else head + tail[:-1] + new + b'"'
    assert privacy_pass.parse_authorization(mutated) == TOKEN


ENCODED = privacy_pass.format_authorization(TOKEN)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", Malformed),
        (b"PrivateToken", Malformed),
        (b"PrivateToken ", Malformed),
        (b'PrivateToken token=""', Truncated),
        (b'PrivateToken token="????"', Malformed),
        (ENCODED[:-1], Malformed),
        (ENCODED.replace(b"=", b"", 1), Malformed),
        (ENCODED + b", " + ENCODED, Malformed),
        (ENCODED + b', token="x"', Malformed),
        (b"Basic dXNlcjpwYXNz", Unsupported),
        (b'Bearer token="x"', Unsupported),
        (b"PrivateToken token=\xff", Malformed),
    ],
)
def test_other_authorizations_are_refused(value, error):
    with pytest.raises(error):
        privacy_pass.parse_authorization(value)


def test_base64url_without_padding_or_in_the_other_alphabet_is_refused():
    challenge = privacy_pass.format_challenge(CHALLENGE, SPKI)
    assert b'=="' in challenge
    with pytest.raises(Malformed, match="base64url"):
        privacy_pass.parse_challenges(challenge.replace(b'=="', b'"', 1))
    assert b"_" in challenge
    with pytest.raises(Malformed, match="base64url"):
        privacy_pass.parse_challenges(challenge.replace(b"_", b"/"))


def test_other_schemes_beside_ours_are_passed_over():
    ours = privacy_pass.format_challenge(CHALLENGE, SPKI)
    value = b'Basic realm="a, b", Negotiate abc==, ' + ours + b", max-age=60, Digest"
    (offered,) = privacy_pass.parse_challenges(value)
    assert (offered.challenge, offered.spki, offered.max_age) == (CHALLENGE, SPKI, 60)
    assert privacy_pass.parse_challenges(b"Basic") == ()


@pytest.mark.parametrize("max_age", [b"-1", b'"x"', b"1e3", b"9" * 11])
def test_a_max_age_that_is_no_number_is_malformed(max_age):
    value = privacy_pass.format_challenge(CHALLENGE, SPKI) + b", max-age=" + max_age
    with pytest.raises(Malformed, match="max-age"):
        privacy_pass.parse_challenges(value)


def test_a_challenge_without_its_key_is_malformed():
    value = privacy_pass.format_challenge(CHALLENGE, SPKI).partition(b", token-key")[0]
    with pytest.raises(Malformed, match="key"):
        privacy_pass.parse_challenges(value)


@given(st.binary(max_size=60), st.sampled_from((b"", b"PrivateToken ", ENCODED)))
def test_any_bytes_are_read_or_raise_our_error(data, start):
    for parse in (privacy_pass.parse_authorization, privacy_pass.parse_challenges):
        try:
            parse(start + data)
        except WireError:
            continue
