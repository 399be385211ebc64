"""Tokens over time: two keys, exchange, refund, and the price foreseen."""

import json
from itertools import pairwise

import pytest
from simulator import ACCOUNT_KEY, MODEL, refund, refuse, unlogged_key

from client.errors import IssuerError, ResponseForged, WalletEmpty
from client.pricing import Pricing
from client.wallet import BATCH, EXCHANGE_AHEAD_S
from wire import inner, privacy_pass
from wire.token_life import EXCHANGE_S

STREAM = b'{"model":"tiny","stream":true,"messages":[]}'


async def rotate(client, world):
    """Let the log vouch for a newer key, and the client know it."""
    world.rotate()
    client.directory._current = client.directory._seen = None  # as if an epoch had passed
    return privacy_pass.key_id(world.issuer_key.spki)


# ---- two keys ----


def test_tokens_are_drawn_under_the_newest_key_and_shown_before_older_ones(run, world):
    async def scenario(client):
        new = await rotate(client, world)
        await client.wallet.refill()
        return new, await client.wallet.take(BATCH), await client.wallet.take(1)

    new, first, [then] = run(scenario)
    assert {token.key_id for token in first} == {new}
    assert then.key_id != new


def test_tokens_of_two_keys_are_never_shown_together(run, world):
    async def scenario(client):
        await rotate(client, world)
        await client.wallet.refill()
        await client.wallet.take(BATCH - 2)
        four = await client.wallet.take(4)  # of the newest there are only two
        await client.wallet.take(BATCH - 4 - 1)
        with pytest.raises(WalletEmpty):
            await client.wallet.take(4, wait_s=0.05)  # two of one key and one of the other
        return four

    assert len({token.key_id for token in run(scenario)}) == 1


def test_a_request_that_needs_more_gets_all_of_one_key(run, world):
    async def scenario(client):
        shown = await client.wallet.take(1)
        same = await client.wallet.take_more(shown, 4)
        await client.wallet.take(BATCH - 4 - 1)
        await rotate(client, world)
        await client.wallet.refill()
        other = await client.wallet.take_more(shown, 4)  # of the old key one is left
        return shown, same, other

    [shown], same, other = run(scenario)
    assert same[0] == shown
    assert len(same) == len(other) == 4
    assert {token.key_id for token in same} == {shown.key_id}
    assert len({token.key_id for token in other} | {shown.key_id}) == 2


# ---- exchange ----


def test_left_tokens_of_a_key_about_to_retire_become_tokens_of_the_newest(run, world):
    async def scenario(client):
        new = await rotate(client, world)
        old = {stored.token for stored in client.wallet._stock}
        while await client.wallet.exchange():
            pass
        return new, old, [stored.token for stored in client.wallet._stock]

    new, old, tokens = run(scenario)
    assert len(tokens) == BATCH
    assert {token.key_id for token in tokens} == {new}
    assert len(world.exchanged) == BATCH
    shown = {body[: privacy_pass.TOKEN_LENGTH] for _, body in world.exchanged}
    assert shown == {token.encode() for token in old}
    # Nothing says whose they are: no account key, and a connection of its own.
    for headers, body in world.exchanged:
        assert "authorization" not in headers
        assert ACCOUNT_KEY.encode() not in body


def test_nothing_is_exchanged_while_the_key_has_long_to_live(run, world, monkeypatch):
    monkeypatch.setattr("client.wallet.EXCHANGE_AHEAD_S", 3600)

    async def scenario(client):
        await rotate(client, world)
        return await client.wallet.exchange()

    assert run(scenario) is False
    assert EXCHANGE_AHEAD_S == 86_400


def test_an_exchange_without_an_answer_is_asked_again_with_the_same_bytes(run, world):
    async def scenario(client):
        await rotate(client, world)
        world.exchange_status = 503
        for _ in range(3):
            with pytest.raises(IssuerError):
                await client.wallet.exchange()
        world.exchange_status = 200
        await client.wallet.exchange()
        return len(client.wallet)

    assert run(scenario) == BATCH
    bodies = [body for _, body in world.exchanged]
    assert all(one == other for one, other in pairwise(bodies))


@pytest.mark.parametrize("status", [403, 409, 422])
def test_a_token_that_the_issuer_calls_worthless_is_forgotten(run, world, status):
    async def scenario(client):
        await rotate(client, world)
        world.exchange_status = status
        with pytest.raises(IssuerError, match=str(status)):
            await client.wallet.exchange()
        world.exchange_status = 200
        await client.wallet.exchange()
        return len(client.wallet)

    assert run(scenario) == BATCH - 1


