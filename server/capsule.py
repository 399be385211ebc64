"""One request in clear, from its first byte to its last, in a process of its own.

The order is the promise (nothing before *spend* costs the client a token, and no step is taken
before the one above it has succeeded):

    1 open      the whole request, with the context the keeper hands over   else 400 / 422 in clear
    2 parse     binary HTTP, fixed authority, allowed path                  else 400, 404, 405, 417
    3 date      within the window                                           else 400 `#date`
    4 mark      `enc` is new; one winner                                    else 400, or busy
    5 admit     the node has room                                           else 503 busy
    6 verify    every token                                                 else 401
    7 prepare   the OpenAI request: validate, template, tokenise            else its 4xx
    8 count     tokens enough                                               else 401 with the number
    9 spend     all tokens or none                                          else 401, or 503
   10 run       compute, seal, and the receipt after the engine has erased
   11 refund    what the request did not use, blindly; all of it if nothing was computed

Everything from 2 on is answered inside the encapsulated response. No exception's text goes
anywhere: what nobody foresaw becomes `answers.of_failure`, or a stream without an end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from engine.connection import EngineConnection
from engine.errors import EngineGone
from server import answers, tokens
from server.connections import (
    FrontConnection,
    Granted,
    KeeperConnection,
    WatchedEngine,
)
from server.delivery import Delivery
from server.errors import ClientGone, Refused, Rejected
from server.fresh_quote import PATH as FRESH_QUOTE
from server.fresh_quote import QuotePlan
from server.messages import Admission, Marking, Request, Spending
from server.openai.errors import ApiError, error_body
from server.openai.outputs import Plan
from server.receipts import Issuance, Receipts
from server.responses import ChunkedResponder, Responder, responder
from server.ticks import TickedResponder
from server.tokens import AcceptedIssuer
from wire import bhttp, inner, ohttp, refund
from wire.errors import BadSignature, Unsupported, WireError
from wire.hpke import RecipientContext

MARK_MARGIN_S = 60
"""How much longer than the Date window a request is remembered, against clocks that are set."""


class Application(Protocol):
    """What a capsule asks of an application; `server.openai.application.Application` is one."""

    def prepare(self, method: bytes, path: bytes, body: bytes) -> Plan:
        """Understand and price a request, or raise ApiError."""

    def rehearse(self, engine: EngineConnection) -> None:
        """Answer a made-up request, with an engine that computes nothing."""


@dataclass(frozen=True)
class Surroundings:
    """What every capsule of a zygote starts with. No key, and nothing of any request."""

    application: Application
    issuer: AcceptedIssuer
    platform: str
    clock: Callable[[], float] = time.time
    random: Callable[[int], bytes] = os.urandom
    event_tick_s: float = 0.0
    """Seconds between the events of a stream; 0 lets them leave as they come."""


@dataclass(frozen=True)
class Connections:
    """A capsule's three sockets, the only things outside itself that it can reach."""

    front: FrontConnection
    keeper: KeeperConnection
    engine: WatchedEngine


@dataclass(frozen=True)
class Opened:
    """A request in clear, and what its answer is sealed with."""

    granted: Granted
    context: RecipientContext
    enc: bytes
    request: bytes
    chunked: bool


def serve(connections: Connections, surroundings: Surroundings) -> None:
    """Serve the one request of this process; return when there is nothing left to do.

    Raises:
        ClientGone: the client has gone; slots are erased, or the engine has gone too.
    """
    front, engine = connections.front, connections.engine
    request = front.request()
    try:
        opened = open_request(request, connections.keeper)
    except Rejected as rejected:
        front.reject(rejected.status)
        return
    nonce = surroundings.random(ohttp.response_nonce_length(opened.context.suite))
    respond: Responder
    respond = responder(front, opened.context, opened.enc, nonce, chunked=opened.chunked)
    if surroundings.event_tick_s and isinstance(respond, ChunkedResponder):
        respond = TickedResponder(respond, surroundings.event_tick_s)
        engine.on_wait = respond.on_wait
    capsule = Capsule(connections, surroundings, opened, respond)
    try:
        capsule.answer()
    except ClientGone:
        abandon(engine)
        raise
    except Exception as failure:  # noqa: BLE001 - a decision: its traceback holds the request
        abandon(engine)
        capsule.fail(answers.of_failure(failure))


def open_request(request: Request, keeper: KeeperConnection) -> Opened:
    """Step 1.

    Raises:
        Rejected: the request cannot be opened; 400 if the client has a wrong key, else 422.
    """
    try:
        header, enc, rest = ohttp.split(request.encapsulated_request)
    except Unsupported:
        raise Rejected(400) from None
    except WireError:
        raise Rejected(422) from None
    granted = keeper.context(header, enc, chunked=request.chunked)
    context = RecipientContext.from_secrets(granted.secrets)
    opening = ohttp.open_chunked_request if request.chunked else ohttp.open_request
    try:
        clear = opening(context, rest)
    except WireError:
        raise Rejected(422) from None
    return Opened(granted, context, enc, clear, request.chunked)


