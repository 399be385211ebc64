"""The receipt a node signs for each completion: EAT claims (RFC 9711), COSE_Sign1 (RFC 9052).

    receipt = 18([<<{1: -8}>>, {}, <<claims>>, signature])           Ed25519, no external data

    claims  = {6: uint,                       iat: issued-at, unix seconds, rounded to the minute
               8: {3: bytes},                 cnf / kid (RFC 8747): SHA-256 of the key document
               10: bytes,                     eat_nonce: the request hash
               265: text,                     eat_profile: PROFILE
               -65537: bytes,                 response hash
               -65538: bytes,                 model digest
               -65539: [uint, uint],          prompt tokens, completion tokens
               -65540: [text, uint, bytes],   verification: mode, checks, decision-chain digest
               -65541: [text, uint, uint, uint]}   transfers: mode, sent, hits, misses

The five negative keys are from the private-use range of the CWT claims registry (below -65536).
The request hash stands in `eat_nonce` because it is one: a value that only this request's two ends
can know, since its salt is exported from the request's own HPKE context. So no receipt can be
moved to another request, and no hash can be tested against a dictionary of prompts.

Everything is deterministic CBOR in one shape: another algorithm, any unprotected header, an
unknown claim and a trailing byte are all refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire import canonical_json, cbor
from wire.errors import BadSignature, Malformed, Unsupported

PROFILE = "tag:sottovoce.invalid,2026:receipt-v1"
VERIFICATION_MODES = ("none", "audit", "full", "ship")
TRANSFER_MODES = ("none", "sealed", "cc", "plain")
ATTESTATION_PLACEHOLDER = b'"attestation":null'
"""The last member of the payload that carries the receipt, as it is written when it is hashed; or,
where the payload is an event around a response, the last member of that response, which is the
event's own last member (`response`)."""

MAX_ENCODED = 1024
"""A receipt is below 500 bytes; more is not a receipt."""

_PROTECTED = cbor.encode({1: -8})
_MAX_COUNT = 2**64 - 1
_MAX_TIME = 2**40
_MEMBER = b',"attestation":'
_PLACEHOLDER = b"," + ATTESTATION_PLACEHOLDER
_TAILS = (b"}", b"}}")


class _Claim(IntEnum):
    """The keys of the claims, as in the module's docstring."""

    IAT = 6
    CNF = 8
    EAT_NONCE = 10
    EAT_PROFILE = 265
    RESPONSE_HASH = -65537
    MODEL_DIGEST = -65538
    TOKENS = -65539
    VERIFICATION = -65540
    TRANSFERS = -65541


@dataclass(frozen=True)
class Verification:
    """How the computation was verified.

    Attributes:
        mode: one of VERIFICATION_MODES.
        checks: how many checks were made (64 bits).
        decisions: the end of the chain of decisions, 32 bytes.

    Raises:
        Malformed: (on construction) a value of another type, length or range.
    """

    mode: str
    checks: int
    decisions: bytes

    def __post_init__(self) -> None:
        _check_mode("verification", self.mode, VERIFICATION_MODES)
        _check_count("checks", self.checks)
        _check_bytes("decisions", self.decisions)


@dataclass(frozen=True)
class Transfers:
    """How data travelled between the trusted side and the accelerator.

    Attributes:
        mode: one of TRANSFER_MODES.
        sent: blocks sent.
        hits: blocks whose sealing was predicted.
        misses: blocks whose prediction was wrong.

    Raises:
        Malformed: (on construction) a value of another type or range.
    """

    mode: str
    sent: int
    hits: int
    misses: int

    def __post_init__(self) -> None:
        _check_mode("transfers", self.mode, TRANSFER_MODES)
        _check_count("sent", self.sent)
        _check_count("hits", self.hits)
        _check_count("misses", self.misses)


