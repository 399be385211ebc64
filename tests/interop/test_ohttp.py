"""Oblivious HTTP against two HPKE libraries of others, in both roles, plain and chunked."""

import itertools
import json
from pathlib import Path

import pytest

from wire import hpke, ohttp
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig, decode_list, encode_list

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
LIBRARIES = ("panva", "dajiaji")
EVERY_SUITE = pytest.mark.parametrize(
    ("library", "kem", "aead"),
    [
        pytest.param(*suite, id="-".join((suite[0], suite[1].name, suite[2].name)))
        for suite in itertools.product(LIBRARIES, Kem, Aead)
    ],
)
ALGORITHMS = tuple((Kdf.HKDF_SHA256, aead) for aead in Aead)
SALT_LABELS = (ohttp.REQUEST_SALT_LABEL, ohttp.RESPONSE_SALT_LABEL)

KEYS = {kem: PrivateKey.generate(kem, bytes([kem & 0xFF]) * 32) for kem in Kem}
CONFIGS = {
    kem: KeyConfig(number, kem, KEYS[kem].public_bytes, ALGORITHMS)
    for number, kem in enumerate(Kem, start=7)
}

# A chunk of one byte, one as large as chunks may be, and a final one. Then one without content as
# the final one, which is how a stream of events ends.
THREE_CHUNKS = [b"1", bytes(16384), b"the final chunk"]
EMPTY_FINAL_CHUNK = [b"event one", b"event two", b"event three", b""]


class TheirClient:
    """One request by their client to the keys above, and the response to it."""

    def __init__(self, program, library, kem, aead, pieces, *, chunked):
        self._program = program
        suite = {"library": library, "kem": kem, "aead": aead, "chunked": chunked}
        keys = encode_list(CONFIGS.values())
        answer = program.call("encapsulate", keys=keys, pieces=pieces, **suite)
        self._exchange = answer["exchange"]
        self.encapsulated_request = bytes.fromhex(answer["encapsulated_request"])

    def open(self, encapsulated_response):
        return unhexed(self._call("open", encapsulated_response=encapsulated_response)["pieces"])

    def export(self, label):
        return bytes.fromhex(self._call("export", label=label, length=32)["secret"])

    def _call(self, operation, **parameters):
        return self._program.call(operation, exchange=self._exchange, **parameters)


class TheirGateway:
    """Their gateway with a key pair of its own. It remembers the request it opened last."""

    def __init__(self, program, library, kem):
        self._program = program
        self._library = library
        made = program.call("generate", library=library, kem=kem, key_id=255)
        self.private_key = bytes.fromhex(made["private_key"])
        (self.config,) = decode_list(bytes.fromhex(made["keys"]))
        self._exchange = None

    def open(self, encapsulated_request, *, chunked):
        opened = self._program.call(
            "open",
            library=self._library,
            private_key=self.private_key,
            encapsulated_request=encapsulated_request,
            chunked=chunked,
        )
        self._exchange = opened["exchange"]
        return unhexed(opened["pieces"])

    def seal(self, pieces):
        return bytes.fromhex(self._call("seal", pieces=pieces)["encapsulated_response"])

    def export(self, label):
        return bytes.fromhex(self._call("export", label=label, length=32)["secret"])

    def _call(self, operation, **parameters):
        return self._program.call(operation, exchange=self._exchange, **parameters)


@pytest.fixture(scope="module")
def client(peer):
    return peer("ohttp_client.mjs")


@pytest.fixture(scope="module")
def gateway(peer):
    return peer("ohttp_gateway.mjs")


def unhexed(pieces):
    return [bytes.fromhex(piece) for piece in pieces]


def our_context(encapsulated_request, *, chunked):
    """Our gateway half, up to the HPKE context: (context, enc, rest)."""
    header, enc, rest = ohttp.split(encapsulated_request)
    assert header.key_id == CONFIGS[header.kem].key_id
    info = ohttp.request_info(header, chunked=chunked)
    return hpke.setup_recipient(header.suite, KEYS[header.kem], enc, info), enc, rest


def response_nonce(context):
    return bytes(range(ohttp.response_nonce_length(context.suite)))


# Their client, our gateway half.


@EVERY_SUITE
def test_our_gateway_serves_their_client(client, library, kem, aead):
    theirs = TheirClient(client, library, kem, aead, [b"a request"], chunked=False)
    context, enc, rest = our_context(theirs.encapsulated_request, chunked=False)
    assert (context.suite.kem, context.suite.aead) == (kem, aead)
    assert ohttp.open_request(context, rest) == b"a request"

    sealer = ohttp.ResponseSealer(context, enc, response_nonce(context))
    assert theirs.open(sealer.seal(b"a response")) == [b"a response"]


