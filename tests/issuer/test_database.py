"""Databases by URL, their schemas, and failures in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from issuer.accounts import SCHEMA as ACCOUNTS
from issuer.database import Database, Schema
from issuer.errors import DatabaseUnavailable, DatabaseUnusable
from issuer.spent_store import SCHEMA as SPENT

pytestmark = pytest.mark.anyio

FIRST = ("CREATE TABLE things (name {bytes} PRIMARY KEY)", "INSERT INTO things VALUES ('a')")
SECOND = ("ALTER TABLE things ADD COLUMN size BIGINT NOT NULL DEFAULT 7",)


async def open_and_close(url: str, schema: Schema) -> None:
    await (await Database.open(url, schema)).close()


async def test_each_step_runs_once_and_a_later_one_is_caught_up_with(database_url: str) -> None:
    for schema in (Schema("things", (FIRST,)), Schema("things", (FIRST, SECOND))):
        for _ in range(2):
            await open_and_close(database_url, schema)
    database = await Database.open(database_url, Schema("things", (FIRST, SECOND)))
    async with database.transaction() as connection:
        rows = (await connection.execute(text("SELECT size FROM things"))).all()
    await database.close()
    assert rows == [(7,)]


async def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    schema = Schema("things", (FIRST, SECOND))
    await asyncio.gather(*(open_and_close(database_url, schema) for _ in range(4)))


async def test_a_failing_step_leaves_the_database_as_it_was(database_url: str) -> None:
    broken = Schema("things", (FIRST, ("CREATE TABLE more (n BIGINT)", "NOT SQL")))
    with pytest.raises(DatabaseUnavailable):
        await open_and_close(database_url, broken)
    await open_and_close(database_url, Schema("things", (FIRST, SECOND)))


async def test_accounts_and_spent_tokens_never_share_a_database(database_url: str) -> None:
    await open_and_close(database_url, ACCOUNTS)
    with pytest.raises(DatabaseUnusable, match="another schema"):
        await open_and_close(database_url, SPENT)


async def test_a_database_of_a_later_release_is_refused(database_url: str) -> None:
    await open_and_close(database_url, Schema("things", (FIRST, SECOND)))
    with pytest.raises(DatabaseUnusable, match="later release"):
        await open_and_close(database_url, Schema("things", (FIRST,)))


async def test_a_commit_is_durable_whatever_the_default(database_url: str) -> None:
    database = await Database.open(database_url, ACCOUNTS)
    setting = "PRAGMA synchronous" if database.dialect == "sqlite" else "SHOW synchronous_commit"
    async with database.transaction() as connection:
        value = (await connection.execute(text(setting))).scalar_one()
    await database.close()
    assert value in (2, "on")  # 2 is FULL


async def test_a_failure_names_neither_statement_nor_values(database_url: str) -> None:
    database = await Database.open(database_url, Schema("things", (FIRST,)))

    async def insert_twice() -> None:
        insert = text("INSERT INTO things VALUES (:name)")
        async with database.transaction() as connection:
            await connection.execute(insert, {"name": b"canary"})
            await connection.execute(insert, {"name": b"canary"})

    with pytest.raises(DatabaseUnavailable) as caught:
        await insert_twice()
    await database.close()
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://localhost/tokens",
        "sqlite+pysqlite:///tokens.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
async def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(DatabaseUnusable):
        await Database.open(url, ACCOUNTS)


async def test_a_password_in_a_bad_url_is_not_repeated() -> None:
    with pytest.raises(DatabaseUnusable) as caught:
        await Database.open("postgresql://user:canary@host:port/name", ACCOUNTS)
    assert "canary" not in str(caught.value)


async def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for url in (
        f"sqlite:///{tmp_path}/missing/file.sqlite",
        f"postgresql://nobody@/none?host={tmp_path}",
    ):
        with pytest.raises(DatabaseUnavailable):
            await Database.open(url, ACCOUNTS)


async def test_a_name_the_server_does_not_know_is_unavailable(
    new_database: Callable[[], str],
) -> None:
    url = new_database().replace("test", "absent").replace("sqlite:///", "sqlite:////absent/")
    with pytest.raises(DatabaseUnavailable):
        await Database.open(url, ACCOUNTS)