@dataclass(frozen=True)
class Receipt:
    """What the node states about one completion.

    Attributes:
        key_document: SHA-256 of the node's key document.
        request_hash: see `request_hash`.
        response_hash: see `ResponseHash`.
        model_digest: the digest of the model that computed.
        prompt_tokens: as in the completion's usage.
        completion_tokens: as in the completion's usage.
        verification: how the computation was verified.
        transfers: how data travelled to the accelerator.
        issued_at: unix seconds; the signer rounds them to the minute.

    Raises:
        Malformed: (on construction) a value of another type, length or range.
    """

    key_document: bytes
    request_hash: bytes
    response_hash: bytes
    model_digest: bytes
    prompt_tokens: int
    completion_tokens: int
    verification: Verification
    transfers: Transfers
    issued_at: int

    def __post_init__(self) -> None:
        _check_bytes("key_document", self.key_document)
        _check_bytes("request_hash", self.request_hash)
        _check_bytes("response_hash", self.response_hash)
        _check_bytes("model_digest", self.model_digest)
        _check_count("prompt_tokens", self.prompt_tokens)
        _check_count("completion_tokens", self.completion_tokens)
        _check_count("issued_at", self.issued_at, _MAX_TIME)


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt taken apart, its signature not yet checked: only `verify` gives out the claims."""

    _claims: bytes
    _signature: bytes

    @classmethod
    def decode(cls, data: bytes) -> SignedReceipt:
        """Take a COSE_Sign1 apart.

        Raises:
            Malformed: not the one encoding of a tagged COSE_Sign1 with an empty unprotected header,
                an attached payload and a 64-byte signature; trailing bytes.
            Unsupported: another algorithm, or another protected header.
        """
        if len(data) > MAX_ENCODED:
            raise Malformed("receipt: too long")
        match cbor.decode(data):
            case cbor2.CBORTag(
                tag=18, value=[bytes(protected), dict(unprotected), bytes(claims), bytes(signature)]
            ) if not unprotected and len(signature) == 64:
                if protected != _PROTECTED:
                    raise Unsupported("receipt: not signed with EdDSA under exactly that header")
                return cls(claims, signature)
        raise Malformed("receipt: not a COSE_Sign1 of the one accepted shape")

    def verify(self, public_key: bytes) -> Receipt:
        """Check the signature under a raw Ed25519 public key and give out the claims.

        Raises:
            BadSignature: the signature does not verify under this key.
            Malformed: the claims, though signed, are not exactly those of a receipt.
            Unsupported: the claims are of another profile.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(public_key)
            key.verify(self._signature, _to_be_signed(self._claims))
        except (InvalidSignature, ValueError) as error:  # ValueError: not a public key
            raise BadSignature("receipt: the signature does not verify") from error
        return _decode_claims(self._claims)


def sign(receipt: Receipt, private_key: Ed25519PrivateKey) -> bytes:
    """Sign a receipt; the same receipt and key give the same bytes."""
    claims = _encode_claims(receipt)
    signature = private_key.sign(_to_be_signed(claims))
    return cbor.encode(cbor2.CBORTag(18, [_PROTECTED, {}, claims, signature]))


def verify(data: bytes, public_key: bytes) -> Receipt:
    """Decode a receipt and check its signature under the node's receipt key (32 bytes).

    Raises:
        Malformed: not the one encoding of a receipt.
        Unsupported: another algorithm, header or profile.
        BadSignature: the signature does not verify under this key.
    """
    return SignedReceipt.decode(data).verify(public_key)


def request_hash(salt: bytes, path: bytes, body: bytes) -> bytes:
    """Hash a request: SHA-256(salt || path || 0 || body), 32 bytes; no header and no padding.

    Raises:
        Malformed: a salt that is not 32 bytes, or a path with a zero byte in it.
    """
    _check_bytes("salt", salt)
    if b"\x00" in path:
        raise Malformed("receipt: a path with a zero byte")
    return hashlib.sha256(salt + path + b"\x00" + body).digest()


class ResponseHash:
    """The hash of a response: SHA-256(salt || (u32 big-endian length || payload)*).

    A payload is what follows `data: ` in one SSE event, as the worker sent it; comments are left
    out. The closing `[DONE]` is a payload like any other: the worker knows that it will follow,
    and adds it before it signs. A response that is not streamed is one payload, its body. The
    payload that carries the receipt is added with `ATTESTATION_PLACEHOLDER` in its place.

    Raises:
        Malformed: (on construction) a salt that is not 32 bytes.
    """

    def __init__(self, salt: bytes) -> None:
        _check_bytes("salt", salt)
        self._hash = hashlib.sha256(salt)

    def add(self, payload: bytes) -> None:
        """Add the next payload."""
        self._hash.update(len(payload).to_bytes(4, "big") + payload)

    def digest(self) -> bytes:
        """Return the hash over the payloads added so far, 32 bytes."""
        return self._hash.digest()


def with_attestation(payload: bytes, attestation: bytes) -> bytes:
    """Put `attestation`, a JSON object, in the place of the placeholder.

    Raises:
        Malformed: `payload` does not end with the placeholder as its last member of several, names
            the member elsewhere too, or `attestation` is not a JSON object.
    """
    before, found, tail = payload.rpartition(_PLACEHOLDER)
    if not found or tail not in _TAILS:
        raise Malformed("receipt: the payload does not end with the attestation's placeholder")
    complete = before + _MEMBER + attestation + tail
    without_attestation(complete)  # what cannot be taken out again is not put in
    return complete


