"""The receipt of one request: hashes as the answer goes by, and its place in the last payload."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from attestation.verdict import Step
from engine.types import VerificationCounts
from server.connections import KeeperConnection
from server.keeper_messages import Statement
from server.openai.errors import Unverified, error_body
from server.openai.outputs import Plan, Usage
from wire.receipt import (
    ATTESTATION_PLACEHOLDER,
    ResponseHash,
    request_hash,
    with_attestation,
)


@dataclass(frozen=True)
class Issuance:
    """What goes into the receipt of one request, or beside it.

    Attributes:
        key_document: digest of the key document the request came in under.
        platform: of the node's quote.
        request_salt, response_salt: 32 bytes each.
        quote: sent along where the client has appraised none, as on the direct port.
        steps: what the worker itself says of this way in.
    """

    key_document: bytes
    platform: str
    request_salt: bytes
    response_salt: bytes
    quote: bytes | None = None
    steps: tuple[Step, ...] = ()


class Receipts:
    """The hashes of one request and its answer, and the receipt over them."""

    def __init__(
        self, issuance: Issuance, keeper: KeeperConnection, path: bytes, body: bytes
    ) -> None:
        self._keeper = keeper
        self._issuance = issuance
        self._request_hash = request_hash(issuance.request_salt, path, body)
        self._response_hash = ResponseHash(issuance.response_salt)

    def add(self, payload: bytes) -> None:
        """Take a payload that carries no receipt into the response hash."""
        self._response_hash.add(payload)

    def complete(self, payload: bytes, plan: Plan, *, then: bytes | None = None) -> bytes:
        """Hash the last payload, have the receipt signed, and put it in its place.

        `then` is the constant payload that will still follow, if one does.
        """
        self._response_hash.add(payload)
        if then is not None:
            self._response_hash.add(then)
        return with_attestation(payload, self._member(self._sign(plan.usage(), plan.counts())))

    def failure(self, failure: Unverified, plan: Plan, usage: Usage) -> bytes:
        """Return the body of a failure receipt: an error, signed for like an answer.

        `usage` says what has left: no token, or what was streamed before.

        Whoever holds it can show that this node's accelerator did not hold for this request.
        """
        payload = error_body(failure)[:-1] + b"," + ATTESTATION_PLACEHOLDER + b"}"
        self._response_hash.add(payload)
        return with_attestation(payload, self._member(self._sign(usage, plan.counts())))

    def _sign(self, usage: Usage, counts: VerificationCounts) -> bytes:
        return self._keeper.sign(
            Statement(
                request_hash=self._request_hash,
                response_hash=self._response_hash.digest(),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                checks=counts.checks,
                decisions=counts.decisions,
                sent=counts.sent,
                hits=counts.hits,
                misses=counts.misses,
            )
        )

    def _member(self, signed: bytes) -> bytes:
        # An oblivious client puts in the quote it appraised and the verdict it reached.
        issuance = self._issuance
        member: dict[str, Any] = {
            "receipt": base64.b64encode(signed).decode(),
            "salts": {
                "request": base64.b64encode(issuance.request_salt).decode(),
                "response": base64.b64encode(issuance.response_salt).decode(),
            },
            "quote": issuance.quote and base64.b64encode(issuance.quote).decode(),
            "node": issuance.key_document.hex(),
            "platform": issuance.platform,
            "verification": [step.to_json() for step in issuance.steps],
        }
        return json.dumps(member, separators=(",", ":")).encode()
