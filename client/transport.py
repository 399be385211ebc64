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
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import httpx
from attestation.errors import ReceiptError
from attestation.verdict import Outcome, Step, Verdict
from attestation.verifier.node import VerifiedNode
from attestation.verifier.receipt import check_receipt

from client import sse
from client.choice import MAX_REDRAWS, draw
from client.errors import RelayError, ResponseError, ResponseForged, VerificationFailed
from client.exchange import Exchange, InnerRequest
from client.nodes import Appraisal, NodeDirectory
from client.wallet import Wallet
from wire import inner, receipt
from wire.errors import WireError

KEEP_NODE_S = 300.0
"""How long a node is kept for a model after a request to it ended in clear."""

DATE_PROBLEM = b"#date"
BUSY = "busy"
EVENT_STREAM = b"text/event-stream"


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
        request = InnerRequest(b"POST", path, body, _this_minute(), await self._wallet.take(1))
        for redraws_left in reversed(range(MAX_REDRAWS + 1)):
            exchange = await self._ask(self._choose(appraisal, model), model, request)
            answer = await self._answer(exchange, request, appraisal, on_verdict)
            if redraws_left and answer.status == httpx.codes.SERVICE_UNAVAILABLE:
                refusal = b"".join([payload async for payload in answer.payloads])
                if _error_code(refusal) == BUSY:
                    self.redraws += 1
                    continue
                answer = replace(answer, payloads=_replay(refusal))
            return answer
        raise AssertionError("unreachable: the last draw returns its answer")

    def _choose(self, appraisal: Appraisal, model: str) -> VerifiedNode:
        nodes = appraisal.serving(model)
        kept, until = self._kept.get(model, ("", 0.0))
        if time.monotonic() < until:
            for node in nodes:
                if node.key_document.node == kept:
                    return node
        return nodes[draw([node.key_document.capacity for node in nodes], self._uniform)]

    async def _ask(self, node: VerifiedNode, model: str, request: InnerRequest) -> Exchange:
        try:
            exchange = await self._open(node, request)
            if (corrected := await self._correct(exchange, request)) is not None:
                exchange = await self._open(node, corrected)
        except (RelayError, ResponseError):
            self._kept[model] = (node.key_document.node, time.monotonic() + KEEP_NODE_S)
            raise
        self._kept.pop(model, None)
        return exchange

    async def _open(self, node: VerifiedNode, request: InnerRequest) -> Exchange:
        return await Exchange.open(self._http, self._relay_url, node, request)

    async def _correct(self, exchange: Exchange, request: InnerRequest) -> InnerRequest | None:
        """Return the request to repeat at the same node, or None if the answer stands."""
        headers = dict(exchange.head.headers)
        if exchange.head.status == httpx.codes.BAD_REQUEST and b"date" in headers:
            if DATE_PROBLEM not in await exchange.body():
                raise ResponseForged("a Date came with an answer that has no use for it")
            # Its time is used for this one retry and nothing else (RFC 9458, section 6.5.2).
            return replace(request, date=inner.parse_http_date(headers[b"date"]))
        needed = headers.get(inner.TOKENS_NEEDED_FIELD, b"")
        if exchange.head.status == httpx.codes.UNAUTHORIZED and needed in {b"2", b"4", b"8"}:
            await exchange.close()
            more = await self._wallet.take(int(needed) - len(request.tokens))
            return replace(request, tokens=(*request.tokens, *more))
        return None

    async def _answer(
        self,
        exchange: Exchange,
        request: InnerRequest,
        appraisal: Appraisal,
        on_verdict: Callable[[Verdict], None],
    ) -> Answer:
        streamed = dict(exchange.head.headers).get(b"content-type", b"").startswith(EVENT_STREAM)
        status = exchange.head.status
        checked = status == httpx.codes.OK
        check = _ResponseCheck(exchange, request, appraisal, on_verdict)
        if streamed:
            payloads = _stream(exchange, check)
        elif checked:
            payloads = _checked_body(exchange, check)
        else:
            payloads = _plain_body(exchange)
        return Answer(status, streamed, exchange.node, payloads, exchange.close)


class _ResponseCheck:
    """Follows the payloads of one response and judges the receipt at their end."""

    def __init__(
        self,
        exchange: Exchange,
        request: InnerRequest,
        appraisal: Appraisal,
        on_verdict: Callable[[Verdict], None],
    ) -> None:
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