@EVERY_SUITE
def test_our_gateway_serves_their_client_in_chunks(client, library, kem, aead):
    theirs = TheirClient(client, library, kem, aead, THREE_CHUNKS, chunked=True)
    context, enc, rest = our_context(theirs.encapsulated_request, chunked=True)
    opener = ohttp.ChunkedRequestOpener(context)
    assert [*opener.feed(rest), opener.finish()] == THREE_CHUNKS

    sealer = ohttp.ChunkedResponseSealer(context, enc, response_nonce(context))
    chunks = [sealer.chunk(piece) for piece in EMPTY_FINAL_CHUNK[:-1]]
    encapsulated_response = b"".join((sealer.start(), *chunks, sealer.final()))
    assert theirs.open(encapsulated_response) == EMPTY_FINAL_CHUNK
    for label in SALT_LABELS:
        assert theirs.export(label) == context.export(label, 32)


# Our client half, their gateway.


@EVERY_SUITE
def test_their_gateway_serves_our_client(gateway, library, kem, aead):
    theirs = TheirGateway(gateway, library, kem)
    encapsulated_request, opener = ohttp.encapsulate(theirs.config, b"a request", aead=aead)
    assert theirs.open(encapsulated_request, chunked=False) == [b"a request"]
    assert opener.open(theirs.seal([b"a response"])) == b"a response"


@EVERY_SUITE
def test_their_gateway_serves_our_client_in_chunks(gateway, library, kem, aead):
    theirs = TheirGateway(gateway, library, kem)
    encapsulated_request, opener = ohttp.encapsulate_pieces(
        theirs.config, THREE_CHUNKS[:-1], THREE_CHUNKS[-1], aead=aead
    )
    assert theirs.open(encapsulated_request, chunked=True) == THREE_CHUNKS

    encapsulated_response = theirs.seal(EMPTY_FINAL_CHUNK)
    pieces = []
    for at in range(0, len(encapsulated_response), 7):  # as a network might deliver it
        pieces += opener.feed(encapsulated_response[at : at + 7])
    assert [*pieces, opener.finish()] == EMPTY_FINAL_CHUNK
    for label in SALT_LABELS:
        assert theirs.export(label) == opener.export(label, 32)


# What else the two must agree on.


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kem", Kem)
def test_a_private_key_has_the_same_public_key_for_both(gateway, library, kem):
    theirs = TheirGateway(gateway, library, kem)
    ours = PrivateKey.generate(kem, theirs.private_key)
    assert theirs.config == KeyConfig(255, kem, ours.public_bytes, ALGORITHMS)


def test_a_long_request_is_cut_so_that_a_strict_gateway_takes_it(gateway):
    theirs = TheirGateway(gateway, "panva", Kem.XWING)
    encapsulated_request, _ = ohttp.encapsulate_chunked(
        theirs.config, bytes(40106), aead=Aead.AES_128_GCM
    )
    pieces = theirs.open(encapsulated_request, chunked=True)
    assert [len(piece) for piece in pieces] == [16384, 16384, 7338]


@pytest.mark.parametrize("in_chunks", [False, True])
def test_neither_form_passes_for_the_other(gateway, refused, in_chunks):
    theirs = TheirGateway(gateway, "panva", Kem.X25519)
    encapsulate = ohttp.encapsulate_chunked if in_chunks else ohttp.encapsulate
    encapsulated_request, _ = encapsulate(theirs.config, b"a request", aead=Aead.AES_128_GCM)
    with pytest.raises(refused):
        theirs.open(encapsulated_request, chunked=not in_chunks)


def test_a_response_of_ours_that_was_cut_is_never_whole_to_their_client(client, refused):
    theirs = TheirClient(client, "panva", Kem.XWING, Aead.AES_128_GCM, [b""], chunked=True)
    context, enc, _ = our_context(theirs.encapsulated_request, chunked=True)
    sealer = ohttp.ChunkedResponseSealer(context, enc, response_nonce(context))
    first = sealer.start() + sealer.chunk(b"event one")
    second = sealer.chunk(b"event two")
    final = sealer.final(b"the end")
    assert theirs.open(first + second + final) == [b"event one", b"event two", b"the end"]
    for cut in (first, first + second, first + second[:-1], first + second + final[:-1]):
        with pytest.raises(refused):
            theirs.open(cut)
    with pytest.raises(refused):
        theirs.open(first + final)


# The judge itself: a framing that was written for these tests proves something only if it is right.


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("name", "chunked"),
    [("rfc9458_appendix_a", False), ("chunked_ohttp_draft08_appendix_a", True)],
)
def test_the_gateway_replays_the_published_exchange(gateway, library, name, chunked):
    """RFC 9458, appendix A, and draft-ietf-ohai-chunked-ohttp-08, appendix A."""
    vector = json.loads((VECTORS / f"{name}.json").read_text())
    opened = gateway.call(
        "open",
        library=library,
        private_key=vector["gateway_x25519_secret_key"],
        encapsulated_request=vector["encapsulated_request"],
        chunked=chunked,
    )
    assert "".join(opened["pieces"]) == vector["bhttp_request"]

    sealed = gateway.call(
        "seal",
        exchange=opened["exchange"],
        pieces=vector["response_plaintext_chunks"] if chunked else [vector["bhttp_response"]],
        response_nonce=vector["encapsulated_response"][:32],
        length_size=1,
    )
    assert sealed == {"encapsulated_response": vector["encapsulated_response"]}
