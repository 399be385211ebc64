"""The wallet: tokens come ahead of need, go out once, and only logged keys may sign them."""

import asyncio
import json
import stat

import pytest
from simulator import unlogged_key

from client.errors import IssuerError, WalletEmpty
from client.wallet import BATCH, LOW_WATER, Wallet
from wire import privacy_pass


def test_a_refill_is_one_batch_of_distinct_valid_tokens(run, world):
    async def scenario(client):
        return await client.wallet.take(BATCH)

    tokens = run(scenario)
    assert len({token.nonce for token in tokens}) == BATCH
    digest = privacy_pass.TokenChallenge.decode(world.issuer_leaf().challenge).digest
    for token in tokens:
        privacy_pass.verify_token(token, world.issuer_key.spki, digest)


def test_a_request_waits_for_a_refill_and_never_causes_one(run):
    async def scenario(client):
        with pytest.raises(WalletEmpty):
            await client.wallet.take(1, wait_s=0.05)
        waiting = asyncio.create_task(client.wallet.take(1))
        await client.wallet.refill()
        return await waiting

    assert len(run(scenario, filled=False)) == 1


def test_the_keeper_fills_up_to_the_low_water_mark(run, monkeypatch):
    monkeypatch.setattr("client.wallet.PAUSE_S", (0.0, 0.01))

    async def scenario(client):
        keeper = asyncio.create_task(client.wallet.keep_filled())
        while len(client.wallet) < LOW_WATER:  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.01)
        keeper.cancel()
        return len(client.wallet)

    assert run(scenario, filled=False) >= LOW_WATER


def test_an_issuer_that_signs_with_an_unlogged_key_is_caught(run, world):
    world.issuer_key = unlogged_key(world)

    async def scenario(client):
        with pytest.raises(IssuerError, match="logged key"):
            await client.wallet.refill()
        return len(client.wallet)

    assert run(scenario, filled=False) == 0


def test_an_issuer_that_refuses_is_named(run):
    async def scenario(client):
        client.wallet._authorization = "Bearer nobody"
        with pytest.raises(IssuerError, match="401"):
            await client.wallet.refill()

    run(scenario, filled=False)


def test_the_stock_survives_a_restart_in_a_private_file(run, tmp_path):
    path = tmp_path / "wallet.json"

    async def scenario(client):
        options = {
            "issuer_url": "http://issuer",
            "account_key": client.wallet._authorization.split()[1],
            "issuer_keys": client.directory.issuer_keys,
            "http": client.http,
            "path": path,
        }
        first = Wallet(**options)
        await first.refill()
        [taken] = await first.take(1)
        return taken, Wallet(**options)._stock

    taken, stock = run(scenario, filled=False)
    assert len(stock) == BATCH - 1
    assert taken not in [stored.token for stored in stock]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(json.loads(path.read_text())) == BATCH - 1


def test_expired_tokens_are_not_shown(run, monkeypatch):
    async def scenario(client):
        latest = max(stored.not_after for stored in client.wallet._stock)
        monkeypatch.setattr("client.wallet.time.time", lambda: latest + 1)
        with pytest.raises(WalletEmpty):
            await client.wallet.take(1, wait_s=0.05)

    run(scenario)
