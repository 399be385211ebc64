"""The wallet: tokens come ahead of need, go out once, and only logged keys may sign them."""

import asyncio
import json
import stat
from dataclasses import replace

import pytest
from simulator import ACCOUNT_KEY, unlogged_key

from client.errors import IssuerError, StateUnwritable, WalletDamaged, WalletEmpty
from client.refill import LOW_WATER
from client.token_file import StoredToken, decode
from client.wallet import BATCH, DRAWN_AHEAD, Wallet
from wire import privacy_pass

TOKEN = privacy_pass.Token(bytes(32), bytes(32), bytes(32), bytes(256))


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
    world.issuer_key = unlogged_key()

    async def scenario(client):
        with pytest.raises(IssuerError, match="logged key"):
            await client.wallet.refill()
        return len(client.wallet)

    assert run(scenario, filled=False) == 0


def test_an_issuer_that_refuses_is_named(run):
    async def scenario(client):
        client.wallet._issuance._authorization = "Bearer nobody"
        with pytest.raises(IssuerError, match="401"):
            await client.wallet.refill()

    run(scenario, filled=False)


def wallet_at(client, path):
    return Wallet(
        issuer_url="http://issuer",
        account_key=ACCOUNT_KEY,
        issuer_keys=client.directory.issuer_keys,
        http=client.http,
        path=path,
    )


def test_the_stock_survives_a_restart_in_a_private_file(run, tmp_path):
    path = tmp_path / "wallet.json"

    async def scenario(client):
        first = wallet_at(client, path)
        await first.refill()
        [taken] = await first.take(1)
        first.close()
        return taken, wallet_at(client, path)._stock

    taken, stock = run(scenario, filled=False)
    assert len(stock) == BATCH - 1
    assert taken not in [stored.token for stored in stock]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(json.loads(path.read_text())) == BATCH - 1


def test_a_full_disk_loses_no_token_and_ends_with_the_disk(run, tmp_path, monkeypatch):
    """Simulated by a folder that is not there."""
    monkeypatch.setattr("client.wallet.PAUSE_S", (0.0, 0.01))
    monkeypatch.setattr("client.wallet.IDLE_PAUSE_S", (0.0, 0.01))
    folder = tmp_path / "state"
    folder.mkdir()

    async def scenario(client):
        wallet = wallet_at(client, folder / "wallet.json")
        await wallet.refill()
        folder.rename(tmp_path / "gone")
        keeper = asyncio.create_task(wallet.keep_filled())
        while wallet.last_error is None:  # noqa: ASYNC110 - a test may poll
            await asyncio.sleep(0.01)
        with pytest.raises(StateUnwritable, match="cannot be written: No such file"):
            await wallet.take(1)
        left = len(wallet)
        (tmp_path / "gone").rename(folder)
        while len(wallet) < LOW_WATER or wallet.last_error is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await wallet.take(1)
        keeper.cancel()
        return left

    assert run(scenario, filled=False) == BATCH


def test_an_answer_is_none_the_worse_for_a_refund_that_cannot_be_written(run, tmp_path, world):
    async def scenario(client):
        wallet = wallet_at(client, tmp_path / "nowhere" / "wallet.json")
        [blinded] = await wallet.blind(1)
        await wallet.take_back([blinded], [world.issuer_key.blind_sign(blinded.request.blinded)])
        return wallet.given_back, len(wallet), wallet.last_error

    given_back, held, error = run(scenario, filled=False)
    assert (given_back, held) == (1, 1)
    assert isinstance(error, StateUnwritable)


def test_a_crash_loses_some_tokens_and_shows_none_twice(run, tmp_path):
    path = tmp_path / "wallet.json"

    async def scenario(client):
        first = wallet_at(client, path)
        for _ in range(3):
            await first.refill()
        shown = [token for _ in range(DRAWN_AHEAD + 3) for token in await first.take(1)]
        return shown, [stored.token for stored in wallet_at(client, path)._stock]

    shown, left = run(scenario, filled=False)
    assert len({token.nonce for token in shown}) == DRAWN_AHEAD + 3
    assert not {token.nonce for token in shown} & {token.nonce for token in left}
    assert 3 * BATCH - len(shown) - DRAWN_AHEAD <= len(left) < 3 * BATCH - len(shown)


def test_most_requests_do_not_wait_for_the_file(run, tmp_path, monkeypatch):
    writes = []
    monkeypatch.setattr("client.token_file.write_private", lambda *_: writes.append(1))

    async def scenario(client):
        wallet = wallet_at(client, tmp_path / "wallet.json")
        for _ in range(3):
            await wallet.refill()
        await wallet._look()
        writes.clear()
        for _ in range(DRAWN_AHEAD // 4):
            await wallet.take(4)

    run(scenario, filled=False)
    assert writes == []


def test_tokens_drawn_ahead_of_a_newer_key_wait_behind_its_own(run):
    async def scenario(client):
        wallet = client.wallet
        wallet._draw_ahead()
        assert wallet._drawn
        old = wallet._drawn[0]
        newer = replace(old.token, key_id=bytes(32))
        await wallet._add(StoredToken(newer, old.not_after + 1))
        return newer, await wallet.take(1), len(wallet)

    newer, taken, left = run(scenario)
    assert taken == [newer]
    assert left == BATCH


DAMAGED = [
    b"",
    b"\xff",
    b"{}]",
    b"7",
    b"[7]",
    b'[{"token":"AAAA","not_after":1}]',
    b'[{"token":"A","not_after":1}]',
    b'[{"token":7,"not_after":1}]',
    b'[{"not_after":1}]',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_and_kept_aside(run, tmp_path, content):
    path = tmp_path / "wallet.json"
    path.write_bytes(content)

    async def scenario(client):
        with pytest.raises(WalletDamaged, match="was kept as"):
            wallet_at(client, path)
        return len(wallet_at(client, path))

    assert run(scenario) == 0
    [aside] = tmp_path.iterdir()
    assert aside.name.startswith("wallet.json.damaged-")
    assert aside.read_bytes() == content


@pytest.mark.parametrize("cut", range(0, 700, 70))
def test_a_file_that_is_cut_off_is_never_a_wallet(cut):
    stored = StoredToken(TOKEN, 10)
    written = f"[{stored.entry}]".encode()
    assert decode(written) == [stored]
    if cut < len(written):
        with pytest.raises(ValueError, match="not a wallet file"):
            decode(written[:cut])


def test_expired_tokens_are_not_shown(run, monkeypatch):
    async def scenario(client):
        latest = max(stored.not_after for stored in client.wallet._stock)
        monkeypatch.setattr("client.wallet.time.time", lambda: latest + 1)
        with pytest.raises(WalletEmpty):
            await client.wallet.take(1, wait_s=0.05)

    run(scenario)
