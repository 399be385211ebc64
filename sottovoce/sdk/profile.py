"""`client.toml`: whom a client believes and where the parties are, in one file.

trust = "trust.toml"                    # paths are relative to this file
relay = "https://relay.example"
issuer = "https://issuer.example"
account-key = "account.key"             # a file that holds the key
state = "state"                         # a folder of this client's own: its tokens are in it
policy = "policy.toml"                  # optional; else the strict default
accept = ["compute-unverified"]         # optional: weaknesses accepted beyond the policy
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from client.errors import ClientError
from client.proxy import ProxyConfig
from client.trust import load_policy, load_trust

MAX_PROFILE = 64 << 10
"""Bytes of the largest profile that is read; a real one has less than one KiB."""


class ProfileError(ClientError):
    """The profile cannot be used."""

    code = "profile_file"


class _Profile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    trust: Path
    relay: str
    issuer: str
    account_key: Path = Field(alias="account-key")
    state: Path
    policy: Path | None = None
    accept: frozenset[Weakness] = frozenset()


def default_profile() -> Path:
    """Return where the profile is when none is named: `~/.config/sottovoce/client.toml`."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(configured) if configured else Path.home() / ".config"
    return folder / "sottovoce" / "client.toml"


def load_profile(path: Path) -> ProxyConfig:
    """Read a profile and the files that it names; its state folder is made if need be.

    Raises:
        ProfileError: missing, not TOML, an unknown or missing member, or no account key.
        TrustFileError: the trust or the policy file that it names cannot be used.
        InsecureUrl: relay or issuer would be spoken to in clear across a network.
    """
    profile = _read(path)
    folder = path.parent
    state = folder / profile.state
    try:
        account_key = (folder / profile.account_key).read_text("utf-8").strip()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path}: cannot use a file that it names: {error}") from None
    policy = ClientPolicy() if profile.policy is None else load_policy(folder / profile.policy)
    return ProxyConfig(
        trust=load_trust(folder / profile.trust),
        policy=replace(policy, accepted_weaknesses=policy.accepted_weaknesses | profile.accept),
        relay_url=profile.relay,
        issuer_url=profile.issuer,
        account_key=account_key,
        state=state,
    )


def _read(path: Path) -> _Profile:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PROFILE + 1)
        if len(text) > MAX_PROFILE:
            raise ProfileError(f"the profile {path} is larger than {MAX_PROFILE} bytes")
        return _Profile.model_validate(tomllib.loads(text.decode()))
    except OSError as error:
        raise ProfileError(f"cannot read the profile {path}: {error.strerror}") from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ProfileError(f"profile {path}, {where}: {error.errors()[0]['msg']}") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ProfileError(f"the profile {path} is not TOML: {error}") from None
