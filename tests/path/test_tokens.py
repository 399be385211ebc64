"""Tokens that pay: more for a larger request, and back what it did not use; real processes."""

import json
import time

import httpx
import pytest
from path_user import run

from client.blinded import messages
from client.exchange import Exchange, InnerRequest
from wire import inner
from wire.refund import REFUSED

pytestmark = pytest.mark.xdist_group("stack")

PATH = b"/v1/completions"
LARGE = {"model": "tinychat", "prompt": "Hello", "n": 8, "max_tokens": 600, "stop": ["."]}
"""May use 4,800 tokens and more, of a budget of 4,096; uses far fewer."""


async def ask(user, node, count, *, tokens=None):
    """Send `LARGE` with `count` tokens; return status, headers, and what came back."""
    tokens = await user.wallet.take(count) if tokens is None else tokens
    blinded = await user.wallet.blind(len(tokens))
    minute = int(time.time()) // 60 * 60
    body = json.dumps(LARGE).encode()
    request = InnerRequest(b"POST", PATH, body, minute, tokens, messages(blinded))
    exchange = await Exchange.open(user.http, user.relay, node, request)
    await exchange.body()
    await exchange.close()
    return exchange, tokens, blinded, exchange.signatures(count)


def test_too_few_tokens_are_told_how_many_and_nothing_is_spent(stack):
    async def scenario(user):
        node = (await user.directory.current()).nodes[0]
        refused, tokens, _, nothing = await ask(user, node, 1)
        needed = dict(refused.head.headers)[inner.TOKENS_NEEDED_FIELD]
        both = await user.wallet.take_more(tokens, int(needed))
        paid, *_ = await ask(user, node, 2, tokens=both)
        return refused.head.status, needed, nothing, both[:1] == tokens, paid.head.status

    assert run(stack, scenario) == (401, b"2", (), True, 200)


def test_what_a_request_did_not_use_comes_back_and_can_be_spent(stack):
    async def scenario(user):
        node = (await user.directory.current()).nodes[0]
        _, _, blinded, signatures = await ask(user, node, 4)
        before = len(user.wallet)
        await user.wallet.take_back(blinded, signatures)
        came_back = len(user.wallet) - before
        tokens = [stored.token for stored in user.wallet._stock[-2:]]
        again, *_ = await ask(user, node, 2, tokens=tokens)
        return [one != REFUSED for one in signatures], came_back, again.head.status

    assert run(stack, scenario) == ([True, True, True, False], 3, 200)


def test_the_proxy_foresees_the_price_and_takes_back_the_rest(stack):
    url = stack.base_url.removesuffix("/v1") + "/verification"
    before = httpx.get(url, trust_env=False).json()["tokens_given_back"]
    for streamed in (False, True):
        request = {**LARGE, "stream": streamed}
        answer = httpx.post(
            f"{stack.base_url}/completions", json=request, timeout=60, trust_env=False
        )
        assert answer.status_code == 200, answer.text
    after = httpx.get(url, trust_env=False).json()["tokens_given_back"]
    assert after == before + 2


def test_the_budget_stands_in_the_logged_key_document(stack):
    async def scenario(user):
        return {node.key_document.token_budget for node in (await user.directory.current()).nodes}

    assert run(stack, scenario) == {4096}
