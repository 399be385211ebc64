"""An inner response, read payload by payload, and judged at its end."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from attestation.errors import ReceiptError
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.node import VerifiedNode
from attestation.verifier.receipt import check_receipt
from client import sse
from client.appraisal import Appraisal
from client.errors import ResponseForged, VerificationFailed
from client.exchange import Exchange, InnerRequest
from client.passage import Passage
from client.pricing import Pricing
from wire import receipt
from wire.errors import WireError

RESPONSES = b"/v1/responses"
_UNVERIFIED = Step(
    "computation",
    Outcome.FAIL,
    "the node signed that its accelerator's work did not verify; no token of that was released",
)

AtEnd = Callable[[], Awaitable[None]]
"""What is done when an answer was read to its end and holds."""


@dataclass(frozen=True)
class Answer:
    """An inner response. Read `payloads` to the end: only then was it complete and verified."""

    status: int
    streamed: bool
    node: VerifiedNode
    payloads: AsyncIterator[bytes]
    """The `data:` payloads of a stream, or one JSON body."""
    close: Callable[[], Awaitable[None]]


class ResponseCheck:
    """Follows the payloads of one response and judges the receipt at their end."""

    def __init__(
        self,
        exchange: Exchange,
        request: InnerRequest,
        appraisal: Appraisal,
        on_verdict: Callable[[Verdict], None],
        *,
        pricing: Pricing,
        passage: Passage,
    ) -> None:
        self._pricing = pricing
        self._passage = passage
        self._exchange = exchange
        self._request = request
        self._appraisal = appraisal
        self._on_verdict = on_verdict
        self._hash = receipt.ResponseHash(exchange.salts.response)
        self._last: tuple[bytes, bytes] | None = None

    @property
    def path(self) -> bytes:
        """The path that was asked."""
        return self._request.path

    def add(self, payload: bytes) -> bool:
        """Take in a payload; return whether it carries the receipt."""
        if self._last is None and payload.endswith(b"}}"):
            try:
                bare, attestation = receipt.without_attestation(payload)
            except WireError:
                pass  # an ordinary payload that happens to end in two braces
            else:
                self._last = (bare, attestation)
                self._hash.add(bare)
                return True
        self._hash.add(payload)
        return False

    def finish(self) -> bytes:
        """Judge the receipt; return the last JSON payload with the attestation filled in.

        Raises:
            VerificationFailed: no receipt, or one that does not hold.
        """
        bare, signed, verdict = self._judge()
        if error_code(bare) is not None:
            verdict = Verdict((*verdict.steps, _UNVERIFIED))
        self._on_verdict(verdict)
        return receipt.with_attestation(bare, self._attestation(signed, verdict))

    def failure(self, body: bytes) -> None:
        """Judge a body as a failure receipt; it is the whole answer.

        Raises:
            VerificationFailed: it carries no receipt, or one that does not hold.
        """
        self.add(body)
        *_, verdict = self._judge()
        self._on_verdict(Verdict((*verdict.steps, _UNVERIFIED)))

    def _judge(self) -> tuple[bytes, str, Verdict]:
        """Return the last JSON payload as it was hashed, the receipt and the verdict on it."""
        node = self._exchange.node
        before = (*self._appraisal.log_steps, *node.steps)
        if self._last is None:
            self._fail(before, Step("receipt", Outcome.FAIL, "the response carries no receipt"))
        bare, written = self._last
        try:
            claims = json.loads(written)
            signed = base64.b64decode(claims["receipt"], validate=True)
            prompt_tokens, completion_tokens = receipt.stated_usage(bare)
            steps = check_receipt(
                signed,
                node=node,
                request_hash=receipt.request_hash(
                    self._exchange.salts.request, self._request.path, self._request.body
                ),
                response_hash=self._hash.digest(),
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                at=int(time.time()),
            )
        except ReceiptError as error:
            self._fail((*before, *error.steps), None)
        except (WireError, ValueError, KeyError, TypeError):
            self._fail(before, Step("receipt", Outcome.FAIL, "the attestation member is malformed"))
        self._passage.signed = signed
        if prompt_tokens:
            self._pricing.learn(node.key_document.model, self._request.body, prompt_tokens)
        return bare, claims["receipt"], Verdict((*before, *steps))

    def _fail(self, before: tuple[Step, ...], step: Step | None) -> NoReturn:
        verdict = Verdict(before if step is None else (*before, step))
        self._on_verdict(verdict)
        reason = next(s.reason for s in verdict.steps if s.outcome is Outcome.FAIL)
        raise VerificationFailed(f"the response is not to be believed: {reason}", verdict)

    def _attestation(self, signed: str, verdict: Verdict) -> bytes:
        node, salts = self._exchange.node, self._exchange.salts
        return json.dumps(
            {
                "receipt": signed,
                "salts": {
                    "request": base64.b64encode(salts.request).decode(),
                    "response": base64.b64encode(salts.response).decode(),
                },
                "quote": base64.b64encode(node.quote).decode(),
                "node": node.key_document.node,
                "platform": node.platform,
                "verification": [step.to_json() for step in verdict.steps],
            },
            separators=(",", ":"),
        ).encode()


async def stream(exchange: Exchange, check: ResponseCheck, at_end: AtEnd) -> AsyncIterator[bytes]:
    """Pass events on as they come; the last one and `[DONE]` only after the authenticated end.

    The last one may be an error that the node has signed for: what it computed did not verify.
    Then there is no `[DONE]`, and what came before it had held.

    Raises:
        ResponseForged: what was sealed as complete is not. And whatever `Exchange.contents` and
            `ResponseCheck.finish` raise.
    """
    parser = sse.EventParser()
    try:
        # A stream of responses has no `[DONE]`: the payload with the receipt is its last.
        without_done = check.path == RESPONSES
        done = failed = signed_failure = False
        async for content in exchange.contents():
            for payload in parser.feed(content):
                if done:
                    raise ResponseForged("an event follows the end of the stream")
                if payload == sse.DONE:
                    check.add(payload)
                    done = True
                elif check.add(payload):
                    signed_failure = error_code(payload) is not None
                    done = without_done or signed_failure
                else:
                    failed = failed or error_code(payload) is not None
                    yield payload
        if not (done and parser.empty) or failed:
            raise ResponseForged("the stream is sealed as complete but is not")
        yield check.finish()
        if not (without_done or signed_failure):
            yield sse.DONE
    finally:
        await exchange.close()
    await at_end()


async def whole(
    exchange: Exchange, check: ResponseCheck | None, at_end: AtEnd
) -> AsyncIterator[bytes]:
    """Yield a body that is not streamed; without a `check`, as it is. Raises as `stream`."""
    try:
        body = await exchange.body()
        if check is not None:
            check.add(body)
            body = check.finish()
        yield body
    finally:
        await exchange.close()
    await at_end()


async def replay(payload: bytes) -> AsyncIterator[bytes]:
    """Yield a body that was read before."""
    yield payload


def error_code(payload: bytes) -> str | None:
    """Return the code of an OpenAI error object, '' for one without, None for anything else."""
    if b'"error"' not in payload[:16]:
        return None
    try:
        error = json.loads(payload).get("error")
    except (ValueError, AttributeError):
        return None
    return str(error.get("code") or "") if isinstance(error, dict) else None
