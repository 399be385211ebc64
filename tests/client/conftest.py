"""A client whose relay and issuer are a simulated world, without sockets."""

import asyncio

import httpx
import pytest
from simulator import ACCOUNT_KEY, World

from attestation.verifier.policy import ClientPolicy
from client.exchange import Relay
from client.nodes import NodeDirectory
from client.transport import Transport
from client.wallet import Wallet

ACCEPTED = frozenset({"simulated", "compute-unverified"})


class Client:
    """The client's parts around one world."""

    def __init__(self, world, http, *, state=None, accepted=ACCEPTED):
        self.world, self.http, self.verdicts = world, http, []
        self.directory = NodeDirectory(
            trust=world.trust(),
            policy=ClientPolicy(accepted_weaknesses=accepted),
            relay_url="http://relay",
            http=http,
            state=state,
        )
        self.wallet = Wallet(
            issuer_url="http://issuer",
            account_key=ACCOUNT_KEY,
            issuer_keys=self.directory.issuer_keys,
            http=http,
            anonymous=lambda: httpx.AsyncClient(transport=httpx.ASGITransport(world.app())),
        )
        app = httpx.ASGITransport(world.app(), raise_app_exceptions=True)
        self.transport = Transport(
            directory=self.directory, wallet=self.wallet, relay=Relay("http://relay", app)
        )

    async def send(self, body=b'{"model":"tiny","messages":[]}', path=b"/v1/chat/completions"):
        """Send one request; return the answer and all its payloads."""
        answer = await self.transport.send(
            path, body, model="tiny", on_verdict=self.verdicts.append
        )
        return answer, [payload async for payload in answer.payloads]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def run(world):
    """Run `scenario(client)` with a filled wallet and return its result."""

    def run(scenario, *, filled=True, **options):
        async def main():
            transport = httpx.ASGITransport(world.app(), raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport) as http:
                client = Client(world, http, **options)
                if filled:
                    await client.wallet.refill()
                return await scenario(client)

        return asyncio.run(main())

    return run