def test_an_exchange_signed_with_an_unlogged_key_is_caught(run, world):
    async def scenario(client):
        await rotate(client, world)
        world.issuer_key = unlogged_key()
        with pytest.raises(IssuerError, match="logged key"):
            await client.wallet.exchange()
        return len(client.wallet)

    assert run(scenario) == BATCH - 1


def test_a_retired_keys_tokens_are_kept_for_the_exchange_and_not_shown(run, monkeypatch):
    async def scenario(client):
        end = client.wallet._stock[0].not_after
        wallet = client.wallet
        monkeypatch.setattr("client.wallet.time.time", lambda: end + 1)
        with pytest.raises(WalletEmpty):
            await wallet.take(1, wait_s=0.05)
        wallet._drop_worthless()
        kept = len(wallet._stock)
        monkeypatch.setattr("client.wallet.time.time", lambda: end + EXCHANGE_S)
        wallet._drop_worthless()
        return kept, len(wallet._stock)

    assert run(scenario) == (BATCH, 0)


# ---- refund ----


def four_tokens(stream):
    """A request that is foreseen to cost four tokens."""
    return json.dumps(
        {"model": MODEL, "messages": [], "max_tokens": 1300, "n": 10, "stream": stream}
    ).encode()


@pytest.mark.parametrize("streamed", [False, True])
def test_what_a_request_did_not_use_is_in_the_stock_after_it(run, world, streamed):
    world.nodes[0].answers.append(refund(world.issuer_key.blind_sign, 3))

    async def scenario(client):
        answer, _ = await client.send(four_tokens(streamed))
        return answer.status, len(client.wallet), client.wallet.given_back

    assert run(scenario) == (200, BATCH - 4 + 3, 3)
    [opened] = world.nodes[0].seen
    assert len(opened.request.tokens) == len(opened.request.blinded.messages) == 4


def test_a_refund_signed_with_an_unlogged_key_is_no_token(run, world):
    world.nodes[0].answers.append(refund(unlogged_key().blind_sign, 1))

    async def scenario(client):
        answer, _ = await client.send()
        return answer.status, len(client.wallet), client.wallet.given_back

    assert run(scenario) == (200, BATCH - 1, 0)


def test_a_refund_of_the_wrong_length_is_a_forgery(run, world):
    def short(node, opened):
        opened.request.blinded.__dict__["messages"] *= 2  # a node that counts wrong
        yield from refund(world.issuer_key.blind_sign, 1)(node, opened)

    world.nodes[0].answers.append(short)

    async def scenario(client):
        with pytest.raises(ResponseForged, match="refund"):
            await client.send()
        return client.wallet.given_back

    assert run(scenario) == 0


def test_tries_of_one_request_carry_the_same_blinded_messages(run, world):
    needs = refuse(401, "more_tokens", ((inner.TOKENS_NEEDED_FIELD, b"2"),))
    world.nodes[0].answers += [refuse(503, "busy"), needs]

    async def scenario(client):
        await client.send()

    run(scenario)
    first, second, third = (opened.request for opened in world.nodes[0].seen)
    assert (first.tokens, first.blinded) == (second.tokens, second.blinded)
    assert len(third.tokens) == len(third.blinded.messages) == 2


# ---- price ----


@pytest.mark.parametrize(
    ("members", "count"),
    [
        ({"messages": []}, 1),
        ({"messages": [], "max_tokens": 3900}, 1),
        ({"messages": [], "max_tokens": 4096}, 2),
        ({"messages": [], "max_completion_tokens": 1000, "max_tokens": 1, "n": 8}, 2),
        ({"prompt": ["a", "b", "c", "d"], "max_tokens": 4000}, 4),
        ({"prompt": [5, 6, 7, 8], "max_tokens": 4000}, 1),
        ({"messages": [], "max_tokens": 10**9}, 8),
        ({"messages": [], "max_tokens": "many", "n": None}, 1),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, 4),
    ],
)
def test_the_price_follows_from_the_body(members, count):
    assert Pricing().predict("m", json.dumps(members).encode(), 4096) == count


def test_the_length_of_prompts_is_learnt_from_answers():
    pricing, body = Pricing(), b'{"prompt":"' + b"x" * 9989 + b'"}'
    assert pricing.predict("m", body, 4096) == 1
    pricing.learn("m", body, 9000)
    assert pricing.predict("m", body, 4096) == 4
    assert pricing.predict("other", body, 4096) == 1
