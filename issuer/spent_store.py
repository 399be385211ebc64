"""The rows of spent tokens in their database.

A row is SHA-256(key id || nonce). Beside it stand the key id, the minute of its arrival and a
claim: a hash that lets a worker which lost the answer ask again, and says nothing, not even which
rows arrived together, to one who does not know the random spend id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, column, delete, select, table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from issuer.database import Database, Schema, Store
from issuer.errors import KeyRetired, Spent

SCHEMA = Schema(
    "sottovoce spent tokens",
    (
        (
            """CREATE TABLE spent (
                row {bytes} PRIMARY KEY,
                key_id {bytes} NOT NULL,
                claim {bytes} NOT NULL,
                arrival BIGINT NOT NULL)""",
            "CREATE INDEX spent_by_key ON spent (key_id)",
            "CREATE TABLE retired (key_id {bytes} PRIMARY KEY)",
        ),
    ),
)

_SPENT = table(
    "spent",
    column("row", LargeBinary),
    column("key_id", LargeBinary),
    column("claim", LargeBinary),
    column("arrival", BigInteger),
)
_RETIRED = table("retired", column("key_id", LargeBinary))

# Both know `ON CONFLICT DO NOTHING`, which SQLAlchemy spells once for each.
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class Spend:
    """Tokens to be spent together. `spend_id` is random, and the same again only to ask again."""

    spend_id: bytes
    key_id: bytes
    rows: tuple[bytes, ...]


class SpentStore(Store):
    """The rows of spent tokens. Racing spends of one row have one winner."""

    schema = SCHEMA

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._insert = _INSERT[database.dialect]

    async def spend(self, spend: Spend, *, at: int) -> None:
        """Add all rows of `spend`, or none; on the disk when this returns. `at`: unix seconds.

        The same spend again succeeds again and adds nothing.

        Raises:
            Spent: a row was there already, or stands twice in `spend`.
            KeyRetired: the key takes no more.
            DatabaseUnavailable: the database did not answer. Ask again with the same spend id.
        """
        claims = _claims(spend)
        async with self._database.transaction() as connection:
            await _require_current(connection, spend.key_id)
            inserted = await self._add(connection, spend.key_id, claims, at)
            if inserted == len(spend.rows):
                return
            # An exception undoes the rows that were added beside those that were not.
            if inserted > 0 or await _recorded(connection, claims) != claims:
                raise Spent("a token was spent before")

    async def retire(self, key_id: bytes) -> int:
        """Drop the rows of a retired key and refuse it from now on; return how many there were.

        Asked again, it drops what a spend racing with the first call may have left.
        """
        remember = self._insert(_RETIRED).values(key_id=key_id).on_conflict_do_nothing()
        async with self._database.transaction() as connection:
            await connection.execute(remember)
        async with self._database.transaction() as connection:
            dropped = await connection.execute(delete(_SPENT).where(_SPENT.c.key_id == key_id))
        return dropped.rowcount

    async def _add(
        self, connection: AsyncConnection, key_id: bytes, claims: Mapping[bytes, bytes], at: int
    ) -> int:
        arrival = at - at % 60  # the minute is enough to bill by and too coarse to match requests
        # In sorted order: two spends of the same rows then wait for each other in one direction.
        values = [
            {"row": row, "key_id": key_id, "claim": claim, "arrival": arrival}
            for row, claim in sorted(claims.items())
        ]
        insert = self._insert(_SPENT).values(values).on_conflict_do_nothing()
        return len((await connection.execute(insert.returning(_SPENT.c.row))).all())


def _claims(spend: Spend) -> dict[bytes, bytes]:
    rows = sorted(spend.rows)
    whole = hashlib.sha256(spend.spend_id + spend.key_id + b"".join(rows)).digest()
    return {row: hashlib.sha256(whole + row).digest() for row in rows}


async def _require_current(connection: AsyncConnection, key_id: bytes) -> None:
    query = select(_RETIRED.c.key_id).where(_RETIRED.c.key_id == key_id)
    if (await connection.execute(query)).first() is not None:
        raise KeyRetired("the tokens' key is retired")


async def _recorded(
    connection: AsyncConnection, claims: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    query = select(_SPENT.c.row, _SPENT.c.claim).where(_SPENT.c.row.in_(claims))
    return dict((await connection.execute(query)).all())
