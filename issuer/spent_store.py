"""The rows of spent tokens in their database.

A row is SHA-256(key id || nonce). Beside it stand the key id, the minute of its arrival and a
claim: the hash of the row's ticket (`wire.refund`). It lets a worker which lost the answer ask
again, and says nothing, not even which rows arrived together, to one who does not know the random
spend id.

What may be signed again for a spent token is conserved here: a row takes one binding, the hash of
one blinded message, in its life. A refund sets it later, an exchange at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    LargeBinary,
    column,
    delete,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from issuer.database import Database, Schema, Store
from issuer.errors import KeyRetired, Spent
from wire.refund import ticket_hash, tickets

REFUND_WINDOW_S = 3600
"""How long after a spend its token can be given back. A request takes minutes; a ticket that
leaked later is worth nothing."""

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
        (
            "ALTER TABLE spent ADD COLUMN binding {bytes}",
            "CREATE INDEX spent_by_claim ON spent (claim)",
        ),
    ),
)

_SPENT = table(
    "spent",
    column("row", LargeBinary),
    column("key_id", LargeBinary),
    column("claim", LargeBinary),
    column("arrival", BigInteger),
    column("binding", LargeBinary),
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


@dataclass(frozen=True)
class Refund:
    """A ticket, and the hash of the blinded message that is to be signed for it."""

    ticket: bytes
    binding: bytes


class SpentStore(Store):
    """The rows of spent tokens. Racing spends of one row have one winner."""

    schema = SCHEMA

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._insert = _INSERT[database.dialect]

    async def spend(self, spend: Spend, *, at: int, binding: bytes | None = None) -> None:
        """Add all rows of `spend`, or none; on the disk when this returns. `at`: unix seconds.

        The same spend again succeeds again and adds nothing. With a `binding` (an exchange) the
        rows are given back in the same moment and cannot be a second time; the same spend with
        another binding, or with none before, is refused.

        Raises:
            Spent: a row was there already, or stands twice in `spend`.
            KeyRetired: the key takes no more.
            DatabaseUnavailable: the database did not answer. Ask again with the same spend id.
        """
        claims = _claims(spend)

        def work(connection: Connection) -> None:
            _require_current(connection, spend.key_id)
            inserted = self._add(connection, spend.key_id, claims, at, binding)
            if inserted == len(spend.rows):
                return
            # An exception undoes the rows that were added beside those that were not.
            if inserted > 0 or _recorded(connection, claims, binding) != claims:
                raise Spent("a token was spent before")

        await self._database.run(work)

    async def refund(self, refunds: Sequence[Refund], *, at: int) -> list[bool]:
        """Bind each ticket to its blinded message; return for which that message may be signed.

        It may if the ticket's token was spent within `REFUND_WINDOW_S` and the ticket is bound to
        no other message. Asked again, the answer is the same.

        Raises:
            DatabaseUnavailable: the database did not answer. Ask again.
        """
        granted = set()

        def work(connection: Connection) -> None:
            # In sorted order, like the rows of a spend.
            for refund in sorted(set(refunds), key=lambda one: (one.ticket, one.binding)):
                bind = (
                    update(_SPENT)
                    .where(
                        _SPENT.c.claim == ticket_hash(refund.ticket),
                        _SPENT.c.arrival >= at - REFUND_WINDOW_S,
                        or_(_SPENT.c.binding.is_(None), _SPENT.c.binding == refund.binding),
                    )
                    .values(binding=refund.binding)
                    .returning(_SPENT.c.row)
                )
                if connection.execute(bind).first() is not None:
                    granted.add(refund)

        await self._database.run(work)
        return [refund in granted for refund in refunds]

    async def retire(self, key_id: bytes) -> int:
        """Drop the rows of a retired key and refuse it from now on; return how many there were.

        Asked again, it drops what a spend racing with the first call may have left.
        """
        remember = self._insert(_RETIRED).values(key_id=key_id).on_conflict_do_nothing()
        drop = delete(_SPENT).where(_SPENT.c.key_id == key_id)
        await self._database.run(lambda connection: connection.execute(remember).close())
        return await self._database.run(lambda connection: connection.execute(drop).rowcount)

    def _add(
        self,
        connection: Connection,
        key_id: bytes,
        claims: Mapping[bytes, bytes],
        at: int,
        binding: bytes | None,
    ) -> int:
        arrival = at - at % 60  # the minute is enough to bill by and too coarse to match requests
        # In sorted order: two spends of the same rows then wait for each other in one direction.
        values = [
            {"row": row, "key_id": key_id, "claim": claim, "arrival": arrival, "binding": binding}
            for row, claim in sorted(claims.items())
        ]
        # One row is written as one: SQLAlchemy compiles a list of rows anew each time.
        written = values[0] if len(values) == 1 else values
        insert = self._insert(_SPENT).values(written).on_conflict_do_nothing()
        return len(connection.execute(insert.returning(_SPENT.c.row)).all())


def _claims(spend: Spend) -> dict[bytes, bytes]:
    made = tickets(spend.spend_id, spend.key_id, spend.rows)
    return dict(zip(spend.rows, map(ticket_hash, made), strict=True))


def _require_current(connection: Connection, key_id: bytes) -> None:
    query = select(_RETIRED.c.key_id).where(_RETIRED.c.key_id == key_id)
    if connection.execute(query).first() is not None:
        raise KeyRetired("the tokens' key is retired")


def _recorded(
    connection: Connection, claims: Mapping[bytes, bytes], binding: bytes | None
) -> dict[bytes, bytes]:
    query = select(_SPENT.c.row, _SPENT.c.claim).where(_SPENT.c.row.in_(claims))
    if binding is not None:
        # Else one who spent a token under the spend id of its exchange would still hold a ticket.
        query = query.where(_SPENT.c.binding == binding)
    return dict(connection.execute(query).all())
