import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import hpke, ohttp
from wire.errors import Malformed, OpenFailed, Truncated, Unsupported, WireError
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig

FOLDER = Path(__file__).parent / "vectors"
PLAIN = json.loads((FOLDER / "rfc9458_appendix_a.json").read_text())
CHUNKED = json.loads((FOLDER / "chunked_ohttp_draft08_appendix_a.json").read_text())

SEED = bytes(range(32))
ALGORITHMS = tuple((Kdf.HKDF_SHA256, aead) for aead in Aead)
CONFIGS = {
    kem: KeyConfig(7, kem, PrivateKey.generate(kem, SEED).public_bytes, ALGORITHMS) for kem in Kem
}
CASES = [(kem, aead) for kem in Kem for aead in Aead]


def hexed(vector, name):
    return bytes.fromhex(vector[name])


def private(vector, name):
    return PrivateKey.generate(Kem.X25519, hexed(vector, name))


def context_of(encapsulated_request, key, *, chunked):
    header, enc, rest = ohttp.split(encapsulated_request)
    info = ohttp.request_info(header, chunked=chunked)
    return hpke.setup_recipient(header.suite, key, enc, info), enc, rest


def opened_request(encapsulated_request, key, *, chunked):
    context, _, rest = context_of(encapsulated_request, key, chunked=chunked)
    return (ohttp.open_chunked_request if chunked else ohttp.open_request)(context, rest)


def opened_stream(opener, data):
    return [*opener.feed(data), opener.finish()]


def test_published_exchange_is_replayed_byte_for_byte():
    config = KeyConfig.decode(hexed(PLAIN, "key_config"))
    request, opener = ohttp.encapsulate(
        config,
        hexed(PLAIN, "bhttp_request"),
        aead=Aead.AES_128_GCM,
        ephemeral=private(PLAIN, "client_ephemeral_secret_key"),
    )
    assert request.hex() == PLAIN["encapsulated_request"]

    header, enc, rest = ohttp.split(request)
    assert ohttp.request_info(header, chunked=False).hex() == PLAIN["request_info"]
    context, _, _ = context_of(request, private(PLAIN, "gateway_x25519_secret_key"), chunked=False)
    assert ohttp.open_request(context, rest).hex() == PLAIN["bhttp_request"]
    assert context.export(b"message/bhttp response", 16).hex() == PLAIN["export_secret"]

    nonce = hexed(PLAIN, "response_salt")[len(enc) :]
    response = ohttp.ResponseSealer(context, enc, nonce).seal(hexed(PLAIN, "bhttp_response"))
    assert response.hex() == PLAIN["encapsulated_response"]
    assert opener.open(response).hex() == PLAIN["bhttp_response"]


def test_published_chunked_exchange_is_replayed_byte_for_byte():
    *pieces, last = [bytes.fromhex(chunk) for chunk in CHUNKED["request_plaintext_chunks"]]
    request, opener = ohttp.encapsulate_pieces(
        KeyConfig.decode(hexed(CHUNKED, "key_config")),
        pieces,
        last,
        aead=Aead.AES_128_GCM,
        ephemeral=private(CHUNKED, "client_ephemeral_secret_key"),
    )
    assert request.hex() == CHUNKED["encapsulated_request"]

    key = private(CHUNKED, "gateway_x25519_secret_key")
    context, enc, rest = context_of(request, key, chunked=True)
    assert ohttp.open_chunked_request(context, rest).hex() == CHUNKED["bhttp_request"]
    assert context.export(b"message/bhttp chunked response", 16).hex() == CHUNKED["export_secret"]

    sealer = ohttp.ChunkedResponseSealer(context, enc, hexed(CHUNKED, "response_salt")[len(enc) :])
    *chunks, final = [bytes.fromhex(chunk) for chunk in CHUNKED["response_plaintext_chunks"]]
    parts = [sealer.start(), *map(sealer.chunk, chunks), sealer.final(final)]
    assert [part.hex() for part in parts] == CHUNKED["response_parts"]
    opened = [chunk for part in parts for chunk in opener.feed(part)]
    assert [*opened, opener.finish()] == [*chunks, final]


