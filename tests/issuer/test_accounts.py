"""Accounts and quotas, on both databases."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from issuer.accounts import SCHEMA, Accounts, add_account
from issuer.database import Database
from issuer.errors import QuotaExhausted, UnknownAccount

pytestmark = pytest.mark.anyio


@pytest.fixture
async def accounts(database_url: str) -> AsyncIterator[Accounts]:
    accounts = await Accounts.open(database_url)
    yield accounts
    await accounts.close()


async def test_a_quota_is_drawn_to_its_end_and_no_further(accounts: Accounts) -> None:
    account_key = await accounts.add(2)
    await accounts.charge(account_key)
    await accounts.charge(account_key)
    for _ in range(2):
        with pytest.raises(QuotaExhausted):
            await accounts.charge(account_key)
    assert await accounts.remaining(account_key) == 0


async def test_a_refund_can_be_drawn_again(accounts: Accounts) -> None:
    account_key = await accounts.add(1)
    await accounts.charge(account_key)
    await accounts.refund(account_key)
    await accounts.charge(account_key)


async def test_accounts_are_separate(accounts: Accounts) -> None:
    one, other = await accounts.add(1), await accounts.add(1)
    assert one != other
    await accounts.charge(one)
    assert await accounts.remaining(other) == 1


@pytest.mark.parametrize("account_key", ["", "sv-", "' OR 1=1 --", "\0"])
async def test_an_unknown_key_draws_nothing(accounts: Accounts, account_key: str) -> None:
    await accounts.add(1)
    with pytest.raises(UnknownAccount):
        await accounts.charge(account_key)
    with pytest.raises(UnknownAccount):
        await accounts.remaining(account_key)


@pytest.mark.parametrize("quota", [0, -1, 2**53 + 1])
async def test_a_quota_out_of_range_is_refused(accounts: Accounts, quota: int) -> None:
    with pytest.raises(ValueError, match="quota"):
        await accounts.add(quota)


async def test_eight_racing_charges_of_two_processes_never_overdraw(database_url: str) -> None:
    # Two openings of one database share no connection, lock or memory: as two processes.
    both = [await Accounts.open(database_url) for _ in range(2)]
    account_key = await both[0].add(3)
    charges = [both[number % 2].charge(account_key) for number in range(8)]
    outcomes = await asyncio.gather(*charges, return_exceptions=True)
    remaining = await both[1].remaining(account_key)
    for accounts in both:
        await accounts.close()
    assert outcomes.count(None) == 3
    assert sum(isinstance(outcome, QuotaExhausted) for outcome in outcomes) == 5
    assert remaining == 0


async def test_the_database_holds_a_hash_and_two_numbers(
    accounts: Accounts, database_url: str
) -> None:
    account_key = await accounts.add(5)
    await accounts.charge(account_key)
    database = await Database.open(database_url, SCHEMA)
    async with database.transaction() as connection:
        rows = (await connection.execute(text("SELECT * FROM accounts"))).all()
    await database.close()
    assert rows == [(hashlib.sha256(account_key.encode()).digest(), 5, 4)]


async def test_an_account_added_from_outside_is_known_at_once(
    accounts: Accounts, database_url: str
) -> None:
    account_key = await asyncio.to_thread(add_account, database_url, 1)
    await accounts.charge(account_key)
