"""One made-up request, taken through every format and cipher a capsule will need.

A capsule cannot open files (`server.sandbox`), so whatever a library imports or loads when it is
first used must have been used before the fork. The keys here are zeros and open nothing else.
"""

from __future__ import annotations

import contextlib

from server import answers, tokens
from server.tokens import AcceptedIssuer
from wire import bhttp, inner, ohttp
from wire.errors import BadSignature
from wire.hpke import Aead, Kdf, Kem, PrivateKey, RecipientContext, setup_recipient
from wire.key_config import KeyConfig
from wire.privacy_pass import Token, key_id
from wire.receipt import ResponseHash, request_hash

_ZEROS = bytes(32)
_WAITING_KEY = PrivateKey.generate(Kem.XWING, _ZEROS)


def rehearse(issuer: AcceptedIssuer) -> None:
    """Open, parse, verify, answer and seal once under every suite, plain and chunked."""
    token = Token(_ZEROS, issuer.challenge.digest, key_id(issuer.spkis[0]), bytes(256))
    request = inner.build_request(
        method=b"POST", path=b"/v1/completions", body=b"{}", date=0, tokens=(token,)
    )
    for kem in Kem:
        private_key = PrivateKey.generate(kem, _ZEROS)
        for aead in Aead:
            _rehearse_suite(private_key, aead, bhttp.encode_request(request))
    with contextlib.suppress(BadSignature):  # a signature of zeros is none
        tokens.verify((token,), issuer)
    answers.wrong_date(0)
    answers.token_required(issuer)


def touch(issuer: AcceptedIssuer) -> None:
    """Go through the usual request once, in a capsule that waits for its own.

    What a fork shares is copied when it is first touched: thousands of pages, some milliseconds,
    which a request would wait for. The keys and the token are the zeros of `rehearse`.
    """
    token = Token(_ZEROS, issuer.challenge.digest, key_id(issuer.spkis[0]), bytes(256))
    request = inner.build_request(
        method=b"POST", path=b"/v1/completions", body=b"{}", date=0, tokens=(token,)
    )
    _rehearse_suite(_WAITING_KEY, Aead.AES_128_GCM, bhttp.encode_request(request))
    with contextlib.suppress(BadSignature):
        tokens.verify((token,), issuer)


def _rehearse_suite(private_key: PrivateKey, aead: Aead, request: bytes) -> None:
    config = KeyConfig(0, private_key.kem, private_key.public_bytes, ((Kdf.HKDF_SHA256, aead),))
    for chunked in (False, True):
        encapsulate = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
        encapsulated, _ = encapsulate(config, request, aead=aead)
        header, enc, rest = ohttp.split(encapsulated)
        info = ohttp.request_info(header, chunked=chunked)
        secrets = setup_recipient(header.suite, private_key, enc, info).secrets
        context = RecipientContext.from_secrets(secrets)
        opening = ohttp.open_chunked_request if chunked else ohttp.open_request
        inner.parse_request(bhttp.decode_request(opening(context, rest)))
        salt = context.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH)
        request_hash(salt, b"/", b"")
        ResponseHash(salt).add(b"")
        _rehearse_sealing(context, enc, chunked=chunked)


def _rehearse_sealing(context: RecipientContext, enc: bytes, *, chunked: bool) -> None:
    nonce = bytes(ohttp.response_nonce_length(context.suite))
    if chunked:
        sealer = ohttp.ChunkedResponseSealer(context, enc, nonce)
        encoder = bhttp.ResponseEncoder()
        sealer.chunk(encoder.head(200) + encoder.content(b"x"))
        sealer.final(encoder.end())
    else:
        response = bhttp.encode_response(bhttp.Response(200))
        ohttp.ResponseSealer(context, enc, nonce).seal(response)
