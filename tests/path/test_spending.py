"""A token spends once and a request computes once, however often and through whomever they come."""

import asyncio
import time

import pytest
from path_user import run
from tap import Tap

from sottovoce.local import RELAY

pytestmark = pytest.mark.xdist_group("stack")

RACERS = 8


def test_a_token_spends_once_under_racing_attempts(stack):
    async def scenario(user):
        nodes = (await user.directory.current()).nodes
        tokens = await user.wallet.take(1)
        request = await user.request(tokens)
        racing = [user.ask(nodes[i % len(nodes)], request) for i in range(RACERS)]
        return await asyncio.gather(*racing)

    statuses = sorted(status for status, _ in run(stack, scenario))
    assert statuses == [200] + [401] * (RACERS - 1)


def test_the_same_bytes_compute_once_however_many_relays_carry_them(stack):
    async def scenario(user):
        node = (await user.directory.current()).nodes[0]
        with Tap(stack.local.port(RELAY)) as tap:
            request = await user.request(await user.wallet.take(1))
            first = await user.ask(node, request, relay=tap.url)
            raw = b"".join(tap.requests)
        body = raw[raw.index(b"\r\n\r\n") + 4 :]
        url = f"{user.relay}/{node.key_document.node}"
        headers = {"content-type": "message/ohttp-chunked-req", "incremental": "?1"}
        again = [user.http.post(url, content=body, headers=headers) for _ in range(RACERS)]
        return first, await asyncio.gather(*again)

    (status, _), replays = run(stack, scenario)
    assert status == 200
    # The outer status must not tell; an answer to a replay is short: no completion is in it.
    assert {replay.status_code for replay in replays} == {200}
    assert len({len(replay.content) for replay in replays}) == 1


@pytest.mark.parametrize("offset", [-86_400, 86_400])
def test_a_clock_off_by_a_day_is_told_the_time_and_nothing_is_spent(stack, offset):
    async def scenario(user):
        node = (await user.directory.current()).nodes[0]
        tokens = await user.wallet.take(1)
        wrong = await user.request(tokens, date=(int(time.time()) + offset) // 60 * 60)
        refused = await user.ask(node, wrong)
        return refused, await user.ask(node, await user.request(tokens))

    (status, body), (then, _) = run(stack, scenario)
    assert status == 400
    assert b"#date" in body
    assert then == 200


def test_a_forged_token_is_an_inner_401(stack):
    async def scenario(user):
        node = (await user.directory.current()).nodes[0]
        [token] = await user.wallet.take(1)
        forged = type(token)(bytes(32), token.challenge_digest, token.key_id, token.signature)
        return await user.ask(node, await user.request([forged]))

    status, _ = run(stack, scenario)
    assert status == 401
