"""What clients ask during a soak, by number: the same number asks the same again.

Each answer is judged at once. It is whole and right, or it is refused in OpenAI's form, or it broke
off so that nobody could take it for whole; anything else is an `AssertionError` of the soak.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

import httpx
from canary import canary

from tests.path.test_completions import check_attestation

MODEL = "tinychat"
TIMEOUT_S = 100.0
QUESTIONS = (
    "What is sottovoce?",
    "Who can read my prompt?",
    "What does the relay see?",
    "What is a receipt?",
    "How do I start it?",
    "What are tokens for?",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        },
    },
}
HELD = "node-list-age", "skip"
REFUSALS = {429, 502, 503, 504}
"""What a client may be told while something is broken; never 500, never 200 without an answer."""


@dataclass(frozen=True)
class Order:
    """One request: what is sent, and what its answer must be."""

    kind: str
    path: str
    body: dict
    leave_after: int | None = None
    """Lines of a stream after which the client hangs up."""
    pause_s: float = 0.0
    """What a slow client waits after each of the first lines."""

    @property
    def question(self):
        """The name under which the answer is the same each time; None if it is drawn."""
        return f"{self.path} {self.body['messages'][0]['content']}" if self.kind in GREEDY else None


def chat(question, **members):
    message = {"role": "user", "content": question}
    return {"model": MODEL, "max_tokens": 24, "temperature": 0, "messages": [message], **members}


def _greedy(chance):
    return chat(chance.choice(QUESTIONS))


KINDS = {
    "chat": (8, lambda chance: Order("chat", "chat/completions", _greedy(chance))),
    "streamed": (
        8,
        lambda chance: Order("streamed", "chat/completions", {**_greedy(chance), "stream": True}),
    ),
    "completion": (
        3,
        lambda chance: Order(
            "completion",
            "completions",
            {"model": MODEL, "prompt": chance.choice(QUESTIONS), "max_tokens": 16},
        ),
    ),
    "many": (
        2,
        lambda chance: Order(
            "many", "chat/completions", {**_greedy(chance), "n": 3, "temperature": 1}
        ),
    ),
    "tools": (
        1,
        lambda chance: Order(
            "tools",
            "chat/completions",
            {**_greedy(chance), "tools": [TOOL], "tool_choice": "required", "max_tokens": 60},
        ),
    ),
    "schema": (
        1,
        lambda chance: Order(
            "schema", "chat/completions", {**_greedy(chance), "response_format": SCHEMA}
        ),
    ),
    "long": (
        2,
        lambda chance: Order("long", "chat/completions", chat("word " * chance.randint(100, 300))),
    ),
    "canary": (1, lambda chance: Order("canary", "chat/completions", chat(canary(chance)))),
    "aborted": (
        2,
        lambda chance: Order(
            "aborted",
            "chat/completions",
            chat(chance.choice(QUESTIONS), stream=True, ignore_eos=True, max_tokens=150),
            leave_after=chance.randint(1, 30),
        ),
    ),
    "slow": (
        1,
        lambda chance: Order(
            "slow", "chat/completions", {**_greedy(chance), "stream": True}, pause_s=0.2
        ),
    ),
}
GREEDY = {"chat", "streamed", "slow"}


def order(seed, number):
    """Return the order of a number."""
    chance = random.Random(f"{seed} {number}")
    weights = [weight for weight, _ in KINDS.values()]
    return chance.choices(list(KINDS.values()), weights)[0][1](chance)


@dataclass
class Outcomes:
    """What came of the orders so far."""

    counts: Counter = field(default_factory=Counter)
    greedy: dict = field(default_factory=dict)
    """The answer to each question that has one answer, as the first one gave it."""
    canaries: list = field(default_factory=list)
    gone: int = 0
    """Orders whose proxy went away."""

    @property
    def good(self):
        """Complete answers."""
        return sum(count for (_, what), count in self.counts.items() if what == "answered")

    @property
    def other(self):
        """Orders that may have cost tokens without a complete answer."""
        return sum(self.counts.values()) - self.good

    def kinds(self):
        """Return how often each kind of order was given."""
        return self._summed(lambda kind, _: kind)

    def refusals(self):
        """Return how often each thing came of an order."""
        return self._summed(lambda _, what: what)

    def _summed(self, by):
        counts = Counter()
        for key, count in self.counts.items():
            counts[by(*key)] += count
        return dict(sorted(counts.items()))


async def give(client, order, outcomes):
    """Send one order, judge what comes of it, and count it."""
    try:
        what = await (_stream if order.body.get("stream") else _whole)(client, order, outcomes)
    except httpx.HTTPError as error:
        what = f"broken: {type(error).__name__}"
        outcomes.gone += 1
    if order.kind == "canary":
        outcomes.canaries.append(order.body["messages"][0]["content"])
    outcomes.counts[order.kind, what] += 1
    return what


async def _whole(client, order, outcomes):
    response = await client.post(order.path, json=order.body)
    if response.status_code != 200:
        return refusal(response.status_code, response.content)
    check(order, response.json(), outcomes)
    return "answered"


async def _stream(client, order, outcomes):
    async with client.stream("POST", order.path, json=order.body) as response:
        if response.status_code != 200:
            return refusal(response.status_code, await response.aread())
        payloads = []
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                payloads.append(line[6:])
                if len(payloads) == order.leave_after:
                    return "left"
                if len(payloads) < 8:
                    await asyncio.sleep(order.pause_s)
    if not payloads or payloads[-1] != "[DONE]":
        return broken_off(payloads)
    check(order, joined([json.loads(each) for each in payloads[:-1]]), outcomes)
    return "answered"


def broken_off(payloads):
    """A stream without its end says so in an error, or the connection said it.

    No receipt is in it, but for the one of a failure that a node signs for.
    """
    error = {}
    if payloads and "error" in (last := json.loads(payloads[-1])):
        error = last["error"]
        assert error["message"], last
    signed = [each for each in payloads if '"receipt"' in each]
    assert signed == (payloads[-1:] if error.get("code") == "verification_failed" else []), signed
    return f"cut: {error['code']}" if error else "cut"


def refusal(status, content):
    """Return what was refused how; it is in OpenAI's form. Nobody forges here, whatever breaks."""
    assert status in REFUSALS, (status, content)
    error = json.loads(content)["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert error["code"] != "response_forged", error
    return f"{status} {error['code']}"


def joined(chunks):
    """Return the chunks of a stream as the one answer that they are."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    whole = {"message": {"content": text}, "finish_reason": reasons[-1] if reasons else None}
    return {"choices": [whole], "attestation": chunks[-1].get("attestation")}


def check_verified(attestation):
    """Every step passed; a list may be held while log or relay show none that is newer."""
    assert attestation, "a success without evidence"
    steps = attestation["verification"]
    made = [step for step in steps if (step["step"], step["outcome"]) != HELD]
    assert all(step["outcome"] == "pass" for step in made), made
    check_attestation({**attestation, "verification": made})


def check(order, answer, outcomes):
    """Whatever is called a success is complete, verified, and the right answer."""
    check_verified(answer["attestation"])
    assert len(answer["choices"]) == order.body.get("n", 1)
    assert all(choice["finish_reason"] for choice in answer["choices"]), answer
    if order.question is not None:
        text = answer["choices"][0]["message"]["content"]
        assert text, answer
        assert text == outcomes.greedy.setdefault(order.question, text), order.question
    elif order.kind == "tools":
        calls = answer["choices"][0]["message"].get("tool_calls")
        assert calls or answer["choices"][0]["finish_reason"] == "length", answer
    elif order.kind == "schema" and answer["choices"][0]["finish_reason"] == "stop":
        assert set(json.loads(answer["choices"][0]["message"]["content"])) == {"yes"}