def exchange(kem, aead, *, chunked):
    """One request opened by the gateway: opener, context and enc."""
    encapsulate = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
    request, opener = encapsulate(CONFIGS[kem], b"request", aead=aead)
    key = PrivateKey.generate(kem, SEED)
    context, enc, rest = context_of(request, key, chunked=chunked)
    open_request = ohttp.open_chunked_request if chunked else ohttp.open_request
    assert open_request(context, rest) == b"request"
    return opener, context, enc


def nonce_for(context):
    return bytes(ohttp.response_nonce_length(context.suite))


def sealed_response(opener_and_context):
    _, context, enc = opener_and_context
    return ohttp.ResponseSealer(context, enc, nonce_for(context)).seal(b"response")


def sealed_stream(context, enc):
    sealer = ohttp.ChunkedResponseSealer(context, enc, nonce_for(context))
    return sealer.start() + sealer.chunk(b"one") + sealer.chunk(b"two") + sealer.final(b"three")


@pytest.mark.parametrize(("kem", "aead"), CASES)
def test_every_suite_carries_a_request_and_its_response(kem, aead):
    opener, context, enc = exchange(kem, aead, chunked=False)
    assert opener.open(sealed_response((opener, context, enc))) == b"response"
    label = ohttp.REQUEST_SALT_LABEL
    salt = opener.export(label, ohttp.SALT_LENGTH)
    assert salt == context.export(label, ohttp.SALT_LENGTH)
    assert salt != opener.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH)


@pytest.mark.parametrize(("kem", "aead"), CASES)
def test_every_suite_carries_a_stream_split_at_every_byte(kem, aead):
    opener, context, enc = exchange(kem, aead, chunked=True)
    data = sealed_stream(context, enc)
    opened = [chunk for byte in data for chunk in opener.feed(bytes([byte]))]
    assert [*opened, opener.finish()] == [b"one", b"two", b"three"]
    label = ohttp.RESPONSE_SALT_LABEL
    assert opener.export(label, 32) == context.export(label, 32)


@pytest.mark.parametrize(
    ("aead", "length"),
    [(Aead.AES_128_GCM, 16), (Aead.AES_256_GCM, 32), (Aead.CHACHA20_POLY1305, 32)],
)
def test_a_response_nonce_is_as_long_as_the_key(aead, length):
    _, context, enc = exchange(Kem.X25519, aead, chunked=False)
    assert ohttp.response_nonce_length(context.suite) == length
    for sealer in (ohttp.ResponseSealer, ohttp.ChunkedResponseSealer):
        with pytest.raises(ValueError, match="nonce"):
            sealer(context, enc, bytes(length - 1))


@pytest.mark.parametrize("end", [0, 15, 16, 17, 31, -1])
def test_a_response_cut_short_does_not_open(end):
    parts = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    with pytest.raises((Truncated, OpenFailed)):
        parts[0].open(sealed_response(parts)[:end])


@given(st.data())
def test_a_mutated_response_does_not_open(data):
    parts = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    response = bytearray(sealed_response(parts))
    response[data.draw(st.integers(0, len(response) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(OpenFailed):
        parts[0].open(bytes(response))


def test_a_response_with_trailing_bytes_does_not_open():
    parts = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    with pytest.raises(OpenFailed):
        parts[0].open(sealed_response(parts) + b"\0")


def test_a_response_opens_once_even_if_it_failed():
    parts = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    response = sealed_response(parts)
    with pytest.raises(OpenFailed):
        parts[0].open(response[:-1])
    with pytest.raises(OpenFailed, match="once"):
        parts[0].open(response)


def test_a_response_is_sealed_once():
    _, context, enc = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    sealer = ohttp.ResponseSealer(context, enc, nonce_for(context))
    sealer.seal(b"response")
    with pytest.raises(ValueError, match="once"):
        sealer.seal(b"response")


def test_a_response_to_one_request_does_not_open_with_another():
    first = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    second = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=False)
    with pytest.raises(OpenFailed):
        second[0].open(sealed_response(first))


def test_a_stream_cut_anywhere_never_looks_complete():
    length = len(sealed_stream(*exchange(Kem.X25519, Aead.AES_128_GCM, chunked=True)[1:]))
    for end in range(length):
        opener, context, enc = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=True)
        with pytest.raises((Truncated, OpenFailed)):
            opened_stream(opener, sealed_stream(context, enc)[:end])


@given(st.data())
def test_a_mutated_stream_never_looks_complete(data):
    opener, context, enc = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=True)
    stream = bytearray(sealed_stream(context, enc))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Malformed, OpenFailed)):
        opened_stream(opener, bytes(stream))


