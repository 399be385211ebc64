"""A client taken apart, so that a test can misuse its pieces on the real path."""

import asyncio
import time

import httpx

from attestation.verifier.policy import ClientPolicy
from client.exchange import Exchange, InnerRequest, Relay
from client.nodes import NodeDirectory
from client.prepared import prepare
from client.trust import load_trust
from client.wallet import Wallet
from sottovoce.local import ISSUER, RELAY

BODY = b'{"max_tokens":2,"model":"tinychat","prompt":"Hello"}'
PATH = b"/v1/completions"


class User:
    """A client taken apart, so that a test can misuse its pieces."""

    def __init__(self, stack, http):
        self.http, self.transport = http, httpx.AsyncHTTPTransport()
        self.relay = stack.local.url(RELAY)
        self.directory = NodeDirectory(
            trust=load_trust(stack.local.trust),
            policy=ClientPolicy(accepted_weaknesses=frozenset({"simulated", "compute-unverified"})),
            relay_url=self.relay,
            http=http,
        )
        self.wallet = Wallet(
            issuer_url=stack.local.url(ISSUER),
            account_key=stack.local.account_file.read_text().strip(),
            issuer_keys=self.directory.issuer_keys,
            http=http,
        )

    async def request(self, tokens, *, date=None):
        minute = int(time.time()) // 60 * 60 if date is None else date
        return InnerRequest(b"POST", PATH, BODY, minute, tokens)

    async def open(self, node, request, relay=None):
        way = Relay(relay or self.relay, self.transport)
        return await Exchange.open(way, node, request, prepare(node))

    async def ask(self, node, request, relay=None):
        exchange = await self.open(node, request, relay=relay)
        body = await exchange.body()
        await exchange.close()
        return exchange.head.status, body


def run(stack, scenario):
    async def main():
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            user = User(stack, http)
            await user.wallet.refill()
            async with user.transport:
                return await scenario(user)

    return asyncio.run(main())
