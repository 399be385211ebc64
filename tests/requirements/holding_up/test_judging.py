"""The soak's own eyes: each wrong success, and each token too many or too few, is seen."""

import asyncio
import base64
import json
import random
from types import SimpleNamespace

import httpx
import pytest

from tests.requirements.holding_up import faults, traffic
from tests.requirements.holding_up.ledger import Ledger
from tests.requirements.holding_up.soak import Held, Plan
from tests.requirements.holding_up.test_soak import (
    assert_no_token_is_lost_or_doubled,
    assert_nothing_leaks,
)
from tests.requirements.holding_up.traffic import Order, Outcomes, chat, give

STEP = {"outcome": "pass", "reason": "SIMULATED"}
STEPS = [{"step": f"step-{number}", **STEP} for number in range(12)]
EVIDENCE = {
    "receipt": base64.b64encode(b"receipt").decode(),
    "salts": [],
    "quote": base64.b64encode(b"quote").decode(),
    "node": "ab" * 32,
    "platform": "simulated",
    "verification": STEPS,
}


def answer(text="It is a server.", attestation=EVIDENCE, reason="stop"):
    choice = {"message": {"content": text}, "finish_reason": reason}
    return {"choices": [choice], "attestation": attestation}


def asked(reply, outcomes=None, *, stream=False, status=200):
    """Give one order to a proxy that replies so."""

    async def main():
        transport = httpx.MockTransport(lambda _: httpx.Response(status, content=reply))
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy/") as client:
            kind = "streamed" if stream else "chat"
            order = Order(kind, "chat/completions", chat("What?", stream=stream))
            return await give(client, order, outcomes or Outcomes())

    return asyncio.run(main())


def test_a_whole_answer_is_one():
    outcomes = Outcomes()
    assert asked(json.dumps(answer()), outcomes) == "answered"
    assert (outcomes.good, outcomes.other) == (1, 0)


SKIPPED = {"step": "receipt-signature", "outcome": "skip", "reason": "-"}
WRONG = {
    "no text": answer(text=""),
    "no end": answer(reason=None),
    "a step that failed": answer(
        attestation={**EVIDENCE, "verification": [*STEPS, {**SKIPPED, "outcome": "fail"}]}
    ),
    "a step that was skipped": answer(attestation={**EVIDENCE, "verification": [*STEPS, SKIPPED]}),
    "no receipt": answer(attestation={**EVIDENCE, "receipt": ""}),
    "fewer choices": {**answer(), "choices": []},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_success_is_seen(wrong):
    with pytest.raises(AssertionError):
        asked(json.dumps(WRONG[wrong]))


def test_another_answer_to_the_same_question_is_seen():
    outcomes = Outcomes()
    assert asked(json.dumps(answer()), outcomes) == "answered"
    with pytest.raises(AssertionError):
        asked(json.dumps(answer(text="It is a cake.")), outcomes)


def test_a_list_that_is_held_is_no_failure():
    held = {"step": "node-list-age", "outcome": "skip", "reason": "-"}
    evidence = {**EVIDENCE, "verification": [*STEPS, held]}
    assert asked(json.dumps(answer(attestation=evidence))) == "answered"


def event(member):
    return f"data: {json.dumps(member)}\n\n"


def chunk(text, reason=None, **members):
    return event({"choices": [{"delta": {"content": text}, "finish_reason": reason}], **members})


END = "data: [DONE]\n\n"


def test_a_stream_is_whole_or_it_is_cut():
    whole = chunk("It is") + chunk(" a server.", "stop", attestation=EVIDENCE)
    assert asked(whole + END, stream=True) == "answered"
    assert asked(chunk("It is"), stream=True) == "cut"
    error = {"error": {"message": "m", "code": "response_cut", "type": "t", "param": None}}
    assert asked(chunk("It is") + event(error), stream=True) == "cut: response_cut"
    lied = {"error": {**error["error"], "code": "verification_failed"}, "attestation": EVIDENCE}
    assert asked(chunk("It is") + event(lied), stream=True) == "cut: verification_failed"
    with pytest.raises(AssertionError, match="receipt"):
        asked(whole, stream=True)  # cut, but it looks complete
    with pytest.raises(AssertionError, match="receipt"):
        asked(event({**error, "attestation": EVIDENCE}), stream=True)
    with pytest.raises(AssertionError):
        asked(chunk("It is", "stop", attestation=None) + END, stream=True)


def test_a_refusal_has_openai_s_form_and_no_other_status():
    error = {"error": {"message": "m", "type": "t", "param": None, "code": "busy"}}
    assert asked(json.dumps(error), status=503) == "503 busy"
    forged = {"error": {**error["error"], "code": "response_forged"}}
    wrong = (500, error), (502, forged), (503, {"detail": "no"}), (503, {"error": {"code": "x"}})
    for status, body in wrong:
        with pytest.raises((AssertionError, KeyError)):
            asked(json.dumps(body), status=status)


def books(**wrong):
    """Six answers, two orders that came to nothing: one came back."""
    return Ledger(**{"drawn": 24, "kept": 16, "spent": 7, "given_back": 1, **wrong})


def judged(after):
    outcomes = Outcomes()
    outcomes.counts.update({("chat", "answered"): 6, ("chat", "503 busy"): 2})
    soak = SimpleNamespace(outcomes=outcomes, broken=[("device lies", 1.0)])
    assert_no_token_is_lost_or_doubled(soak, Ledger(0, 0, 0, 0), after)


def test_books_that_add_up_are_well():
    judged(books())


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"kept": 19}, "doubled"),
        ({"given_back": 0, "kept": 18}, "doubled"),
        ({"kept": 11}, "lost"),
        ({"spent": 6, "kept": 17}, "not paid"),
    ],
    ids=str,
)
def test_a_token_too_many_or_too_few_is_seen(wrong, why):
    with pytest.raises(AssertionError, match=why):
        judged(books(**wrong))


@pytest.mark.parametrize("more", [(1, 0, 0), (0, 200, 0), (0, 0, 100)])
def test_what_leaks_is_seen(more):
    held = {"relay": Held(1, 40, 50)}
    assert_nothing_leaks(held, held)
    then = {"relay": Held(*(a + b for a, b in zip((1, 40, 50), more, strict=True)))}
    with pytest.raises(AssertionError):
        assert_nothing_leaks(held, then)


def test_the_same_number_asks_the_same_and_all_kinds_come():
    orders = [traffic.order(1, number) for number in range(400)]
    assert orders == [traffic.order(1, number) for number in range(400)]
    assert {order.kind for order in orders} == traffic.KINDS.keys()


def test_every_fault_comes_once_a_round():
    kinds = Plan(0, 1, 1.0).kinds_of_fault
    scheduled = faults.schedule(random.Random(1), kinds)
    drawn = [next(scheduled) for _ in range(2 * len(kinds))]
    assert sorted(f.__name__ for f in drawn) == sorted(2 * [f.__name__ for f in kinds])
