"""The failure receipt: what leaves when the computation did not verify, and when it cannot."""

import base64
import json

from engine.types import VerificationCounts
from server.delivery import Delivery
from server.openai.errors import Unverified
from server.openai.outputs import Event, Head, Usage
from server.receipts import Issuance, Receipts
from wire.receipt import ResponseHash, without_attestation

COUNTS = VerificationCounts(checks=77, decisions=b"d" * 32, sent=0, hits=0, misses=0)
STREAM_HEAD = Head(200, ((b"content-type", b"text/event-stream"),))


class Plan:
    """One whose engine does not hold, behind some outputs."""

    def __init__(self, *outputs):
        self.outputs = outputs
        self.streamed = bool(outputs)

    def run(self, *_):
        yield from self.outputs
        raise Unverified

    def usage(self):
        return Usage(12, 3)

    def counts(self):
        return COUNTS

    def tokens_used(self):
        return 1


class Keeper:
    """Signs by writing down what it was told."""

    def __init__(self):
        self.statements = []

    def sign(self, statement):
        self.statements.append(statement)
        return b"signed"


class Responder:
    """Keeps what was sent."""

    def __init__(self):
        self.begun = False
        self.wholes, self.events = [], []

    def whole(self, response):
        self.begun = True
        self.wholes.append(response)

    def begin(self, *_):
        self.begun = True

    def event(self, payload, **_):
        self.events.append(payload)

    def end(self, *_):
        self.ended = True


def delivered(*outputs):
    keeper, respond, refunds = Keeper(), Responder(), []
    issuance = Issuance(bytes(32), "simulated", b"q" * 32, b"r" * 32)
    receipts = Receipts(issuance, keeper, b"/v1/chat/completions", b"{}")

    def refund(used):
        refunds.append(used)
        return ((b"back", b"all"),)

    return keeper, respond, refunds, Delivery(Plan(*outputs), respond, receipts, refund)


class Engine:
    """One whose slots are erased when it is asked to; nothing may be signed before."""

    def __init__(self, keeper):
        self.keeper, self.erased = keeper, False

    def abandon(self):
        assert not self.keeper.statements
        self.erased = True


def test_a_failure_before_the_first_byte_is_signed_for_and_costs_nothing():
    keeper, respond, refunds, delivery = delivered()
    engine = Engine(keeper)
    delivery.run(engine, lambda: 0, 0)
    assert engine.erased
    [response], [statement] = respond.wholes, keeper.statements
    assert response.status == 503
    assert response.trailers == ((b"back", b"all"),)
    assert refunds == [0]
    bare, attestation = without_attestation(response.content)
    assert json.loads(bare)["error"]["code"] == "verification_failed"
    assert base64.b64decode(json.loads(attestation)["receipt"]) == b"signed"
    digest = ResponseHash(b"r" * 32)
    digest.add(bare)
    assert statement.response_hash == digest.digest()
    assert (statement.prompt_tokens, statement.completion_tokens) == (12, 0)
    assert (statement.checks, statement.decisions) == (77, b"d" * 32)


def test_a_failure_in_a_stream_is_signed_for_behind_what_had_held():
    keeper, respond, refunds, delivery = delivered(STREAM_HEAD, Event(b"{}"))
    delivery.run(Engine(keeper), lambda: 0, 0)
    first, last = respond.events
    bare, attestation = without_attestation(last)
    assert json.loads(bare)["error"]["code"] == "verification_failed"
    assert base64.b64decode(json.loads(attestation)["receipt"]) == b"signed"
    [statement] = keeper.statements
    digest = ResponseHash(b"r" * 32)
    digest.add(first)
    digest.add(bare)
    assert statement.response_hash == digest.digest()
    assert (statement.prompt_tokens, statement.completion_tokens) == (12, 3)
    assert refunds == [1]
    assert respond.ended
    assert not respond.wholes
