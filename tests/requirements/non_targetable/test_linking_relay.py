"""Relay and workers, each alone and together: what links a request to a user, or to another one.

Several users' clients, whole, in one world of simulated parties whose memories are compared. Relay
and a node's host together know which address used the node, by design: one ciphertext crosses both.
All else must be a guess.
"""

import asyncio
import json
import random
import time
from collections import Counter

import httpx
import pytest
from chances import interval
from simulator import World

from client.canonical import canonical_body
from client.exchange import InnerRequest
from tests.client.conftest import Client
from wire import bhttp, padding

USERS = 6
REQUESTS = 8
"""Of each user."""
WINDOW = 6
"""Bytes that two requests must have in common, and no others, to be thought of one user."""


class Carried:
    """One request as three parties saw it; `user` is the address that the relay saw."""

    def __init__(self, user, ciphertext, opened, asked):
        self.user, self.ciphertext, self.opened, self.asked = user, ciphertext, opened, asked


@pytest.fixture(autouse=True)
def one_minute(monkeypatch):
    """A minute that ends meanwhile would divide requests, by chance and not by user."""
    minute = int(time.time()) // 60 * 60
    monkeypatch.setattr("client.transport._this_minute", lambda: minute)


def everybody(body_of, *, requests=REQUESTS):
    """Let users ask `body_of(user, number)` in random order; return what was carried."""
    world, carried = World(), []
    [node] = world.nodes
    gateway = node.gateway

    def watching(ciphertext):
        user, asked = current
        carried.append(Carried(user, ciphertext, None, asked))
        parts = gateway(ciphertext)
        carried[-1].opened = node.seen[-1]
        return parts

    node.gateway = watching
    order = [(user, number) for user in range(USERS) for number in range(requests)]
    random.Random(7).shuffle(order)
    current = None

    async def main():
        nonlocal current
        async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app())) as http:
            users = [Client(world, http) for _ in range(USERS)]
            for user in users:
                await user.wallet.refill()
            for user, number in order:
                current = user, number
                await users[user].send(body_of(user, number))

    asyncio.run(main())
    return carried


def say(text, **members):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **members}


def ours(user, _):
    """What leaves the proxy, whatever the caller put in."""
    caller = {"user": f"user-{user}", "metadata": {"who": str(user)}, "prompt_cache_key": f"{user}"}
    return canonical_body(say("Hello", **caller))


def as_it_came(user, _):
    """Unsafe: the caller's own members cross."""
    return json.dumps(say("Hello", user=f"user-{user * 7919}")).encode()


# ---- worker alone, its TEE broken: which requests are one user's? ----


def windows(opened):
    raw = opened.raw
    return {raw[at : at + WINDOW] for at in range(len(raw) - WINDOW + 1)}


def paired(carried):
    """For each request name the one that has most in common with it, beyond what all have."""
    sets = [windows(each.opened) for each in carried]
    counts = Counter(window for each in sets for window in each)
    rare = [{w for w in each if 1 < counts[w] <= 2 * REQUESTS} for each in sets]
    generator, right = random.Random(8), 0
    for i, own in enumerate(rare):
        others = [j for j in range(len(rare)) if j != i]
        generator.shuffle(others)
        # Fewer windows are a random byte or two beside what all have in common.
        best = max(others, key=lambda j: shared if (shared := len(own & rare[j])) >= WINDOW else 0)
        right += carried[best].user == carried[i].user
    return right


def test_two_requests_of_one_user_have_nothing_in_common(report):
    carried = everybody(ours)
    low, high = interval(paired(carried), len(carried))
    chance = (REQUESTS - 1) / (len(carried) - 1)
    report(
        f"worker with a broken TEE, pairs of one user: {low:.3f} to {high:.3f}, chance {chance:.3f}"
    )
    assert low <= chance <= high


def test_they_have_where_the_callers_members_cross(report):
    carried = everybody(as_it_came)
    right = paired(carried)
    report(f"the same where a caller's members cross (unsafe): {right} of {len(carried)}")
    assert right == len(carried)


# ---- relay alone: what was asked? ----


PROMPTS = ("Hello", "Please compare these two contracts, clause by clause, and be thorough. " * 20)


def asked_one_of_two(user, number):
    return canonical_body(say(PROMPTS[(user * 31 + number * 17) % 2]))


def guessed_by_length(carried):
    """Whether a request is the longer one of two, judged by the length of the ciphertext."""
    lengths = sorted({len(each.ciphertext) for each in carried})
    generator, right = random.Random(9), 0
    for each in carried:
        truth = (each.user * 31 + each.asked * 17) % 2
        shorter = len(each.ciphertext) == lengths[0]
        guess = generator.randrange(2) if len(lengths) == 1 else int(not shorter)
        right += guess == truth
    return right


def test_a_relay_cannot_tell_two_prompts_of_one_class(report):
    carried = everybody(asked_one_of_two, requests=12)
    low, high = interval(guessed_by_length(carried), len(carried))
    report(f"relay alone, which of two prompts: {low:.3f} to {high:.3f}, chance 0.5")
    assert low <= 0.5 <= high


def test_a_relay_tells_them_by_length_without_padding(monkeypatch, report):
    def bare(self):
        return bhttp.encode_request(self.message())

    monkeypatch.setattr(InnerRequest, "encode", bare)
    carried = everybody(asked_one_of_two, requests=3)
    right = guessed_by_length(carried)
    report(f"relay alone, without padding (unsafe): {right} of {len(carried)}")
    assert right == len(carried)


# ---- relay and the host of a node ----


def test_relay_and_host_link_address_and_node_and_nothing_of_the_content(report):
    """By design: what the one carried is what the other received. It stays closed to both."""
    carried = everybody(asked_one_of_two, requests=2)
    by_host = {each.ciphertext: each for each in carried}
    right = sum(by_host[each.ciphertext].user == each.user for each in carried)
    report(f"relay + host of the node, by the ciphertext: {right} of {len(carried)} (by design)")
    assert right == len(carried)
    for each in carried:
        request = each.opened.request
        closed = (request.body, request.tokens[0].nonce, request.tokens[0].signature)
        assert not [part for part in closed if part[:16] in each.ciphertext]
    assert len({len(each.ciphertext) for each in carried}) == 1
    assert min(padding.REQUEST_CLASSES) < len(carried[0].ciphertext)


@pytest.mark.parametrize("field", ["enc", "raw"])
def test_no_two_requests_are_the_same_bytes(field):
    carried = everybody(ours, requests=2)
    assert len({getattr(each.opened, field) for each in carried}) == len(carried)
