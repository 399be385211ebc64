"""A database by URL, its schema brought up to date, and transactions that fail in our words.

SQLite in a file (write-ahead log) or PostgreSQL. A committed transaction is on the disk: a token
that is spent, or a quota that is drawn, stays so through a power cut.

Every database carries the name of the one schema it holds. Accounts and spent tokens must never
meet in one place, so opening a database that carries another name is refused.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Text,
    column,
    create_engine,
    event,
    insert,
    make_url,
    select,
    table,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from issuer.errors import DatabaseUnavailable, DatabaseUnusable

_T = TypeVar("_T")

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}
_BUSY_TIMEOUT_MS = 10_000  # another process (the account command) may hold SQLite's write lock
_BYTES = {"sqlite": "BLOB", "postgresql": "BYTEA"}
_MIGRATION_LOCK = 0x736F74746F766F63  # any constant: the lock that two starting processes share
_VERSIONS = table("schema_version", column("name", Text), column("version", BigInteger))


@dataclass(frozen=True)
class Schema:
    """A named schema as the steps that lead to it. Steps are only ever added, never changed.

    A step is the SQL statements of one version; `{bytes}` stands for the dialect's type of bytes.
    """

    name: str
    steps: Sequence[Sequence[str]]


class Database:
    """One opened database whose schema is the current one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._direct = _Direct(engine.url) if engine.dialect.name == "sqlite" else None
        self.dialect = engine.dialect.name
        """`sqlite` or `postgresql`."""

    @classmethod
    async def open(cls, url: str, schema: Schema) -> Self:
        """Open the database at `url` and migrate it to the last step of `schema`.

        Raises:
            DatabaseUnusable: the URL is none of ours, the database holds another schema, or one
                that a later release wrote.
            DatabaseUnavailable: the database did not answer.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            await asyncio.to_thread(_prepare_file, str(parsed.database))
        database = cls(_engine(parsed))
        try:
            async with database.transaction() as connection:
                await connection.run_sync(_migrate, schema)
        except BaseException:
            await database.close()
            raise
        return database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Run one transaction: committed at the end of the block, undone by any exception.

        Raises:
            DatabaseUnavailable: the database failed. If it did so while committing, nobody knows
                whether the transaction took place.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from None

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Run one transaction whose statements `work` executes; return what it returns.

        As `transaction`, but on SQLite the whole of it runs at once in a thread: there each
        statement of the other way waits for several changes of thread.

        Raises:
            DatabaseUnavailable: as `transaction` does.
        """
        if self._direct is not None:
            return await self._direct.run(work)
        async with self.transaction() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """Close every connection."""
        if self._direct is not None:
            await self._direct.close()
        await self._engine.dispose()


class _Direct:
    """One connection to an SQLite file, used by one thread, opened when it is first needed."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(
            url.set(drivername="sqlite"), hide_parameters=True, pool_size=1
        )
        event.listen(self._engine, "connect", _prepare_sqlite)
        event.listen(self._engine, "begin", _begin_immediate)
        self._thread = ThreadPoolExecutor(1)

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _transact(self, work: Callable[[Connection], _T]) -> _T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except (SQLAlchemyError, OSError) as error:
            raise _unavailable(error) from None


def _unavailable(error: Exception) -> DatabaseUnavailable:
    # Raised `from None`: a driver's message may hold the values of the statement.
    return DatabaseUnavailable(f"the database did not answer ({type(error).__name__})")


class Store:
    """What is kept in one database of one schema; a subclass names the schema and asks the rows."""

    schema: ClassVar[Schema]

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the store at `url`; raises what `Database.open` raises."""
        return cls(await Database.open(url, cls.schema))

    async def ping(self) -> None:
        """Ask the database for nothing; raises DatabaseUnavailable."""
        await self._database.run(lambda connection: connection.execute(select(1)).close())

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    except (ArgumentError, ValueError):
        # `from None`: the URL may hold a password.
        raise DatabaseUnusable("not a database URL") from None
    if parsed.drivername not in _DRIVERS.values():
        raise DatabaseUnusable("the database is neither SQLite nor PostgreSQL")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseUnusable("SQLite needs a file: what is in memory only would be forgotten")
    return parsed


def _engine(url: URL) -> AsyncEngine:
    # hide_parameters: the values of a statement are tokens' rows and accounts' hashes, and an
    # exception that shows them would carry them into a log.
    if url.get_backend_name() == "postgresql":
        settings = {"synchronous_commit": "on"}  # whatever the server's default: see above
        return create_async_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args={"server_settings": settings},
        )
    # SQLite writes one transaction at a time. Waiting for the one connection is fair; waiting for
    # a lock, which SQLite does by polling, is not.
    engine = create_async_engine(url, hide_parameters=True, pool_size=1, max_overflow=0)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _prepare_file(path: str) -> None:
    # The mode stays with the file. To set it SQLite wants the file alone and does not wait for it:
    # of two processes that start together, one must try again.
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            with closing(sqlite3.connect(path)) as connection:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise DatabaseUnavailable("the SQLite file cannot be opened") from None
            time.sleep(0.01)
        else:
            break
    if mode != "wal":
        raise DatabaseUnusable("the SQLite file is where no write-ahead log can be kept")


def _prepare_sqlite(connection: Any, _: object) -> None:  # noqa: ANN401 - a driver's connection
    connection.isolation_level = None  # the driver must not begin transactions of its own
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA synchronous = FULL")  # with WAL, anything less may lose a commit
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # Take the write lock first: a transaction that reads before it writes could not get it later.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection, schema: Schema) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS schema_version"
            " (name TEXT PRIMARY KEY, version BIGINT NOT NULL)"
        )
    )
    version = _recorded_version(connection, schema)
    for step in schema.steps[version:]:
        for statement in step:
            connection.execute(text(statement.format(bytes=_BYTES[connection.dialect.name])))
    connection.execute(update(_VERSIONS).values(version=len(schema.steps)))


def _recorded_version(connection: Connection, schema: Schema) -> int:
    recorded = dict(connection.execute(select(_VERSIONS.c.name, _VERSIONS.c.version)).all())
    if not recorded:
        connection.execute(insert(_VERSIONS).values(name=schema.name, version=0))
        return 0
    if recorded.keys() != {schema.name}:
        raise DatabaseUnusable(f"the database holds another schema than {schema.name!r}")
    version: int = recorded[schema.name]
    if version > len(schema.steps):
        raise DatabaseUnusable("the database was written by a later release")
    return version