def test_chunks_that_change_places_do_not_open():
    opener, context, enc = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=True)
    sealer = ohttp.ChunkedResponseSealer(context, enc, nonce_for(context))
    start, one, two = sealer.start(), sealer.chunk(b"one"), sealer.chunk(b"two")
    with pytest.raises(OpenFailed):
        opener.feed(start + two + one + sealer.final())


def test_a_long_event_is_sent_in_chunks_that_every_peer_takes():
    opener, context, enc = exchange(Kem.X25519, Aead.AES_128_GCM, chunked=True)
    sealer = ohttp.ChunkedResponseSealer(context, enc, nonce_for(context))
    opened = opener.feed(sealer.start() + sealer.chunk(bytes(40106)) + sealer.final())
    assert [len(chunk) for chunk in opened] == [16384, 16384, 7338]
    assert opener.finish() == b""


@pytest.mark.parametrize("length", [0, 16383, 16384, 16385, 40000])
def test_long_requests_come_back_whole(length):
    request, _ = ohttp.encapsulate_chunked(
        CONFIGS[Kem.X25519], bytes(length), aead=Aead.AES_128_GCM
    )
    key = PrivateKey.generate(Kem.X25519, SEED)
    context, _, rest = context_of(request, key, chunked=True)
    opener = ohttp.ChunkedRequestOpener(context)
    opened = [
        chunk for at in range(0, len(rest), 999) for chunk in opener.feed(rest[at : at + 999])
    ]
    assert b"".join(opened) + opener.finish() == bytes(length)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_of_one_type_does_not_open_as_the_other(chunked):
    encapsulate = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
    request, _ = encapsulate(CONFIGS[Kem.X25519], b"request", aead=Aead.AES_128_GCM)
    key = PrivateKey.generate(Kem.X25519, SEED)
    context, _, rest = context_of(request, key, chunked=not chunked)
    open_request = ohttp.open_request if chunked else ohttp.open_chunked_request
    with pytest.raises(WireError):
        open_request(context, rest)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_cut_anywhere_does_not_open(chunked):
    encapsulate = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
    request, _ = encapsulate(CONFIGS[Kem.X25519], b"request", aead=Aead.AES_128_GCM)
    key = PrivateKey.generate(Kem.X25519, SEED)
    for end in range(len(request)):
        with pytest.raises((Truncated, OpenFailed)):
            opened_request(request[:end], key, chunked=chunked)


@given(st.booleans(), st.sampled_from(CASES), st.data())
def test_a_mutated_request_does_not_open(chunked, case, data):
    kem, aead = case
    encapsulate = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
    request = bytearray(encapsulate(CONFIGS[kem], b"request", aead=aead)[0])
    request[data.draw(st.integers(0, len(request) - 1))] ^= data.draw(st.integers(1, 255))
    key = PrivateKey.generate(kem, SEED)
    with pytest.raises(WireError):
        opened_request(bytes(request), key, chunked=chunked)


@given(st.binary(max_size=60), st.sampled_from((b"", b"\7\0\x20\0\1\0\1", b"\7\x64\x7a\0\1\0\1")))
def test_any_bytes_split_or_raise_our_error(data, start):
    try:
        header, enc, rest = ohttp.split(start + data)
    except WireError:
        return
    assert header.encode() + enc + rest == start + data


@pytest.mark.parametrize("header", ["01001000010001", "01002000020001", "0100200001ffff"])
def test_unknown_algorithms_are_unsupported(header):
    with pytest.raises(Unsupported):
        ohttp.split(bytes.fromhex(header) + bytes(2000))


def test_a_cipher_that_is_not_offered_is_not_used():
    config = KeyConfig(1, Kem.X25519, CONFIGS[Kem.X25519].public_key, ALGORITHMS[:1])
    for encapsulate in (ohttp.encapsulate, ohttp.encapsulate_chunked):
        with pytest.raises(Unsupported, match="offer"):
            encapsulate(config, b"request", aead=Aead.AES_256_GCM)


def test_two_requests_share_nothing():
    first, second = (
        ohttp.encapsulate(CONFIGS[Kem.XWING], b"request", aead=Aead.AES_128_GCM)[0]
        for _ in range(2)
    )
    assert first[:7] == second[:7]
    assert first[7:] != second[7:]
