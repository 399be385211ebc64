"""From a plan's outputs to a responder: the same for every way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.answers import JSON_TYPE
from server.connections import WatchedEngine
from server.openai.errors import Unverified
from server.openai.outputs import Body, Event, Head, Output, Plan, Usage
from server.receipts import Receipts
from server.responses import Responder
from wire import bhttp


@dataclass
class Delivery:
    """One answer on its way out, with its receipt in its last payload.

    Args:
        refund: gives back what the request did not use; returns the trailers that bring it.
    """

    plan: Plan
    respond: Responder
    receipts: Receipts
    refund: Callable[[int], bhttp.Fields] = lambda _: ()
    _streaming: bool = False

    def run(self, engine: WatchedEngine, seed: Callable[[], int], now: int) -> None:
        """Compute the answer, and send every part of it as it comes.

        If the computation does not verify, the answer is a failure receipt; behind what was
        streamed and had held, it is the last event.

        Raises:
            ApiError: as the plan does.
            EngineGone: the engine ended before it had erased what did not verify.
            ClientGone: the client has gone.
        """
        try:
            self._run(engine, seed, now)
        except Unverified as failure:
            engine.abandon()  # the request's other choices: a receipt leaves when all are erased
            self._fail(failure)

    def _run(self, engine: WatchedEngine, seed: Callable[[], int], now: int) -> None:
        head = Head(200, ())
        for output in self.plan.run(engine, seed, now):
            if isinstance(output, Head):
                head = output
            else:
                self._send(output, head)
        if self.plan.streamed:
            self.respond.end(self.refund(self.plan.tokens_used()))

    def _send(self, output: Output, head: Head) -> None:
        if isinstance(output, Body):
            payload = output.payload
            if output.last:
                payload = self.receipts.complete(payload, self.plan)
            trailers = self.refund(self.plan.tokens_used())
            self.respond.whole(bhttp.Response(head.status, head.headers, payload, trailers))
        elif isinstance(output, Event):
            self._begin_once(head)
            if output.last:
                payload = self.receipts.complete(output.payload, self.plan, then=output.then)
                self.respond.event(payload, classed=True)
            else:
                self.receipts.add(output.payload)
                self.respond.event(output.payload)

    def _fail(self, failure: Unverified) -> None:
        if self._streaming:
            body = self.receipts.failure(failure, self.plan, self.plan.usage())
            self.respond.event(body, classed=True)
            self.respond.end(self.refund(self.plan.tokens_used()))
        else:
            body = self.receipts.failure(
                failure, self.plan, Usage(self.plan.usage().prompt_tokens, 0)
            )
            trailers = self.refund(0)
            self.respond.whole(bhttp.Response(failure.status, (JSON_TYPE,), body, trailers))

    def _begin_once(self, head: Head) -> None:
        if not self._streaming:
            self._streaming = True
            self.respond.begin(head.status, head.headers)
