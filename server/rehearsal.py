"""One made-up request, taken through every format and cipher a capsule will need.

A capsule cannot open files (`server.sandbox`), so whatever a library imports or loads when it is
first used must have been used before the fork. The keys here are zeros and open nothing else.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from engine.connection import EngineConnection
from engine.slot import Slot, SlotGeometry
from engine.types import EngineState, FinishReason, VerificationCounts
from server import answers, tokens
from server.capsule import Application
from server.tokens import AcceptedIssuer
from wire import bhttp, inner, ohttp
from wire.errors import BadSignature
from wire.hpke import (
    Aead,
    ContextSecrets,
    Kdf,
    Kem,
    PrivateKey,
    RecipientContext,
    setup_recipient,
)
from wire.key_config import KeyConfig
from wire.privacy_pass import Token, key_id
from wire.receipt import ResponseHash, request_hash

_ZEROS = bytes(32)


class OneTokenEngine(EngineConnection):
    """In the engine's place at a rehearsal: answers anything with one token, then has erased it."""

    def __init__(self, geometry: SlotGeometry) -> None:  # no socket: nobody is asked
        self.geometry = geometry
        self.slots = []
        self._states = iter((EngineState.RUNNING, EngineState.FINISHED, EngineState.ERASED))

    def open_slots(self, count: int) -> list[Slot]:
        """Make slots, and hand them to nobody."""
        self.slots = [Slot.create(self.geometry) for _ in range(count)]
        return self.slots

    def wake(self, index: int) -> None:
        """Nobody is there to wake."""

    def wait(self, timeout: float | None = None) -> set[int]:  # noqa: ARG002 - an engine's
        """Bring every slot one state further: a token, the end, erased."""
        state = next(self._states)
        for slot in self.slots:
            slot.publish_sampled(1)
            slot.publish_released(1, VerificationCounts(0, _ZEROS, 0, 0, 0))
            slot.set_state(state, finish=FinishReason.LENGTH)
        return set(range(len(self.slots)))

    def close(self) -> None:
        """Close the slots."""
        while self.slots:
            self.slots.pop().close()


def _rehearse_application(application: Application, geometry: SlotGeometry) -> None:
    engine = OneTokenEngine(geometry)
    try:
        application.rehearse(engine)
    finally:
        engine.close()


@dataclass(frozen=True)
class _Encapsulated:
    """A made-up request, and the context that opens it."""

    secrets: ContextSecrets
    enc: bytes
    rest: bytes


def _encapsulated(
    private_key: PrivateKey, aead: Aead, request: bytes, *, chunked: bool
) -> _Encapsulated:
    config = KeyConfig(0, private_key.kem, private_key.public_bytes, ((Kdf.HKDF_SHA256, aead),))
    encapsulate = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
    encapsulated, _ = encapsulate(config, request, aead=aead)
    header, enc, rest = ohttp.split(encapsulated)
    info = ohttp.request_info(header, chunked=chunked)
    return _Encapsulated(setup_recipient(header.suite, private_key, enc, info).secrets, enc, rest)


def _request(token: Token) -> bytes:
    request = inner.build_request(
        method=b"POST", path=b"/v1/completions", body=b"{}", date=0, tokens=(token,)
    )
    return bhttp.encode_request(request)


_WAITING = _encapsulated(
    PrivateKey.generate(Kem.XWING, _ZEROS),
    Aead.AES_128_GCM,
    _request(Token(_ZEROS, _ZEROS, _ZEROS, bytes(256))),
    chunked=True,
)


def rehearse(issuer: AcceptedIssuer, application: Application, geometry: SlotGeometry) -> None:
    """Open, parse, verify, answer and seal once under every suite, plain and chunked."""
    token = Token(_ZEROS, issuer.challenge.digest, key_id(issuer.spkis[0]), bytes(256))
    for kem in Kem:
        private_key = PrivateKey.generate(kem, _ZEROS)
        for aead in Aead:
            _rehearse_suite(private_key, aead, _request(token))
    with contextlib.suppress(BadSignature):  # a signature of zeros is none
        tokens.verify((token,), issuer)
    _rehearse_application(application, geometry)
    answers.wrong_date(0)
    answers.token_required(issuer)


def touch(issuer: AcceptedIssuer, application: Application, geometry: SlotGeometry) -> None:
    """Go through the usual request once, in a capsule that waits for its own.

    What a fork shares is copied when it is first touched: thousands of pages, some milliseconds,
    which a request would wait for. Nothing is done here that a request would not do: what a client
    and the keeper do was done before the fork. The keys and the token are the zeros of `rehearse`.
    """
    context = RecipientContext.from_secrets(_WAITING.secrets)
    _rehearse_opening(context, _WAITING.enc, _WAITING.rest, chunked=True)
    token = Token(_ZEROS, issuer.challenge.digest, key_id(issuer.spkis[0]), bytes(256))
    with contextlib.suppress(BadSignature):
        tokens.verify((token,), issuer)
    _rehearse_application(application, geometry)


def _rehearse_suite(private_key: PrivateKey, aead: Aead, request: bytes) -> None:
    for chunked in (False, True):
        made = _encapsulated(private_key, aead, request, chunked=chunked)
        context = RecipientContext.from_secrets(made.secrets)
        _rehearse_opening(context, made.enc, made.rest, chunked=chunked)


def _rehearse_opening(context: RecipientContext, enc: bytes, rest: bytes, *, chunked: bool) -> None:
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
