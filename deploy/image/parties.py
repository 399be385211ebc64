"""All parties around a booted worker, on this machine: witnesses, log, issuer, relay and proxy.

The log's origin is no simulated one: what is listed in it was really quoted by a TPM. It accepts,
by name, that the host can read memory (`boot-only`) and that nobody checks the computation.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.image.start import MODEL, NAME, join
from engine.digest import model_digest
from engine.policy import engine_policy
from sottovoce import party_words
from sottovoce.engine_config import EngineOptions, worker_engine
from sottovoce.keys import public_key, write_seed
from sottovoce.local import (
    ISSUER,
    ISSUER_NAME,
    LOG,
    QUORUM,
    WITNESSES,
    Local,
    witness_name,
)
from sottovoce.publish import issuer_key_leaf, model_leaf, policy_leaf, publish, release_leaf
from sottovoce.supervisor import Party, Supervisor
from sottovoce.up import prepare_issuer
from transparency.note import KeyType, VerifierKey

ORIGIN = "log.sottovoce.invalid/boot"
ACCEPTED = ("boot-only", "compute-unverified")
LIST_EPOCH_S = 30
SPENT = 60
"""The offset of the port under which the spent-token store is reached from the machine."""

READY_S = 60.0


class PartiesError(Exception):
    """A party ended, or did not get ready in time."""


def write_trust(local: Local, root: bytes) -> None:
    """Make every key, and the trust file that pins them and the root of the TPMs' keys."""

    def made(role: str) -> bytes:
        return public_key(write_seed(local.seed(role)))

    log = VerifierKey(ORIGIN, KeyType.ED25519, made("log"))
    witnesses = [
        VerifierKey(witness_name(index), KeyType.COSIGNATURE, made(f"witness{index}"))
        for index in range(WITNESSES)
    ]
    lines = [
        f'[log]\norigin = "{ORIGIN}"\nkey = "{log}"',
        f"quorum = {QUORUM}\nlist_epoch_s = {LIST_EPOCH_S}",
        *(f'[[log.witnesses]]\nkey = "{witness}"' for witness in witnesses),
        "[roles]",
        *(f'{role} = "{made(role).hex()}"' for role in ("release", "issuer", "list")),
        f'[platforms]\ntpm = ["{root.hex()}"]',
        f'[issuer]\nname = "{ISSUER_NAME}"',
    ]
    local.trust.write_text("\n".join(lines) + "\n")


@contextmanager
def parties(local: Local) -> Iterator[Supervisor]:
    """Run witnesses, log, issuer and spent-token store."""
    supervisor = Supervisor(local.folder, _on_death)
    try:
        for index in range(WITNESSES):
            supervisor.start(f"witness{index}", *party_words.witness(local, index))
        supervisor.start("log", *party_words.log(local), *party_words.accepting(ACCEPTED))
        account = prepare_issuer(local)
        local.account_file.touch(0o600)
        local.account_file.write_text(account + "\n")
        supervisor.start("issuer", *party_words.issuer(local))
        supervisor.start("spent", *party_words.spent(local))
        for url in (*local.witness_urls, local.url(LOG), local.url(ISSUER)):
            wait_for_health(supervisor, url, READY_S)
        _carry_spent(local.spent_socket, local.port(SPENT))
        yield supervisor
    finally:
        supervisor.stop()


def start_path(supervisor: Supervisor, local: Local) -> None:
    """Start the relay before the machine's worker, and the client's proxy."""
    supervisor.start("relay", *party_words.relay(local))
    supervisor.start("proxy", *party_words.proxy(local, ACCEPTED))


def publish_release(local: Local, measurement: bytes, source: Path) -> None:
    """Put into the log what the machine may run: the image, its model, its engine's policy."""
    folder = source / MODEL.partition("dist-packages/")[2]
    config = worker_engine(folder, options=EngineOptions(verification="none"))
    release, log = local.seed("release"), local.url(LOG)
    publish(log, release, release_leaf([f"tpm={measurement.hex()}"]))
    publish(log, release, model_leaf(NAME, model_digest(config)))
    publish(log, release, policy_leaf(engine_policy(config)))
    publish(log, local.seed("issuer"), issuer_key_leaf(ISSUER_NAME, local.issuer_key))


def wait_for_health(supervisor: Supervisor, url: str, seconds: float) -> None:
    """Wait until a party answers.

    Raises:
        PartiesError: one ended meanwhile, or the time is over.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        supervisor.look()
        try:
            if (
                httpx.get(f"{url}/health", timeout=2.0, trust_env=False).status_code
                == httpx.codes.OK
            ):
                return
        except httpx.HTTPError:
            pass  # not there yet
        time.sleep(0.2)
    raise PartiesError(f"{url} did not get ready")


def worker_settings(local: Local, host: str, log_port: int | None = None) -> bytes:
    """Return the settings of a worker that sees this machine under the address `host`."""
    return "\n".join(
        [
            'address = "10.0.2.15/24"',
            f'gateway = "{host}"',
            f'log = "http://{host}:{log_port or local.port(LOG)}"',
            f'issuer = "http://{host}:{local.port(ISSUER)}"',
            f'spent = "{host}:{local.port(SPENT)}"',
        ]
    ).encode()


def _carry_spent(store: Path, port: int) -> None:
    """Show the store's socket on a port of the loopback, for as long as this process lives."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join((reader, writer), await asyncio.open_unix_connection(store))

    async def serve() -> None:
        server = await asyncio.start_server(carry, "127.0.0.1", port)
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()


def _on_death(party: Party, code: int) -> None:
    raise PartiesError(f"{party.name} ended with code {code}\n{party.last_words()}")
