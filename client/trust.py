"""`trust.toml`: where trust begins. One file, obtained out of band; there is no trust on first use.

It names the log and its key, the witnesses and how many of them must agree, the keys of the roles
that sign leaves, the roots of the platforms, and the issuer. Everything else is learnt from the
log.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from attestation.errors import PolicyError
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.policy_file import MAX_LENGTH, parse_policy
from client.errors import TrustFileError
from transparency.errors import TransparencyError
from transparency.leaf import RoleKeys
from transparency.policy import LogPolicy

SIMULATED_SUFFIX = ".simulated"
"""A log whose origin ends so may list simulated nodes, and no others."""

Hex32 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Witness(_Section):
    key: str


class _Log(_Section):
    origin: str
    key: str
    quorum: int = Field(ge=1)
    list_epoch_s: int = Field(default=600, ge=1)
    max_cosignature_age_s: int = Field(default=86_400, ge=1)
    witnesses: tuple[_Witness, ...]


class _Roles(_Section):
    release: Hex32
    issuer: Hex32
    list: Hex32


class _Issuer(_Section):
    name: str


class _TrustFile(_Section):
    log: _Log
    roles: _Roles
    platforms: dict[str, tuple[Hex32, ...]]
    issuer: _Issuer


@dataclass(frozen=True)
class Trust:
    """What the client believes before it has spoken to anybody."""

    log_origin: str
    log_policy: LogPolicy
    list_epoch_s: int
    roles: RoleKeys
    roots: Mapping[str, frozenset[bytes]]
    """Platform name to the SHA-256 fingerprints (32 bytes each) of its roots."""
    issuer_name: str

    @property
    def simulated(self) -> bool:
        """Whether this trust can only ever reach simulated nodes."""
        return self.log_origin.endswith(SIMULATED_SUFFIX)


def load_trust(path: Path) -> Trust:
    """Read `trust.toml`.

    Raises:
        TrustFileError: missing, not TOML, an unknown or missing member, a key that is none, or a
            quorum that the witnesses it names cannot reach.
    """
    try:
        return parse_trust(path.read_text("utf-8"))
    except OSError as error:
        raise TrustFileError(f"cannot read the trust file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TrustFileError(f"the trust file {path} is not UTF-8") from None


def load_policy(path: Path) -> ClientPolicy:
    """Read a policy file (`attestation.verifier.policy_file`).

    Raises:
        TrustFileError: it cannot be read, is too long, or is no policy; the message says where.
    """
    try:
        with path.open("rb") as file:
            return parse_policy(file.read(MAX_LENGTH + 1).decode())
    except OSError as error:
        raise TrustFileError(f"cannot read the policy file {path}: {error.strerror}") from None
    except (UnicodeDecodeError, PolicyError) as error:
        raise TrustFileError(f"the policy file {path}: {error}") from None


def parse_trust(text: str) -> Trust:
    """Parse the text of a trust file; raises as `load_trust` does."""
    try:
        file = _TrustFile.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TrustFileError(f"the trust file is not TOML: {error}") from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise TrustFileError(f"trust file, {where}: {error.errors()[0]['msg']}") from None
    if file.log.quorum > len(file.log.witnesses):
        raise TrustFileError("the quorum is larger than the number of witnesses")
    try:
        policy = LogPolicy(
            log_vkey=file.log.key,
            witness_vkeys=tuple(witness.key for witness in file.log.witnesses),
            quorum=file.log.quorum,
            max_cosignature_age_s=file.log.max_cosignature_age_s,
        )
        roles = RoleKeys(
            release=bytes.fromhex(file.roles.release),
            issuer=bytes.fromhex(file.roles.issuer),
            list=bytes.fromhex(file.roles.list),
        )
        origin = policy.origin
    except TransparencyError as error:
        raise TrustFileError(f"a key in the trust file is unusable: {error}") from None
    if origin != file.log.origin:
        raise TrustFileError("the log's key is of another origin than the trust file names")
    return Trust(
        log_origin=file.log.origin,
        log_policy=policy,
        list_epoch_s=file.log.list_epoch_s,
        roles=roles,
        roots={
            platform: frozenset(bytes.fromhex(root) for root in roots)
            for platform, roots in file.platforms.items()
        },
        issuer_name=file.issuer.name,
    )
