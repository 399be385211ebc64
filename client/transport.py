"""From an OpenAI request to a verified answer: choose, encapsulate, ask again or not, check.

The retry rule (a relay that drops requests must not get to roll the dice again):

| what came back                                  | what happens                                  |
|-------------------------------------------------|-----------------------------------------------|
| an authenticated "busy"                         | a new draw from the whole list, twice at most |
| an authenticated `#date` problem                | the same node once, with the time it states   |
| an authenticated "more tokens"                  | the same node once, with as many as it says   |
| anything else authenticated                     | it is the answer                              |
| an answer in clear, a timeout, a cut, a forgery | the request ends; the node is kept for the next|
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import httpx

from attestation.errors import ReceiptError
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.node import VerifiedNode
from attestation.verifier.receipt import check_receipt
from client import sse
from client.blinded import Blinded, messages
from client.choice import MAX_REDRAWS, draw
from client.errors import (
    IssuerError,
    QuoteRefused,
    RelayError,
    ResponseError,
    ResponseForged,
    VerificationFailed,
)
from client.exchange import Exchange, InnerRequest
from client.nodes import Appraisal, NodeDirectory
from client.pricing import Pricing
from client.wallet import Wallet
from wire import inner, receipt
from wire.errors import WireError

KEEP_NODE_S = 300.0
"""How long a node is kept for a model after a request to it ended in clear."""

DATE_PROBLEM = b"#date"
BUSY = "busy"
EVENT_STREAM = b"text/event-stream"


@dataclass(frozen=True)
class Carried:
    """A request and what makes tokens of the signatures that come back with its answer."""

    request: InnerRequest
    blinded: Sequence[Blinded]


@dataclass(frozen=True)
class Answer:
    """An inner response. Read `payloads` to the end: only then was it complete and verified."""

    status: int
    streamed: bool
    node: VerifiedNode
    payloads: AsyncIterator[bytes]
    """The `data:` payloads of a stream, or one JSON body."""
    close: Callable[[], Awaitable[None]]


class Transport:
    """Sends requests of one user; `on_verdict` is told the verdict of each answer."""

    def __init__(
        self,
        *,
        directory: NodeDirectory,
        wallet: Wallet,
        relay_url: str,
        http: httpx.AsyncClient,
    ) -> None:
        self._directory = directory
        self._wallet = wallet
        self._relay_url = relay_url
        self._http = http
        self._kept: dict[str, tuple[str, float]] = {}
        self._uniform = secrets.SystemRandom().random
        self._pricing = Pricing()
        self.redraws = 0
        """Authenticated refusals that led to another draw; a person should see when they are
        many."""

    async def send(
        self,
        path: bytes,
        body: bytes,
        *,
        model: str,
        on_verdict: Callable[[Verdict], None],
    ) -> Answer:
        """Send one request and return its answer.

        Raises:
            ClientError: any kind; nothing was delivered before it.
        """
        appraisal = await self._directory.current()
        carried: Carried | None = None
        for redraws_left in reversed(range(MAX_REDRAWS + 1)):
            node = self._choose(appraisal, model)
            if carried is None:
                count = self._pricing.predict(model, body, node.key_document.token_budget)
                tokens = await self._wallet.take(count)
                request = InnerRequest(b"POST", path, body, _this_minute(), tokens)
                carried = await self._with_blinded(request)
            exchange, carried = await self._ask(node, model, carried)
            answer = await self._answer(exchange, carried, appraisal, on_verdict)
            if redraws_left and answer.status == httpx.codes.SERVICE_UNAVAILABLE:
                refusal = b"".join([payload async for payload in answer.payloads])
                if _error_code(refusal) == BUSY:
                    self.redraws += 1
                    continue
                answer = replace(answer, payloads=_replay(refusal))
            return answer
        raise AssertionError("unreachable: the last draw returns its answer")

    async def attest(self, node: VerifiedNode, nonce: bytes) -> bytes:
        """Have a node quoted over a nonce (32 bytes); return the bundle, not yet appraised.

        Costs a token. That it was this very node the relay sees, as of any request; so it is asked
        for when a person wants to know, never on the way of a prompt.

        Raises:
            QuoteRefused: the node says that it cannot, or not now.
            ClientError: any other kind, as `send`.
        """
        path = b"/v1/attestation?nonce=" + nonce.hex().encode()
        request = InnerRequest(b"GET", path, b"", _this_minute(), await self._wallet.take(1))
        exchange, carried = await self._ask_once(node, await self._with_blinded(request))
        answer = self._with_refund(_plain_body(exchange), exchange, carried)
        content = b"".join([payload async for payload in answer])
        if exchange.head.status != httpx.codes.OK:
            raise QuoteRefused(f"the node gave no fresh quote: {_error_code(content)}")
        return content

    def _choose(self, appraisal: Appraisal, model: str) -> VerifiedNode:
        nodes = appraisal.serving(model)
        kept, until = self._kept.get(model, ("", 0.0))
        if time.monotonic() < until:
            for node in nodes:
                if node.key_document.node == kept:
                    return node
        return nodes[draw([node.key_document.capacity for node in nodes], self._uniform)]

    async def _with_blinded(self, request: InnerRequest) -> Carried:
        """Add as many blinded messages as there are tokens."""
        try:
            blinded = await self._wallet.blind(len(request.tokens))
        except IssuerError:
            return Carried(request, ())  # no key in the log: then nothing can come back
        return Carried(replace(request, blinded=messages(blinded)), blinded)

    async def _ask(
        self, node: VerifiedNode, model: str, carried: Carried
    ) -> tuple[Exchange, Carried]:
        try:
            asked = await self._ask_once(node, carried)
        except (RelayError, ResponseError):
            self._kept[model] = (node.key_document.node, time.monotonic() + KEEP_NODE_S)
            raise
        self._kept.pop(model, None)
        return asked

    async def _ask_once(self, node: VerifiedNode, carried: Carried) -> tuple[Exchange, Carried]:
        exchange = await self._open(node, carried.request)
        if (corrected := await self._correct(exchange, carried)) is not None:
            carried = corrected
            exchange = await self._open(node, carried.request)
        return exchange, carried

    async def _open(self, node: VerifiedNode, request: InnerRequest) -> Exchange:
        return await Exchange.open(self._http, self._relay_url, node, request)

    async def _correct(self, exchange: Exchange, carried: Carried) -> Carried | None:
        """Return the request to repeat at the same node, or None if the answer stands."""
        headers, request = dict(exchange.head.headers), carried.request
        if exchange.head.status == httpx.codes.BAD_REQUEST and b"date" in headers:
            if DATE_PROBLEM not in await exchange.body():
                raise ResponseForged("a Date came with an answer that has no use for it")
            # Its time is used for this one retry and nothing else (RFC 9458, section 6.5.2).
            date = inner.parse_http_date(headers[b"date"])
            return replace(carried, request=replace(request, date=date))
        needed = headers.get(inner.TOKENS_NEEDED_FIELD, b"")
        if exchange.head.status == httpx.codes.UNAUTHORIZED and needed in {b"2", b"4", b"8"}:
            await exchange.close()
            tokens = await self._wallet.take_more(request.tokens, int(needed))
            return await self._with_blinded(replace(request, tokens=tokens))
        return None

    async def _answer(
        self,
        exchange: Exchange,
        carried: Carried,
        appraisal: Appraisal,
        on_verdict: Callable[[Verdict], None],
    ) -> Answer:
        streamed = dict(exchange.head.headers).get(b"content-type", b"").startswith(EVENT_STREAM)
        status = exchange.head.status
        checked = status == httpx.codes.OK
        check = _ResponseCheck(exchange, carried.request, appraisal, on_verdict, self._pricing)
        if streamed:
            payloads = _stream(exchange, check)
        elif checked:
            payloads = _checked_body(exchange, check)
        else:
            payloads = _plain_body(exchange)
        payloads = self._with_refund(payloads, exchange, carried)
        return Answer(status, streamed, exchange.node, payloads, exchange.close)

    async def _with_refund(
        self, payloads: AsyncIterator[bytes], exchange: Exchange, carried: Carried
    ) -> AsyncIterator[bytes]:
        """Pass an answer on; at its end, take back the tokens that it brings."""
        async for payload in payloads:
            yield payload
        if signatures := exchange.signatures(len(carried.blinded)):
            await self._wallet.take_back(carried.blinded, signatures)


class _ResponseCheck:
    """Follows the payloads of one response and judges the receipt at their end."""

    def __init__(
        self,
        exchange: Exchange,
        request: InnerRequest,
        appraisal: Appraisal,
        on_verdict: Callable[[Verdict], None],
        pricing: Pricing,
    ) -> None:
        self._pricing = pricing
        self._exchange = exchange
        self._request = request
        self._appraisal = appraisal
        self._on_verdict = on_verdict
        self._hash = receipt.ResponseHash(exchange.salts.response)
        self._last: tuple[bytes, bytes] | None = None

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
        node = self._exchange.node
        before = (*self._appraisal.log_steps, *node.steps)
        if self._last is None:
            self._fail(before, Step("receipt", Outcome.FAIL, "the response carries no receipt"))
        bare, written = self._last
        try:
            claims = json.loads(written)
            signed = base64.b64decode(claims["receipt"], validate=True)
            usage = json.loads(bare).get("usage") or {}
            steps = check_receipt(
                signed,
                node=node,
                request_hash=receipt.request_hash(
                    self._exchange.salts.request, self._request.path, self._request.body
                ),
                response_hash=self._hash.digest(),
                prompt_tokens=usage.get("prompt_tokens"),
                completion_tokens=usage.get("completion_tokens"),
                at=int(time.time()),
            )
        except ReceiptError as error:
            self._fail((*before, *error.steps), None)
        except (ValueError, KeyError, TypeError):
            self._fail(before, Step("receipt", Outcome.FAIL, "the attestation member is malformed"))
        verdict = Verdict((*before, *steps))
        self._on_verdict(verdict)
        document = node.key_document
        self._pricing.learn(document.model, self._request.body, usage.get("prompt_tokens", 0))
        return receipt.with_attestation(bare, self._attestation(claims["receipt"], verdict))

    def _fail(self, before: tuple[Step, ...], step: Step | None) -> NoReturn:
        verdict = Verdict(before if step is None else (*before, step))
        self._on_verdict(verdict)
        reason = verdict.steps[-1].reason
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


async def _stream(exchange: Exchange, check: _ResponseCheck) -> AsyncIterator[bytes]:
    """Pass events on as they come; the last one and `[DONE]` only after the authenticated end."""
    parser = sse.EventParser()
    try:
        done = failed = False
        async for content in exchange.contents():
            for payload in parser.feed(content):
                if done:
                    raise ResponseForged("an event follows the end of the stream")
                if payload == sse.DONE:
                    check.add(payload)
                    done = True
                elif not check.add(payload):
                    failed = failed or _error_code(payload) is not None
                    yield payload
        if not (done and parser.empty) or failed:
            raise ResponseForged("the stream is sealed as complete but is not")
        yield check.finish()
        yield sse.DONE
    finally:
        await exchange.close()


async def _checked_body(exchange: Exchange, check: _ResponseCheck) -> AsyncIterator[bytes]:
    try:
        check.add(await exchange.body())
        yield check.finish()
    finally:
        await exchange.close()


async def _plain_body(exchange: Exchange) -> AsyncIterator[bytes]:
    try:
        yield await exchange.body()
    finally:
        await exchange.close()


async def _replay(payload: bytes) -> AsyncIterator[bytes]:
    yield payload


def _error_code(payload: bytes) -> str | None:
    """Return the code of an OpenAI error object, '' for one without, None for anything else."""
    if b'"error"' not in payload[:16]:
        return None
    try:
        error = json.loads(payload).get("error")
    except (ValueError, AttributeError):
        return None
    return str(error.get("code") or "") if isinstance(error, dict) else None


def _this_minute() -> int:
    return int(time.time()) // 60 * 60
