"""Spent tokens: one winner, all or none, asked again, retired; on both databases."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import text

from issuer.database import Database, Schema
from issuer.errors import KeyRetired, Spent
from issuer.spent_store import SCHEMA, Refund, Spend, SpentStore
from wire.refund import tickets

pytestmark = pytest.mark.anyio

NOW = 1_800_000_059
KEY = hashlib.sha256(b"key").digest()
A, B, C, D = (hashlib.sha256(name).digest() for name in (b"a", b"b", b"c", b"d"))


def spend(name: str, *rows: bytes, key_id: bytes = KEY) -> Spend:
    return Spend(hashlib.sha256(name.encode()).digest()[:16], key_id, rows)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SpentStore]:
    store = await SpentStore.open(database_url)
    yield store
    await store.close()


async def rows(database_url: str) -> Sequence[tuple[bytes, bytes, bytes, int]]:
    database = await Database.open(database_url, SCHEMA)
    async with database.transaction() as connection:
        query = text("SELECT row, key_id, claim, arrival FROM spent ORDER BY row")
        found = (await connection.execute(query)).all()
    await database.close()
    return found


async def test_a_token_is_spent_once(store: SpentStore) -> None:
    await store.spend(spend("first", A), at=NOW)
    with pytest.raises(Spent):
        await store.spend(spend("second", A), at=NOW)
    await store.spend(spend("third", B), at=NOW)


async def test_of_eight_racing_spends_by_two_processes_one_wins(database_url: str) -> None:
    # Two openings of one database share no connection, lock or memory: as two processes.
    both = [await SpentStore.open(database_url) for _ in range(2)]
    spends = [both[n % 2].spend(spend(f"worker {n}", A), at=NOW) for n in range(8)]
    outcomes = await asyncio.gather(*spends, return_exceptions=True)
    for store in both:
        await store.close()
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, Spent) for outcome in outcomes) == 7


async def test_racing_spends_of_the_same_rows_in_any_order_do_not_lock_each_other_out(
    store: SpentStore, database_url: str
) -> None:
    orders = [(A, B, C, D), (D, C, B, A), (B, D, A, C), (C, A, D, B)]
    spends = [store.spend(spend(f"worker {n}", *orders[n % 4]), at=NOW) for n in range(8)]
    outcomes = await asyncio.gather(*spends, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, Spent) for outcome in outcomes) == 7
    assert len(await rows(database_url)) == 4


async def test_overlapping_spends_leave_whole_spends_only(
    store: SpentStore, database_url: str
) -> None:
    pairs = [(A, B), (B, C), (C, D), (D, A)]
    spends = [store.spend(spend(f"worker {n}", *pair), at=NOW) for n, pair in enumerate(pairs)]
    outcomes = await asyncio.gather(*spends, return_exceptions=True)
    expected = {
        row
        for pair, outcome in zip(pairs, outcomes, strict=True)
        if outcome is None
        for row in pair
    }
    assert {row for row, *_ in await rows(database_url)} == expected
    assert all(outcome is None or isinstance(outcome, Spent) for outcome in outcomes)


async def test_one_spent_row_of_many_adds_none(store: SpentStore, database_url: str) -> None:
    await store.spend(spend("first", C), at=NOW)
    with pytest.raises(Spent):
        await store.spend(spend("second", A, B, C, D), at=NOW)
    assert [row for row, *_ in await rows(database_url)] == [C]
    await store.spend(spend("third", A, B, D), at=NOW)


async def test_a_token_that_stands_twice_in_one_spend_is_refused(
    store: SpentStore, database_url: str
) -> None:
    for _ in range(2):
        with pytest.raises(Spent):
            await store.spend(spend("twice", A, A), at=NOW)
    assert not await rows(database_url)


async def test_asked_again_a_spend_succeeds_and_adds_nothing(
    store: SpentStore, database_url: str
) -> None:
    await store.spend(spend("first", A, B), at=NOW)
    before = await rows(database_url)
    await store.spend(spend("first", A, B), at=NOW + 600)
    await store.spend(spend("first", B, A), at=NOW + 600)
    assert await rows(database_url) == before


async def test_eight_racing_repetitions_of_one_spend_all_succeed(store: SpentStore) -> None:
    await asyncio.gather(*(store.spend(spend("first", A, B), at=NOW) for _ in range(8)))


@pytest.mark.parametrize("other", [(A,), (B,), (A, B, C), (A, C)])
async def test_a_spend_id_with_other_rows_is_another_spend(
    store: SpentStore, other: tuple[bytes, ...]
) -> None:
    await store.spend(spend("first", A, B), at=NOW)
    with pytest.raises(Spent):
        await store.spend(spend("first", *other), at=NOW)


async def test_a_spend_under_another_key_is_not_a_repetition(store: SpentStore) -> None:
    await store.spend(spend("first", A), at=NOW)
    with pytest.raises(Spent):
        await store.spend(replace(spend("first", A), key_id=B), at=NOW)


async def test_a_row_is_kept_with_key_minute_and_a_claim_of_its_own(
    store: SpentStore, database_url: str
) -> None:
    request = spend("first", A, B)
    await store.spend(request, at=NOW)
    kept = await rows(database_url)
    assert {(row, key_id, arrival) for row, key_id, _, arrival in kept} == {
        (A, KEY, 1_800_000_000),
        (B, KEY, 1_800_000_000),
    }
    claims = {claim for _, _, claim, _ in kept}
    assert len(claims) == 2
    assert request.spend_id not in b"".join(claims)


async def test_a_retired_key_loses_its_rows_and_takes_no_more(
    store: SpentStore, database_url: str
) -> None:
    other = hashlib.sha256(b"other key").digest()
    await store.spend(spend("first", A, B), at=NOW)
    await store.spend(spend("second", C, key_id=other), at=NOW)
    assert await store.retire(KEY) == 2
    assert await store.retire(KEY) == 0
    assert [row for row, *_ in await rows(database_url)] == [C]
    for again in (spend("first", A, B), spend("third", D)):
        with pytest.raises(KeyRetired):
            await store.spend(again, at=NOW)
    await store.spend(spend("fourth", D, key_id=other), at=NOW)
    assert await store.retire(bytes(32)) == 0


async def test_what_was_spent_stays_spent_when_the_store_is_opened_again(database_url: str) -> None:
    for name in ("first", "second"):
        store = await SpentStore.open(database_url)
        outcomes = await asyncio.gather(store.spend(spend(name, A), at=NOW), return_exceptions=True)
        await store.close()
    assert isinstance(outcomes[0], Spent)


async def test_a_store_of_the_first_release_keeps_its_rows(database_url: str) -> None:
    first = Schema(SCHEMA.name, SCHEMA.steps[:1])
    old = await Database.open(database_url, first)
    async with old.transaction() as connection:
        insert = text("INSERT INTO spent VALUES (:row, :key, :claim, :arrival)")
        values = {"row": A, "key": KEY, "claim": bytes(32), "arrival": NOW - NOW % 60}
        await connection.execute(insert, values)
    await old.close()
    store = await SpentStore.open(database_url)
    with pytest.raises(Spent):
        await store.spend(spend("second", A), at=NOW)
    await store.spend(spend("third", B), at=NOW)
    assert await store.retire(KEY) == 2
    await store.close()


async def test_refunds_of_a_retired_key_are_refused(store: SpentStore) -> None:
    request = spend("first", A)
    (ticket,) = tickets(request.spend_id, KEY, [A])
    await store.spend(request, at=NOW)
    await store.retire(KEY)
    assert await store.refund([Refund(ticket, B)], at=NOW) == [False]


async def test_racing_batches_with_the_same_tickets_in_any_order_bind_each_once(
    store: SpentStore,
) -> None:
    request = spend("first", A, B, C, D)
    due = tickets(request.spend_id, KEY, request.rows)
    await store.spend(request, at=NOW)
    batches = [
        [Refund(ticket, bytes([number]) * 32) for ticket in (due if number % 2 else due[::-1])]
        for number in range(8)
    ]
    answers = await asyncio.gather(*(store.refund(batch, at=NOW) for batch in batches))
    assert sum(sum(answer) for answer in answers) == len(due)
