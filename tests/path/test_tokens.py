"""Tokens that pay: more for a larger request, and back what it did not use; real processes."""

import json
import time

import httpx
import pytest
from path_user import run

from client.blinded import messages
from client.exchange import InnerRequest
from client.token_file import StoredToken
from issuer.keys import IssuerKey, create_key_file
from sottovoce.local import ISSUER, ISSUER_NAME, LOG
from sottovoce.publish import issuer_key_leaf, publish
from wire import inner
from wire.privacy_pass import ISSUER_DIRECTORY_PATH
from wire.refund import REFUSED
from wire.token_life import KeyPeriod

pytestmark = pytest.mark.xdist_group("stack")

LIST_EPOCH_S = 5  # of the stack
PATH = b"/v1/completions"
LARGE = {
    "model": "tinychat",
    "prompt": "Hello",
    "n": 8,
    "max_tokens": 600,
    "stop": ["e", "a", "o", " "],
}
"""May use 4,800 tokens and more, of a budget of 4,096; uses far fewer."""


SMALL = {"model": "tinychat", "prompt": "Hello", "max_tokens": 2}


async def ask(user, node, count, *, tokens=None, body=LARGE):
    """Send `body` with `count` tokens; return status, headers, and what came back."""
    tokens = await user.wallet.take(count) if tokens is None else tokens
    blinded = await user.wallet.blind(len(tokens))
    minute = int(time.time()) // 60 * 60
    content = json.dumps(body).encode()
    request = InnerRequest(b"POST", PATH, content, minute, tokens, messages(blinded))
    exchange = await user.open(node, request)
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


def test_a_new_issuer_key_takes_over_while_everything_runs(stack, monkeypatch):
    """Published, then served; tokens of both keys pay, and the old ones can be exchanged."""
    # Of a key that lives for 90 days, all tokens are close to their end now.
    monkeypatch.setattr("client.wallet.EXCHANGE_AHEAD_S", 91 * 86_400)
    local, issuer = stack.local, stack.supervisor.parties["issuer"]
    next_key, now = local.folder / "next.pem", int(time.time())
    with IssuerKey.from_file(local.issuer_key) as current:
        taken = {current.truncated_key_id}
    create_key_file(next_key, KeyPeriod(now, now + 90 * 86_400), unlike=taken)

    async def before(user):
        return await user.wallet.take(3)

    old = run(stack, before)
    publish(local.url(LOG), local.seed("issuer"), issuer_key_leaf(ISSUER_NAME, next_key))
    issuer.arguments = (*issuer.arguments, "--key", str(next_key))
    for name in ("issuer", "worker0", "worker1"):  # which would ask for the keys within minutes
        stack.process(name).kill()
        stack.process(name).wait()
    stack.until(lambda: issuer_keys(stack) == 2)
    time.sleep(LIST_EPOCH_S)
    stack.until(stack.serves)

    async def after(user):
        node = (await user.directory.current()).nodes[0]
        new = await user.wallet.take(1)
        statuses = []
        for tokens in (old[:1], new):
            exchange, *_ = await ask(user, node, 1, tokens=tokens, body=SMALL)
            statuses.append(exchange.head.status)
        mixed, *_ = await ask(user, node, 2, tokens=[old[1], *await user.wallet.take(1)])
        user.wallet._stock = [StoredToken(old[2], now + 90 * 86_400 - 1)]
        exchanged = await user.wallet.exchange()
        [swapped] = await user.wallet.take(1)
        paid, *_ = await ask(user, node, 1, tokens=[swapped], body=SMALL)
        again, *_ = await ask(user, node, 1, tokens=old[2:], body=SMALL)
        keys = new[0].key_id == swapped.key_id != old[0].key_id
        return [*statuses, mixed.head.status, paid.head.status, again.head.status, exchanged, keys]

    # Old, new; both in one request; what was exchanged for, and what was exchanged.
    assert run(stack, after) == [200, 200, 401, 200, 401, True, True]


def issuer_keys(stack):
    try:
        url = stack.local.url(ISSUER) + ISSUER_DIRECTORY_PATH
        return len(httpx.get(url, trust_env=False).json()["token-keys"])
    except httpx.HTTPError:
        return 0
