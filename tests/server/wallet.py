"""A client's half: tokens of an issuer of our own, encapsulation, opening."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from server.tokens import AcceptedIssuer
from wire import bhttp, inner, ohttp, privacy_pass
from wire.hpke import Aead, Kem
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument
from wire.receipt import Receipt, ResponseHash, request_hash, verify, without_attestation
from wire.refund import BlindedMessages

ISSUER_NAME = "issuer.sottovoce.invalid"


@cache
def issuer_key(_: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def spki(number: int = 0) -> bytes:
    return privacy_pass.public_key_spki(issuer_key(number).public_key())


def accepted_issuer() -> AcceptedIssuer:
    return AcceptedIssuer(ISSUER_NAME, (spki(),))


def draw(number: int = 0, *, issuer_name: str = ISSUER_NAME) -> privacy_pass.Token:
    """Draw one good token."""
    challenge = privacy_pass.TokenChallenge(issuer_name, b"", inner.AUTHORITY.decode())
    request, pending = privacy_pass.begin_issuance(
        challenge,
        spki(number),
        nonce=os.urandom(32),
        salt=os.urandom(privacy_pass.SALT_LENGTH),
        blind=os.urandom(privacy_pass.BLIND_LENGTH),
    )
    return pending.finish(_sign_raw(int.from_bytes(request.blinded, "big"), number))


def _sign_raw(blinded: int, number: int) -> bytes:
    """The raw private operation by the Chinese remainder theorem; not fit for a real issuer."""
    n = issuer_key(number).private_numbers()
    at_p, at_q = pow(blinded, n.dmp1, n.p), pow(blinded, n.dmq1, n.q)
    return (at_q + (at_p - at_q) * n.iqmp % n.p * n.q).to_bytes(256, "big")


def inner_request(
    order: dict[str, Any] | bytes = b"{}",
    *,
    tokens: tuple[privacy_pass.Token, ...] = (),
    date: int | None = None,
    blinded: BlindedMessages | None = None,
    path: bytes = b"/v1/chat/completions",
) -> bhttp.Request:
    body = order if isinstance(order, bytes) else json.dumps(order).encode()
    now = int(time.time()) if date is None else date
    return inner.build_request(
        method=b"POST",
        path=path,
        body=body,
        date=now // 60 * 60,
        tokens=tokens,
        blinded=blinded,
    )


@dataclass
class Sent:
    """An encapsulated request, and what opens its answer."""

    encapsulated: bytes
    opener: Any
    chunked: bool
    request: bhttp.Request
    received: list[bytes] = field(default_factory=list)

    @property
    def media_type(self) -> str:
        return ohttp.CHUNKED_REQUEST_TYPE if self.chunked else ohttp.REQUEST_TYPE

    def open(self, encapsulated_response: bytes) -> bhttp.Response:
        """Open a complete answer; raises Truncated for a cut one."""
        if not self.chunked:
            return bhttp.decode_response(self.opener.open(encapsulated_response))
        chunks = self.opener.feed(encapsulated_response)
        return bhttp.decode_response(b"".join(chunks) + self.opener.finish())

    def open_cut(self, encapsulated_response: bytes) -> bytes:
        """Open what there is of a chunked answer without an end."""
        return b"".join(self.opener.feed(encapsulated_response))

    def check(self, payloads: list[bytes], receipt_key: bytes) -> Receipt:
        """Check the receipt against everything else; a stream's payloads end with [DONE]."""
        done = [payload for payload in payloads[-1:] if payload == b"[DONE]"]
        payloads = payloads[: len(payloads) - len(done)]
        hashed, attestation = without_attestation(payloads[-1])
        salts = [
            self.opener.export(label, 32)
            for label in (ohttp.REQUEST_SALT_LABEL, ohttp.RESPONSE_SALT_LABEL)
        ]
        response_hash = ResponseHash(salts[1])
        for payload in (*payloads[:-1], hashed, *done):
            response_hash.add(payload)
        member = json.loads(attestation)
        receipt = verify(_base64(member["receipt"]), receipt_key)
        assert receipt.request_hash == request_hash(
            salts[0], self.request.path, self.request.content
        )
        assert receipt.response_hash == response_hash.digest()
        assert member["node"] == receipt.key_document.hex()
        assert [_base64(member["salts"][name]) for name in ("request", "response")] == salts
        return receipt


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def send(config: KeyConfig, request: bhttp.Request | bytes, *, chunked: bool = True) -> Sent:
    """Encapsulate a request (or any bytes in its place)."""
    message = request if isinstance(request, bytes) else bhttp.encode_request(request)
    make = ohttp.encapsulate_chunked if chunked else ohttp.encapsulate
    encapsulated, opener = make(config, message, aead=Aead.AES_128_GCM)
    clear = request if isinstance(request, bhttp.Request) else bhttp.Request(b"", b"", b"", b"")
    return Sent(encapsulated, opener, chunked, clear)


def config_of(document: KeyDocument, kem: Kem = Kem.XWING) -> KeyConfig:
    return next(config for config in document.key_configs if config.kem is kem)


def events(content: bytes) -> list[bytes]:
    """The payloads of an event stream."""
    return [
        line.removeprefix(b"data: ") for line in content.split(b"\n") if line.startswith(b"data: ")
    ]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
