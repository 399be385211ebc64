"""The decoders of `wire`. Seeds come from the published vectors wherever there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fuzz.target import Target, pieces_of
from wire import (
    auth_params,
    bhttp,
    canonical_json,
    cbor,
    chunks,
    http1,
    inner,
    ohttp,
    receipt,
    refund,
    varint,
)
from wire.bhttp import Content, End, Head, Request, Response
from wire.errors import Malformed, OpenFailed, Truncated, WireError
from wire.hpke import (
    TAG_LENGTH,
    Aead,
    ContextSecrets,
    Kdf,
    Kem,
    PrivateKey,
    Suite,
    setup_recipient,
    setup_sender,
)
from wire.key_config import KeyConfig, decode_list, encode_list
from wire.key_document import KeyDocument
from wire.privacy_pass import (
    Token,
    TokenChallenge,
    TokenRequest,
    format_authorization,
    format_challenge,
    load_spki,
    parse_authorization,
    parse_challenges,
    public_key_spki,
)
from wire.tls13 import Identity, ServerConnection
from wire.tls13_messages import Handshake, TlsFailure, message, parse_client_hello

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
KEYS = {kem: PrivateKey.generate(kem, bytes([kem & 0xFF]) * 32) for kem in Kem}
ALGORITHMS = tuple((Kdf.HKDF_SHA256, aead) for aead in Aead)
CONFIGS = tuple(KeyConfig(n, kem, KEYS[kem].public_bytes, ALGORITHMS) for n, kem in enumerate(Kem))
DATE = 1_800_000_000
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
TAG = b"\xaa" * TAG_LENGTH


def hex_values(name: str) -> Iterator[bytes]:
    """Every value in a file of vectors that is hexadecimal, however deep."""

    def walk(value: Any) -> Iterator[bytes]:
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from walk(item)
        elif isinstance(value, str) and len(value) > 8:
            try:
                yield bytes.fromhex(value)
            except ValueError:
                return

    yield from walk(json.loads((VECTORS / f"{name}.json").read_text()))


def accepted(target_decode: Any, *files: str) -> list[bytes]:
    """The values in the files of vectors that a decoder takes."""
    found = []
    for data in (value for name in files for value in hex_values(name)):
        try:
            target_decode(data)
        except WireError:
            continue
        found.append(data)
    return found


# Binary HTTP.

FIELDS = ((b"content-type", b"application/json"), (b"date", inner.http_date(DATE)))
REQUEST = Request(b"POST", b"https", b"sottovoce.invalid", b"/v1/completions", FIELDS, b"{}")
RESPONSE = Response(200, FIELDS, b"{}" * 9, ((b"x", b"y"),), ((103, ((b"link", b"<a>"),)),))


def stream_of_events() -> bytes:
    encoder = bhttp.ResponseEncoder()
    head = encoder.head(200, FIELDS)
    pieces = [encoder.content(event) for event in (b"data: 1\n\n", b"data: [DONE]\n\n")]
    return head + b"".join(pieces) + encoder.end((), 5)


def decode_bhttp_request(data: bytes) -> Request:
    request = bhttp.decode_request(data)
    assert bhttp.decode_request(bhttp.encode_request(request, padded_length=512)) == request
    return request


def decode_bhttp_response(data: bytes) -> Response:
    response = bhttp.decode_response(data)
    assert bhttp.decode_response(bhttp.encode_response(response)) == response
    return response


def decode_bhttp_stream(data: bytes) -> Response | None:
    """The decoder for streams says of pieces of any size what the other says of the whole."""
    whole = _or_error(bhttp.decode_response, data)
    for size in (1, 7):
        streamed = _or_error(lambda each: _streamed(data, each), size)
        assert whole == streamed
    return whole


def _streamed(data: bytes, size: int) -> Response:
    decoder = bhttp.ResponseDecoder()
    events = [event for piece in pieces_of(data, size) for event in decoder.feed(piece)]
    events += decoder.finish()
    head, *body, end = events
    assert isinstance(head, Head)
    assert isinstance(end, End)
    assert all(isinstance(piece, Content) for piece in body)
    content = b"".join(piece.data for piece in body if isinstance(piece, Content))
    return Response(head.status, head.headers, content, end.trailers, head.informational)


def _or_error(decode: Any, data: Any) -> Any:
    try:
        return decode(data)
    except Malformed:
        return None


# Chunks and encapsulation.


def _open(aad: bytes, ciphertext: bytes) -> bytes:
    """An AEAD without a secret, so that what is behind the tag can be fuzzed too."""
    tag = TAG if aad else TAG[::-1]
    if not ciphertext.endswith(tag):
        raise OpenFailed("a wrong tag")
    return ciphertext[:-TAG_LENGTH]


def _seal(aad: bytes, plaintext: bytes) -> bytes:
    return plaintext + (TAG if aad else TAG[::-1])


def open_chunks(data: bytes) -> bytes:
    whole = _opened(data, max(len(data), 1))
    for size in (1, 5):
        assert _opened(data, size) == whole
    if whole is None:
        raise Truncated("not a stream of chunks")
    return whole


def _opened(data: bytes, size: int) -> bytes | None:
    opener = chunks.ChunkOpener(_open)
    try:
        opened = [plaintext for piece in pieces_of(data, size) for plaintext in opener.feed(piece)]
        return b"".join(opened) + opener.finish()
    except WireError:
        return None


def chunk_seeds() -> Iterator[bytes]:
    for plaintexts in ([b"event one", b"event two", b""], [b"only"], [b"x" * 16384, b"y"]):
        sealer = chunks.ChunkSealer(_seal)
        yield b"".join(map(sealer.chunk, plaintexts[:-1])) + sealer.final(plaintexts[-1])


def open_encapsulated_request(data: bytes) -> None:
    header, enc, rest = ohttp.split(data)
    for chunked, opening in ((False, ohttp.open_request), (True, ohttp.open_chunked_request)):
        info = ohttp.request_info(header, chunked=chunked)
        context = setup_recipient(header.suite, KEYS[header.kem], enc, info)
        try:
            opening(context, rest)
        except WireError:
            if chunked:
                raise
        else:
            return


def encapsulated_requests() -> Iterator[bytes]:
    for config in CONFIGS:
        yield ohttp.encapsulate(config, b"a request", aead=Aead.AES_128_GCM)[0]
        yield ohttp.encapsulate_pieces(config, [b"one"], b"", aead=Aead.CHACHA20_POLY1305)[0]


SUITE = Suite(Kem.X25519, Kdf.HKDF_SHA256, Aead.AES_128_GCM)


@cache
def fixed_exchange() -> tuple[Any, bytes, Any]:
    """One exchange, ever the same: sender context, enc and recipient context."""
    ephemeral = PrivateKey.generate(Kem.X25519, b"\x09" * 32)
    public = KEYS[Kem.X25519].public_bytes
    enc, sender = setup_sender(SUITE, public, b"info", ephemeral=ephemeral)
    return sender, enc, setup_recipient(SUITE, KEYS[Kem.X25519], enc, b"info")


def open_encapsulated_response(data: bytes) -> None:
    sender, enc, _ = fixed_exchange()
    try:
        ohttp.ResponseOpener(sender, enc).open(data)
    except WireError:
        opener = ohttp.ChunkedResponseOpener(sender, enc)
        for piece in pieces_of(data, 11):
            opener.feed(piece)
        opener.finish()


def encapsulated_responses() -> Iterator[bytes]:
    _, enc, recipient = fixed_exchange()
    yield ohttp.ResponseSealer(recipient, enc, bytes(16)).seal(b"a response")
    sealer = ohttp.ChunkedResponseSealer(recipient, enc, bytes(16))
    yield sealer.start() + sealer.chunk(b"event") + sealer.final()


# Keys, tokens, receipts.


@cache
def key_document() -> KeyDocument:
    return KeyDocument(
        key_configs=CONFIGS,
        receipt_key=RECEIPT_KEY.public_key().public_bytes_raw(),
        tls_key=None,
        model="tinychat",
        model_digest=b"\x01" * 32,
        policy_digest=b"\x02" * 32,
        device="cpu",
        gpu_count=0,
        capacity=1,
        not_before=DATE,
        not_after=DATE + 3600,
    )


@cache
def issuer_keys() -> list[bytes]:
    return accepted(load_spki, "rfc9578_type2_appendix")


@cache
def tokens() -> list[bytes]:
    return accepted(Token.decode, "rfc9578_type2_appendix")


def challenges() -> list[bytes]:
    return accepted(TokenChallenge.decode, "rfc9577_appendix_a", "rfc9578_type2_appendix")


def authorizations() -> Iterator[bytes]:
    for token in tokens():
        yield format_authorization(Token.decode(token))
    yield format_authorization(Token.decode(tokens()[0])) + b', other=a, quoted="\\"b"'


def offered_challenges() -> Iterator[bytes]:
    challenge = TokenChallenge.decode(challenges()[0])
    yield format_challenge(challenge, issuer_keys()[0])
    yield format_challenge(challenge, issuer_keys()[0]) + b', max-age=10, Basic realm="x"'


def inner_requests() -> Iterator[bytes]:
    shown = [Token.decode(token) for token in tokens()]
    for carried in ((), shown[:1], shown[:2], shown[:4]):
        yield bhttp.encode_request(
            inner.build_request(
                method=b"POST", path=b"/v1/completions", body=b"{}", date=DATE, tokens=carried
            )
        )


def parse_inner_request(data: bytes) -> None:
    inner.parse_request(bhttp.decode_request(data))


CLAIMS = receipt.Receipt(
    key_document=b"\x01" * 32,
    request_hash=b"\x02" * 32,
    response_hash=b"\x03" * 32,
    model_digest=b"\x04" * 32,
    prompt_tokens=11,
    completion_tokens=7,
    verification=receipt.Verification("none", 0, b"\x05" * 32),
    transfers=receipt.Transfers("none", 0, 0, 0),
    issued_at=DATE,
)


def decode_receipt(data: bytes) -> None:
    """The shape of what anybody may send; a signature by the key is beyond a fuzzer."""
    signed = receipt.SignedReceipt.decode(data)
    public = RECEIPT_KEY.public_key().public_bytes_raw()
    assert receipt.sign(signed.verify(public), RECEIPT_KEY) == data


def decode_claims(data: bytes) -> receipt.Receipt:
    """What is behind the signature, as if any claims were signed."""
    return receipt._decode_claims(data)


def split_varint(data: bytes) -> tuple[int, bytes]:
    value, end = varint.decode(data)
    assert varint.decode(varint.encode(value)) == (value, len(varint.encode(value)))
    assert len(varint.encode(value)) <= end
    return value, data[end:]


def decode_json(data: bytes) -> Any:
    value = canonical_json.decode(data)
    assert data.decode()[:1] != "\ufeff"  # UTF-8, without a mark in front
    assert b"\0" not in data  # which is what UTF-16 and UTF-32 look like
    try:
        canonical = canonical_json.encode(value)
    except Malformed:  # a half surrogate, an infinity: JSON, but of no canonical form
        return value
    assert canonical_json.encode(canonical_json.decode(canonical)) == canonical
    return value


def payloads() -> Iterator[bytes]:
    yield receipt.with_attestation(b'{"a":1,"attestation":null}', b'{"receipt":"x"}')


WIRE = (WireError,)


def blinded() -> Iterator[bytes]:
    for count in (1, 2, 8):
        messages = tuple(bytes([index + 1]) * 256 for index in range(count))
        yield refund.BlindedMessages(9, messages).encode()


def signatures() -> Iterator[bytes]:
    yield refund.encode_signatures([b"\x01" * 256, refund.REFUSED])


def batches() -> Iterator[bytes]:
    for count in (1, 3):
        items = [
            refund.RefundItem(bytes([index]) * 32, TokenRequest(9, bytes([index]) * 256))
            for index in range(count)
        ]
        yield refund.encode_batch(items)


def http_responses() -> list[bytes]:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
    return [
        chunked + b"5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nt: u\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.0 200\r\nconnection: close\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]


def read_http(data: bytes) -> tuple[bytes, bool]:
    """Read a response; cut into any pieces, it must be read or refused alike."""
    results = [_read_pieces(pieces_of(data, size)) for size in (max(len(data), 1), 1, 7)]
    assert len(set(map(str, results))) == 1
    if isinstance(results[0], WireError):
        raise results[0]
    return results[0]


def _read_pieces(pieces: list[bytes]) -> tuple[bytes, bool] | WireError:
    reader = http1.ResponseReader()
    try:
        content = b"".join([reader.feed(piece) for piece in pieces])
        reusable = reader.reusable
        reader.end()
    except WireError as error:
        return error
    return content, reusable


def client_hellos() -> list[bytes]:
    """RFC 8448, section 3; without the header of the message."""
    return [bytes.fromhex(json.loads((VECTORS / "rfc8448.json").read_text())["client_hello"])[4:]]


def read_tls(data: bytes) -> None:
    """Be a server for these bytes, whole and in pieces: the same comes of both."""
    outcomes = set()
    for size in (len(data) or 1, 7, 1):
        connection = ServerConnection(Identity(b"certificate", lambda _: b"signature"), bytes)
        failure = None
        try:
            for piece in pieces_of(data, size):
                assert connection.receive(piece) == b"", "nobody finishes without the secrets"
        except TlsFailure as failed:
            failure = failed
        assert not connection.established
        outcomes.add((connection.to_send(), str(failure)))
    assert len(outcomes) == 1, "it matters how the bytes are cut"
    if failure is not None:
        raise failure


TARGETS = (
    Target(
        "client-hello",
        parse_client_hello,
        (TlsFailure,),
        client_hellos,
        ("wire.tls13_messages:parse_client_hello",),
    ),
    Target(
        "tls",
        read_tls,
        (TlsFailure,),
        lambda: [
            b"\x16\x03\x01"
            + (len(hello) + 4).to_bytes(2, "big")
            + message(Handshake.CLIENT_HELLO, hello)
            for hello in client_hellos()
        ],
        (),
    ),
    Target(
        "blinded",
        refund.BlindedMessages.decode,
        (WireError,),
        blinded,
        ("wire.refund:BlindedMessages.decode",),
        refund.BlindedMessages.encode,
    ),
    Target(
        "signatures",
        lambda data: refund.decode_signatures(data, 2),
        (WireError,),
        signatures,
        ("wire.refund:decode_signatures",),
        refund.encode_signatures,
    ),
    Target(
        "batch",
        refund.decode_batch,
        (WireError,),
        batches,
        ("wire.refund:decode_batch",),
        refund.encode_batch,
    ),
    Target(
        "batch-response",
        lambda data: refund.decode_batch_response(data, 2),
        (WireError,),
        lambda: [bytes(512)],
        ("wire.refund:decode_batch_response",),
        b"".join,
    ),
    Target(
        "varint",
        split_varint,
        WIRE,
        lambda: map(varint.encode, (0, 63, 64, 16383, 16384, 1 << 30, varint.MAX)),
        ("wire.varint:decode",),
    ),
    Target(
        "auth-params",
        auth_params.parse,
        WIRE,
        lambda: [*authorizations(), *offered_challenges(), b"Basic dGVzdA==, Digest a=b"],
        ("wire.auth_params:parse",),
    ),
    Target(
        "base64url",
        auth_params.decode_base64url,
        WIRE,
        lambda: map(auth_params.encode_base64url, (b"", b"a", b"ab", b"abc", b"\xff\xfe\xfd")),
        ("wire.auth_params:decode_base64url",),
        auth_params.encode_base64url,
    ),
    Target(
        "bhttp-request",
        decode_bhttp_request,
        WIRE,
        lambda: [
            bhttp.encode_request(REQUEST),
            *accepted(bhttp.decode_request, "rfc9292_examples", "rfc9458_appendix_a"),
        ],
        ("wire.bhttp:decode_request",),
    ),
    Target(
        "bhttp-response",
        decode_bhttp_response,
        WIRE,
        lambda: [
            bhttp.encode_response(RESPONSE),
            stream_of_events(),
            *accepted(bhttp.decode_response, "rfc9292_examples", "rfc9458_appendix_a"),
        ],
        ("wire.bhttp:decode_response",),
    ),
    Target(
        "bhttp-stream",
        decode_bhttp_stream,
        WIRE,
        lambda: [bhttp.encode_response(RESPONSE), stream_of_events()],
        (),
    ),
    Target(
        "json",
        decode_json,
        WIRE,
        lambda: [b"[0]", b'{"a":[1,-2.5e3,"\\u00e9\xc3\xa9",null,true]}', b"[]", b'"\\ud800"'],
        ("wire.canonical_json:decode",),
    ),
    Target(
        "cbor",
        cbor.decode,
        WIRE,
        lambda: [
            cbor.encode(value)
            for value in ({"a": [1, -1, b"x", None, True], 3: {}}, (1 << 64) - 1, "é", [[]] * 9)
        ],
        ("wire.cbor:decode",),
        cbor.encode,
    ),
    Target("chunks", open_chunks, WIRE, chunk_seeds, ()),
    Target(
        "context-secrets",
        ContextSecrets.from_bytes,
        WIRE,
        lambda: [
            ContextSecrets(SUITE, b"k" * 16, b"n" * 12, b"e" * 32).to_bytes(),
            ContextSecrets(
                Suite(Kem.XWING, Kdf.HKDF_SHA256, Aead.AES_256_GCM), b"k" * 32, b"n" * 12, b"e" * 32
            ).to_bytes(),
        ],
        ("wire.hpke:ContextSecrets.from_bytes",),
        ContextSecrets.to_bytes,
    ),
    Target(
        "inner-request",
        parse_inner_request,
        WIRE,
        inner_requests,
        ("wire.inner:parse_request",),
    ),
    Target(
        "http-date",
        inner.parse_http_date,
        WIRE,
        lambda: [inner.http_date(0), inner.http_date(DATE)],
        ("wire.inner:parse_http_date",),
        inner.http_date,
    ),
    Target(
        "key-config",
        KeyConfig.decode,
        WIRE,
        lambda: [config.encode() for config in CONFIGS],
        ("wire.key_config:KeyConfig.decode",),
        KeyConfig.encode,
    ),
    Target(
        "key-configs",
        decode_list,
        WIRE,
        lambda: [encode_list(CONFIGS), encode_list(CONFIGS[:1])],
        ("wire.key_config:decode_list",),
        encode_list,
    ),
    Target(
        "key-document",
        KeyDocument.decode,
        WIRE,
        lambda: [key_document().encode()],
        ("wire.key_document:KeyDocument.decode",),
        KeyDocument.encode,
    ),
    Target(
        "encapsulated-request",
        open_encapsulated_request,
        WIRE,
        encapsulated_requests,
        ("wire.ohttp:split",),
    ),
    Target("encapsulated-response", open_encapsulated_response, WIRE, encapsulated_responses, ()),
    Target(
        "token-challenge",
        TokenChallenge.decode,
        WIRE,
        challenges,
        ("wire.token_structures:TokenChallenge.decode",),
        TokenChallenge.encode,
    ),
    Target(
        "token-request",
        TokenRequest.decode,
        WIRE,
        lambda: accepted(TokenRequest.decode, "rfc9578_type2_appendix"),
        ("wire.token_structures:TokenRequest.decode",),
        TokenRequest.encode,
    ),
    Target(
        "token",
        Token.decode,
        WIRE,
        tokens,
        ("wire.token_structures:Token.decode",),
        Token.encode,
    ),
    Target(
        "issuer-key",
        load_spki,
        WIRE,
        issuer_keys,
        ("wire.token_structures:load_spki",),
        public_key_spki,
    ),
    Target(
        "authorization",
        parse_authorization,
        WIRE,
        authorizations,
        ("wire.privacy_pass:parse_authorization",),
    ),
    Target(
        "www-authenticate",
        parse_challenges,
        WIRE,
        offered_challenges,
        ("wire.privacy_pass:parse_challenges",),
    ),
    Target(
        "receipt",
        decode_receipt,
        WIRE,
        lambda: [receipt.sign(CLAIMS, RECEIPT_KEY)],
        ("wire.receipt:SignedReceipt.decode",),
    ),
    Target(
        "receipt-claims",
        decode_claims,
        WIRE,
        lambda: [receipt._encode_claims(CLAIMS)],
        (),
        receipt._encode_claims,
    ),
    Target(
        "attestation-member",
        receipt.without_attestation,
        WIRE,
        payloads,
        (),
        lambda split: receipt.with_attestation(*split),
    ),
    Target("http-response", read_http, (Malformed, Truncated), http_responses, ()),
)