def without_attestation(payload: bytes) -> tuple[bytes, bytes]:
    """Split a payload that carries a receipt: the bytes that were hashed, and the attestation.

    The attestation must be the last member of the JSON object, or of its last member `response`,
    written without white space around it, and the only member of that name at any depth: so there
    is one way to split, byte for byte.

    Raises:
        Malformed: not so, or not JSON.
    """
    before, member, after = payload.partition(_MEMBER)
    if not member or _MEMBER in after:
        raise Malformed("receipt: the payload does not carry exactly one attestation at its end")
    attestation, tail = _split_end(after)
    hashed = before + _PLACEHOLDER + tail
    members = canonical_json.decode(hashed)  # it ends with a brace: if it is JSON, it is an object
    if tail != b"}" and next(reversed(members)) != "response":
        raise Malformed("receipt: the attestation is deeper than the response of an event")
    return hashed, attestation


def stated_usage(payload: bytes) -> tuple[int | None, int | None]:
    """Return the prompt and completion tokens that a payload states; None twice if it states none.

    A response calls them input and output tokens; an event around a response states what it does.

    Raises:
        Malformed: not a JSON object.
    """
    members = canonical_json.decode(payload)
    if not isinstance(members, dict):
        raise Malformed("receipt: the payload is not a JSON object")
    response = members.get("response")
    usage = (response if isinstance(response, dict) else members).get("usage")
    if not isinstance(usage, dict):
        return None, None
    names = ("prompt_tokens", "completion_tokens")
    if "input_tokens" in usage:
        names = ("input_tokens", "output_tokens")
    return usage.get(names[0]), usage.get(names[1])


def _split_end(after: bytes) -> tuple[bytes, bytes]:
    """Split a JSON object from the one or two braces behind it.

    There is one way at most, for no JSON object is the beginning of another.
    """
    for tail in _TAILS:
        attestation = after.removesuffix(tail)
        if attestation[:1] + attestation[-1:] == b"{}" and _is_json(attestation):
            return attestation, tail
    raise Malformed("receipt: the attestation is not a JSON object without space around it")


def _is_json(data: bytes) -> bool:
    try:
        canonical_json.decode(data)
    except Malformed:
        return False
    return True


def _to_be_signed(claims: bytes) -> bytes:
    """Return the Sig_structure (RFC 9052, section 4.4) without external data."""
    return cbor.encode(["Signature1", _PROTECTED, b"", claims])


def _encode_claims(receipt: Receipt) -> bytes:
    verification, transfers = receipt.verification, receipt.transfers
    return cbor.encode(
        {
            _Claim.IAT: receipt.issued_at,
            _Claim.CNF: {3: receipt.key_document},
            _Claim.EAT_NONCE: receipt.request_hash,
            _Claim.EAT_PROFILE: PROFILE,
            _Claim.RESPONSE_HASH: receipt.response_hash,
            _Claim.MODEL_DIGEST: receipt.model_digest,
            _Claim.TOKENS: [receipt.prompt_tokens, receipt.completion_tokens],
            _Claim.VERIFICATION: [verification.mode, verification.checks, verification.decisions],
            _Claim.TRANSFERS: [transfers.mode, transfers.sent, transfers.hits, transfers.misses],
        }
    )


def _decode_claims(data: bytes) -> Receipt:
    match cbor.decode(data):
        case {
            _Claim.IAT: issued_at,
            _Claim.CNF: {3: key_document},
            _Claim.EAT_NONCE: nonce,
            _Claim.EAT_PROFILE: profile,
            _Claim.RESPONSE_HASH: response_hash,
            _Claim.MODEL_DIGEST: model_digest,
            _Claim.TOKENS: [prompt_tokens, completion_tokens],
            _Claim.VERIFICATION: [mode, checks, decisions],
            _Claim.TRANSFERS: [transfer_mode, sent, hits, misses],
        }:
            if profile != PROFILE:
                raise Unsupported("receipt: another profile")
            receipt = Receipt(
                key_document=key_document,
                request_hash=nonce,
                response_hash=response_hash,
                model_digest=model_digest,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                verification=Verification(mode, checks, decisions),
                transfers=Transfers(transfer_mode, sent, hits, misses),
                issued_at=issued_at,
            )
            # Whatever the pattern let through (a further claim, 6.0 for 6) shows here.
            if _encode_claims(receipt) == data:
                return receipt
    raise Malformed("receipt: the claims are not exactly those of a receipt")


def _check_mode(name: str, value: Any, modes: tuple[str, ...]) -> None:  # noqa: ANN401
    if type(value) is not str or value not in modes:
        raise Malformed(f"receipt: {name} names no known mode")


def _check_count(name: str, value: Any, limit: int = _MAX_COUNT) -> None:  # noqa: ANN401
    # `type(...) is int` and not isinstance: CBOR's true is no number.
    if type(value) is not int or not 0 <= value <= limit:
        raise Malformed(f"receipt: {name} is not an integer in range")


def _check_bytes(name: str, value: Any) -> None:  # noqa: ANN401
    if type(value) is not bytes or len(value) != 32:
        raise Malformed(f"receipt: {name} is not 32 bytes")
