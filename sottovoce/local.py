"""One machine, all parties: the keys, files and addresses of a `sottovoce up`.

Everything lies in one folder, made at the start and removed at the end. One person holding every
key can prove nothing to anybody; that is why the log's origin ends in `.simulated` and everything
says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sottovoce.keys import public_key, write_seed
from transparency.note import KeyType, VerifierKey

LOG_ORIGIN = "log.sottovoce.invalid/local.simulated"
ISSUER_NAME = "issuer.sottovoce.invalid"
WITNESSES = 3
QUORUM = 2

PROXY, RELAY, ISSUER, LOG, WORKER, DIRECT, WITNESS = 0, 1, 2, 3, 4, 50, 100
"""Port offsets from `--port-base`; workers, their direct ports and witnesses count up."""


@dataclass(frozen=True)
class Local:
    """Where everything is."""

    folder: Path
    port_base: int
    workers: int

    def url(self, offset: int) -> str:
        """Return the loopback URL of the party at a port offset."""
        return f"http://127.0.0.1:{self.port_base + offset}"

    def port(self, offset: int) -> int:
        """Return the port at an offset."""
        return self.port_base + offset

    def seed(self, role: str) -> Path:
        """Return the seed file of a role."""
        return self.folder / f"{role}.seed"

    def directory(self, party: str) -> Path:
        """Return the folder of a party, made if need be."""
        folder = self.folder / party
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def database(self, party: str) -> str:
        """Return the database URL of a party."""
        return f"sqlite:///{self.directory(party) / 'database'}"

    @property
    def account_file(self) -> Path:
        """The file with the local account's key."""
        return self.folder / "account.key"

    @property
    def direct_keys(self) -> Path:
        """The file with the hash of the direct ports' API key."""
        return self.folder / "direct.keys"

    @property
    def issuer_key(self) -> Path:
        """The issuer's token key."""
        return self.folder / "issuer.pem"

    @property
    def trust(self) -> Path:
        """The trust file."""
        return self.folder / "trust.toml"

    @property
    def profile(self) -> Path:
        """The `client.toml` of a client in Python, with a wallet of its own."""
        return self.folder / "client.toml"

    @property
    def spent_socket(self) -> Path:
        """The spent-token store's unix socket."""
        return self.folder / "spent.sock"

    @property
    def worker_urls(self) -> list[str]:
        """The addresses of the workers."""
        return [self.url(WORKER + index) for index in range(self.workers)]

    @property
    def witness_urls(self) -> list[str]:
        """The addresses of the witnesses, in the order of the trust file."""
        return [self.url(WITNESS + index) for index in range(WITNESSES)]


def prepare(local: Local, *, list_epoch_s: int) -> None:
    """Make every key and write the trust file."""
    log = VerifierKey(LOG_ORIGIN, KeyType.ED25519, _new_key(local, "log"))
    roles = {role: _new_key(local, role) for role in ("release", "issuer", "list")}
    witnesses = [
        VerifierKey(name, KeyType.COSIGNATURE, _new_key(local, f"witness{index}"))
        for index, name in enumerate(map(witness_name, range(WITNESSES)))
    ]
    root = hashlib.sha256(_new_key(local, "platform")).hexdigest()
    lines = [
        "# Written by `sottovoce up`: one person holds every key behind it. It proves nothing.",
        "[log]",
        f'origin = "{LOG_ORIGIN}"',
        f'key = "{log}"',
        f"quorum = {QUORUM}",
        f"list_epoch_s = {list_epoch_s}",
        *(f'[[log.witnesses]]\nkey = "{witness}"' for witness in witnesses),
        "[roles]",
        *(f'{role} = "{key.hex()}"' for role, key in roles.items()),
        "[platforms]",
        f'simulated = ["{root}"]',
        "[issuer]",
        f'name = "{ISSUER_NAME}"',
    ]
    local.trust.write_text("\n".join(lines) + "\n")


def profile_text(local: Local, accepted: Sequence[str]) -> str:
    """Write the profile of a client of these parties; `accepted` are weaknesses."""
    members = {
        "trust": local.trust.name,
        "relay": local.url(RELAY),
        "issuer": local.url(ISSUER),
        "account-key": local.account_file.name,
        "state": "client",
    }
    lines = [f'{name} = "{member}"' for name, member in members.items()]
    return "\n".join([*lines, f"accept = {json.dumps(list(accepted))}"]) + "\n"


def _new_key(local: Local, role: str) -> bytes:
    return public_key(write_seed(local.seed(role)))


def witness_name(index: int) -> str:
    """Return the key name of a local witness."""
    return f"witness{index}.sottovoce.invalid/local"
