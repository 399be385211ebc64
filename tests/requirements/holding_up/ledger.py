"""Where every token is: drawn, in the wallet, spent, given back. Nothing is lost or doubled."""

import re
from dataclasses import dataclass

import asyncpg
import httpx
from sqlalchemy.engine import make_url

from sottovoce.local import PROXY


@dataclass(frozen=True)
class Ledger:
    """What the parties' own books say at one moment."""

    drawn: int
    """Paid for by the account."""
    kept: int
    """In the proxy's wallet."""
    spent: int
    """Rows of the spent-token store."""
    given_back: int
    """Rows that were bound to a message: a token was, or may be, signed for each."""

    @property
    def lost(self):
        """Tokens that are nowhere; below zero it would be one too many."""
        return self.drawn + self.given_back - self.kept - self.spent

    @property
    def paid(self):
        """Tokens that went for good."""
        return self.spent - self.given_back

    def since(self, before):
        """Return what happened between two moments."""
        return Ledger(*(getattr(self, n) - getattr(before, n) for n in self.__annotations__))


async def read(stack):
    """Read all books."""
    remaining = await ask(stack, "issuer", "SELECT sum(quota - remaining) FROM accounts")
    spent = await ask(stack, "spent", "SELECT count(*) FROM spent")
    bound = await ask(stack, "spent", "SELECT count(binding) FROM spent")
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{stack.local.url(PROXY)}/metrics")).text
    kept = int(re.search(r"^sottovoce_proxy_tokens (\d+)$", text, re.MULTILINE)[1])
    return Ledger(int(remaining), kept, spent, bound)


async def ask(stack, party, question):
    """Return the one number that a party's database answers."""
    url = make_url(stack.local.database(party))
    if url.get_backend_name() == "sqlite":
        return stack.ask_sqlite(party, question)
    connection = await asyncpg.connect(
        user=url.username, database=url.database, host=url.query["host"]
    )
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()
