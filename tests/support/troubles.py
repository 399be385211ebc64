"""What a person may meet at the start: each as a proxy that is in it, with what should be said."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving import serving
from simulator import ACCOUNT_KEY, World

from attestation.verifier.policy import ClientPolicy
from client.connection import CallerConnection
from client.proxy import ProxyConfig, build_app
from client.wallet import Wallet

ACCEPTED = frozenset({"simulated", "compute-unverified"})
NOBODY = "http://127.0.0.1:1"


@contextlib.contextmanager
def proxy_of(world, state, *, accepted=ACCEPTED, relay=None, account=ACCOUNT_KEY):
    with serving(world.app()) as issuer:
        config = ProxyConfig(
            trust=world.trust(),
            policy=ClientPolicy(accepted),
            relay_url=relay or issuer,
            issuer_url=issuer,
            account_key=account,
            state=state,
        )
        with serving(build_app(config), http=CallerConnection) as url:
            yield url


@dataclass(frozen=True)
class Trouble:
    """One trouble: the code and the cause that are told, and how to get into it."""

    code: str
    status: int
    cause: str
    enter: Callable[[World], dict] = lambda _: {}

    @contextlib.contextmanager
    def proxy(self, state, monkeypatch):
        """Yield the URL of a proxy that is in it, and impatient."""
        monkeypatch.setattr("client.nodes.RETRIES", 1)
        monkeypatch.setitem(Wallet.take.__kwdefaults__, "wait_s", 0.2)
        world = World()
        with proxy_of(world, **{"state": state, **self.enter(world)}) as url:
            yield url


def _expired(world):
    world.spoil_document = lambda _: old
    old = world.document(int(time.time()) - 7200)
    return {}


def _emptied(world):
    world.nodes.clear()
    return {}


TROUBLES = {
    "relay unreachable": Trouble(
        "unavailable", 503, "the relay cannot be reached", lambda _: {"relay": NOBODY}
    ),
    "expired log": Trouble("stale_epoch", 503, "the node list is refused", _expired),
    "no tokens left": Trouble(
        "wallet_empty", 429, "no token is left", lambda _: {"account": "of nobody"}
    ),
    "full disk": Trouble(  # simulated by a folder in which no file can be made
        "state_unwritable", 503, "cannot be written", lambda _: {"state": Path("/proc")}
    ),
    "node list empty": Trouble(
        "node_list_empty", 503, "node list of this epoch is empty", _emptied
    ),
    "simulated without permission": Trouble(
        "simulated_refused",
        503,
        "every node of this log is simulated",
        lambda _: {"accepted": frozenset()},
    ),
}
