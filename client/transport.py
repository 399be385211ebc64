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

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import httpx

from attestation.verdict import Verdict
from attestation.verifier.node import VerifiedNode
from client.answer import Answer, AtEnd, ResponseCheck, error_code, replay, stream, whole
from client.appraisal import Appraisal
from client.blinded import Blinded, messages
from client.choice import MAX_REDRAWS, draw, shares
from client.errors import (
    IssuerError,
    QuoteRefused,
    RelayError,
    ResponseError,
    ResponseForged,
)
from client.exchange import Exchange, InnerRequest, Relay
from client.nodes import NodeDirectory
from client.passage import Draw, Passage
from client.prepared import PreparedStock
from client.pricing import Pricing
from client.wallet import Wallet
from wire import inner

KEEP_NODE_S = 300.0
"""How long a node is kept for a model after a request to it ended in clear."""

PREPARING_S = 0.05
"""Pause between two encapsulations made ahead: they are to be made while nothing else is."""

IDLE_S = 0.5
"""Pause while all are there."""

DATE_PROBLEM = b"#date"
BUSY = "busy"
UNVERIFIED = "verification_failed"
EVENT_STREAM = b"text/event-stream"


@dataclass(frozen=True)
class Carried:
    """A request and what makes tokens of the signatures that come back with its answer."""

    request: InnerRequest
    blinded: Sequence[Blinded]


class Transport:
    """Sends requests of one user; `on_verdict` is told the verdict of each answer."""

    def __init__(
        self,
        *,
        directory: NodeDirectory,
        wallet: Wallet,
        relay: Relay,
    ) -> None:
        self._directory = directory
        self._wallet = wallet
        self._relay = relay
        self._kept: dict[str, tuple[str, float]] = {}
        self._uniform = secrets.SystemRandom().random
        self._pricing = Pricing()
        self._prepared = PreparedStock()
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
        passage: Passage | None = None,
    ) -> Answer:
        """Send one request and return its answer; what there is to say of its way is noted.

        Raises:
            ClientError: any kind; nothing was delivered before it.
        """
        passage = Passage() if passage is None else passage
        appraisal = await self._directory.current()
        carried: Carried | None = None
        for redraws_left in reversed(range(MAX_REDRAWS + 1)):
            chosen = self._choose(appraisal, model)
            passage.draws.append(chosen)
            node = chosen.node
            if carried is None:
                count = self._pricing.predict(model, body, node.key_document.token_budget)
                tokens = await self._wallet.take(count)
                request = InnerRequest(b"POST", path, body, _this_minute(), tokens)
                carried = await self._with_blinded(request)
            exchange, carried = await self._ask(node, model, carried, passage)
            check = ResponseCheck(
                exchange,
                carried.request,
                appraisal,
                on_verdict,
                pricing=self._pricing,
                passage=passage,
            )
            answer = self._answer(exchange, carried, check)
            if answer.status == httpx.codes.SERVICE_UNAVAILABLE:
                refusal = b"".join([payload async for payload in answer.payloads])
                failed = self._failed_signed(refusal, check)
                if redraws_left and (failed or error_code(refusal) == BUSY):
                    self.redraws += 1
                    carried = None if failed else carried  # its tokens are spent, or came back
                    continue
                answer = replace(answer, payloads=replay(refusal))
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
        exchange, carried = await self._ask_once(node, await self._with_blinded(request), Passage())
        answer = whole(exchange, None, self._refunding(exchange, carried))
        content = b"".join([payload async for payload in answer])
        if exchange.head.status != httpx.codes.OK:
            raise QuoteRefused(f"the node gave no fresh quote: {error_code(content)}")
        return content

    async def keep_prepared(self) -> None:
        """Keep encapsulations ready for the nodes that are known, for ever."""
        while True:
            known = self._directory.known
            busy = known is not None and self._prepared.fill(known.nodes)
            await asyncio.sleep(PREPARING_S if busy else IDLE_S)

    def _choose(self, appraisal: Appraisal, model: str) -> Draw:
        nodes = appraisal.serving(model)
        capacities = [node.key_document.capacity for node in nodes]
        index = self._kept_index(nodes, model)
        kept = index is not None
        if index is None:
            index = draw(capacities, self._uniform)
        listed = len(appraisal.listed.nodes)
        return Draw(nodes[index], len(nodes), listed, shares(capacities)[index], kept)

    def _kept_index(self, nodes: Sequence[VerifiedNode], model: str) -> int | None:
        """Return which node is kept for a model after a failure in clear, if it is still there."""
        kept, until = self._kept.get(model, ("", 0.0))
        names = [node.key_document.node for node in nodes]
        return names.index(kept) if time.monotonic() < until and kept in names else None

    async def _with_blinded(self, request: InnerRequest) -> Carried:
        """Add as many blinded messages as there are tokens."""
        try:
            blinded = await self._wallet.blind(len(request.tokens))
        except IssuerError:
            return Carried(request, ())  # no key in the log: then nothing can come back
        return Carried(replace(request, blinded=messages(blinded)), blinded)

    async def _ask(
        self, node: VerifiedNode, model: str, carried: Carried, passage: Passage
    ) -> tuple[Exchange, Carried]:
        try:
            asked = await self._ask_once(node, carried, passage)
        except (RelayError, ResponseError):
            self._kept[model] = (node.key_document.node, time.monotonic() + KEEP_NODE_S)
            raise
        self._kept.pop(model, None)
        return asked

    async def _ask_once(
        self, node: VerifiedNode, carried: Carried, passage: Passage
    ) -> tuple[Exchange, Carried]:
        exchange = await self._open(node, carried.request, passage)
        if (corrected := await self._correct(exchange, carried)) is not None:
            carried = corrected
            exchange = await self._open(node, carried.request, passage)
        return exchange, carried

    async def _open(self, node: VerifiedNode, request: InnerRequest, passage: Passage) -> Exchange:
        passage.tokens = len(request.tokens)
        prepared = self._prepared.take(node)
        return await Exchange.open(self._relay, node, request, prepared, passage)

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

    @staticmethod
    def _failed_signed(refusal: bytes, check: ResponseCheck) -> bool:
        """Whether a refusal is a failure receipt that holds; then the node may not be asked again.

        Raises:
            VerificationFailed: it claims to be one and does not hold.
        """
        if error_code(refusal) != UNVERIFIED:
            return False
        check.failure(refusal)
        return True

    def _answer(self, exchange: Exchange, carried: Carried, check: ResponseCheck) -> Answer:
        streamed = dict(exchange.head.headers).get(b"content-type", b"").startswith(EVENT_STREAM)
        status = exchange.head.status
        take_refund = self._refunding(exchange, carried)
        if streamed:
            payloads = stream(exchange, check, take_refund)
        else:
            payloads = whole(exchange, check if status == httpx.codes.OK else None, take_refund)
        return Answer(status, streamed, exchange.node, payloads, exchange.close)

    def _refunding(self, exchange: Exchange, carried: Carried) -> AtEnd:
        async def take_refund() -> None:
            if signatures := exchange.signatures(len(carried.blinded)):
                await self._wallet.take_back(carried.blinded, signatures)

        return take_refund


def _this_minute() -> int:
    return int(time.time()) // 60 * 60