class Capsule:
    """Steps 2 to 10 for one opened request."""

    def __init__(
        self,
        connections: Connections,
        surroundings: Surroundings,
        opened: Opened,
        respond: Responder,
    ) -> None:
        self._front = connections.front
        self._keeper = connections.keeper
        self._engine = connections.engine
        self._surroundings = surroundings
        self._opened = opened
        self._respond = respond
        self._streaming = False
        self._paid: inner.InnerRequest | None = None
        """The request whose tokens were spent and not yet given back."""

    def answer(self) -> None:
        """Answer the request, whatever the answer is."""
        try:
            request, plan = self._examine()
        except Refused as refused:
            self._respond.whole(refused.response)
            return
        try:
            self._run(request, plan)
        except ApiError as error:
            # Once a stream has begun, the application has sent the error as an event, and the
            # end that does not come says the rest.
            if self._respond.begun:
                self._respond.cut()
            else:
                self._whole_failure(error)

    def fail(self, error: ApiError) -> None:
        """Say that the request failed; never raises."""
        end_failed(self._respond, error, lambda: self._whole_failure(error))

    def _whole_failure(self, error: ApiError) -> None:
        self._respond.whole(replace(answers.of_error(error), trailers=self._refund(0)))

    def _examine(self) -> tuple[inner.InnerRequest, Plan]:
        request = self._parse()
        self._check_date(request)
        self._mark(request)
        self._admit()
        payment = self._verify(request)
        plan = self._prepare(request)
        if len(payment.rows) < plan.tokens_needed:
            needed = plan.tokens_needed
            raise Refused(answers.too_few_tokens(self._surroundings.issuer, needed))
        self._spend(payment)
        self._paid = request
        return request, plan

    def _parse(self) -> inner.InnerRequest:
        try:
            return inner.parse_request(bhttp.decode_request(self._opened.request))
        except inner.DateMissing:
            raise Refused(answers.wrong_date(self._now())) from None
        except inner.BadTokens:
            raise self._unpaid() from None
        except inner.InnerError as error:
            raise Refused(answers.malformed(error)) from None
        except WireError:
            raise Refused(answers.malformed(None)) from None

    def _check_date(self, request: inner.InnerRequest) -> None:
        try:
            inner.check_date(request.date, self._now())
        except inner.DateOutsideWindow:
            raise Refused(answers.wrong_date(self._now())) from None

    def _mark(self, request: inner.InnerRequest) -> None:
        expiry = request.date + inner.DATE_WINDOW_S + MARK_MARGIN_S
        marking = self._front.mark(self._opened.enc, expiry)
        if marking is Marking.REPLAYED:
            raise Refused(answers.replayed())
        if marking is not Marking.FRESH:
            raise Refused(answers.busy())

    def _admit(self) -> None:
        if self._front.admit() is not Admission.OK:
            raise Refused(answers.busy())

    def _verify(self, request: inner.InnerRequest) -> tokens.Payment:
        try:
            return tokens.verify(request.tokens, self._surroundings.issuer)
        except BadSignature:
            raise self._unpaid() from None

    def _prepare(self, request: inner.InnerRequest) -> Plan:
        try:
            if request.path == FRESH_QUOTE:
                return QuotePlan(request.query, self._front.quote)
            return self._surroundings.application.prepare(
                request.method, request.path, request.body
            )
        except ApiError as error:
            raise Refused(answers.of_error(error)) from None

    def _spend(self, payment: tokens.Payment) -> None:
        spend_id = self._surroundings.random(16)
        spending = self._front.spend(spend_id, payment.key_id, payment.rows)
        if spending is Spending.SPENT:
            raise self._unpaid()
        if spending is not Spending.OK:
            raise Refused(answers.payment_unavailable())

    def _refund(self, used: int) -> bhttp.Fields:
        """Give back all tokens but `used`; return the trailers that bring them.

        A request with several tokens asks the front even when nothing is due, so that it ends at
        a tick in any case.
        """
        paid, self._paid = self._paid, None
        if paid is None or paid.blinded is None:
            return ()
        carried = paid.blinded.messages
        due = carried[: max(0, len(carried) - used)]
        signatures: tuple[bytes, ...] = ()
        if due or len(carried) > 1:
            signatures = self._front.refund(paid.blinded.truncated_key_id, due)
        kept = (refund.REFUSED,) * (len(carried) - len(signatures))
        return ((refund.SIGNATURES_FIELD, refund.encode_signatures(signatures + kept)),)

    def _unpaid(self) -> Refused:
        return Refused(answers.token_required(self._surroundings.issuer))

    def _now(self) -> int:
        return int(self._surroundings.clock())

    def _seed(self) -> int:
        return int.from_bytes(self._surroundings.random(8), "big")

    def _run(self, request: inner.InnerRequest, plan: Plan) -> None:
        context = self._opened.context
        issuance = Issuance(
            self._opened.granted.key_document,
            self._surroundings.platform,
            context.export(ohttp.REQUEST_SALT_LABEL, ohttp.SALT_LENGTH),
            context.export(ohttp.RESPONSE_SALT_LABEL, ohttp.SALT_LENGTH),
        )
        receipts = Receipts(issuance, self._keeper, request.path, request.body)
        delivery = Delivery(plan, self._respond, receipts, self._refund)
        delivery.run(self._engine, self._seed, self._now())


def end_failed(respond: Responder, error: ApiError, whole: Callable[[], None]) -> None:
    """End an answer by an error; never raises.

    Args:
        respond: what the answer goes through; one that has begun gets an event, and no end.
        error: what is said.
        whole: sends it where nothing was sent before.
    """
    try:
        if respond.begun:
            respond.event(error_body(error))
            respond.cut()
        else:
            whole()
    except (Exception, ClientGone):  # noqa: BLE001, S110 - the answer is cut: that says it too
        pass


def abandon(engine: WatchedEngine) -> None:
    """Have every slot erased, or the engine gone with them."""
    try:
        engine.abandon()
    except EngineGone:
        return
