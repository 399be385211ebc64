"""Accounts and their quotas: who may draw how many tokens.

This is all an issuer keeps, and all it could be made to hand over: the SHA-256 of each account key,
the quota granted and what remains of it. No time, address or blinded message is written anywhere,
so the database cannot tell when an account drew, let alone which tokens.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets

from sqlalchemy import BigInteger, LargeBinary, column, insert, select, table, update

from issuer.database import Schema, Store
from issuer.errors import QuotaExhausted, UnknownAccount

MAX_QUOTA = 2**53
"""So that every quota is exact in JSON as well."""

SCHEMA = Schema(
    "sottovoce issuer accounts",
    (
        (
            """CREATE TABLE accounts (
                key_hash {bytes} PRIMARY KEY,
                quota BIGINT NOT NULL,
                remaining BIGINT NOT NULL CHECK (remaining >= 0))""",
        ),
    ),
)

_ACCOUNTS = table(
    "accounts",
    column("key_hash", LargeBinary),
    column("quota", BigInteger),
    column("remaining", BigInteger),
)


def add_account(url: str, quota: int) -> str:
    """Open an account for `quota` tokens in the database at `url`; return its account key.

    The key is shown this once: the database holds only its hash. For use outside an event loop;
    inside one there is `Accounts.add`.

    Raises:
        ValueError: `quota` is not between 1 and `MAX_QUOTA`.
        DatabaseUnusable: see `Database.open`.
        DatabaseUnavailable: the database did not answer.
    """
    return asyncio.run(_add_account(url, quota))


async def _add_account(url: str, quota: int) -> str:
    accounts = await Accounts.open(url)
    try:
        return await accounts.add(quota)
    finally:
        await accounts.close()


class Accounts(Store):
    """The accounts of one issuer. Racing calls, also of several processes, never overdraw."""

    schema = SCHEMA

    async def add(self, quota: int) -> str:
        """Open an account; see `add_account`."""
        if not 1 <= quota <= MAX_QUOTA:
            raise ValueError(f"a quota is a number from 1 to {MAX_QUOTA}")
        account_key = "sv-" + secrets.token_urlsafe(32)
        values = {"key_hash": _hash(account_key), "quota": quota, "remaining": quota}
        async with self._database.transaction() as connection:
            await connection.execute(insert(_ACCOUNTS).values(values))
        return account_key

    async def charge(self, account_key: str) -> None:
        """Take one token from the account's quota.

        Raises:
            UnknownAccount: nobody was given this key.
            QuotaExhausted: nothing remains.
            DatabaseUnavailable: the database did not answer; the token may be gone.
        """
        key_hash = _hash(account_key)
        # One statement, so that two requests cannot both see the last token.
        take_one = (
            update(_ACCOUNTS)
            .where(_ACCOUNTS.c.key_hash == key_hash, _ACCOUNTS.c.remaining > 0)
            .values(remaining=_ACCOUNTS.c.remaining - 1)
            .returning(_ACCOUNTS.c.remaining)
        )
        exists = select(_ACCOUNTS.c.quota).where(_ACCOUNTS.c.key_hash == key_hash)
        async with self._database.transaction() as connection:
            if (await connection.execute(take_one)).first() is not None:
                return
            if (await connection.execute(exists)).first() is None:
                raise UnknownAccount("no such account")
            raise QuotaExhausted("the account's quota is used up")

    async def refund(self, account_key: str) -> None:
        """Give back one token that was charged and not issued."""
        give_back = (
            update(_ACCOUNTS)
            .where(_ACCOUNTS.c.key_hash == _hash(account_key))
            .values(remaining=_ACCOUNTS.c.remaining + 1)
        )
        async with self._database.transaction() as connection:
            await connection.execute(give_back)

    async def remaining(self, account_key: str) -> int:
        """Return how many tokens the account may still draw; raises UnknownAccount."""
        query = select(_ACCOUNTS.c.remaining).where(_ACCOUNTS.c.key_hash == _hash(account_key))
        async with self._database.transaction() as connection:
            remaining: int | None = (await connection.execute(query)).scalar_one_or_none()
        if remaining is None:
            raise UnknownAccount("no such account")
        return remaining


def _hash(account_key: str) -> bytes:
    # A plain hash serves: a key of 256 random bits cannot be found by guessing.
    return hashlib.sha256(account_key.encode()).digest()
