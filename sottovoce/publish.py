"""Puts the statements of a release into the log: what runs, what it serves, who signs tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.attester.measurement import measure_packages
from attestation.verifier.platforms import PLATFORMS
from issuer.keys import IssuerKey
from sottovoce import __version__
from sottovoce.keys import read_seed
from transparency import signing
from transparency.leaf import (
    Body,
    IssuerKeyLeaf,
    KeyRotationLeaf,
    ModelLeaf,
    PolicyLeaf,
    ReleaseLeaf,
    Role,
    WithdrawalLeaf,
    sign_leaf,
)
from transparency.publish import AddedLeaf, add_leaf
from wire import inner
from wire.merkle import leaf_hash
from wire.privacy_pass import TokenChallenge


def publish(log_url: str, seed_file: Path, body: Body) -> tuple[AddedLeaf, bytes]:
    """Sign `body` with the role's key in `seed_file` and add it to the log.

    Returns where it is, and its leaf hash, by which it can be withdrawn.
    """
    key = Ed25519PrivateKey.from_private_bytes(read_seed(seed_file))
    leaf = sign_leaf(body, key)
    return add_leaf(log_url, leaf), leaf_hash(leaf.encode())


def release_leaf(measurements: Sequence[str] | None = None) -> ReleaseLeaf:
    """Describe a release by what nodes that run it measure, each as `PLATFORM=HEX`.

    Without any it is the code that is installed here, as a simulated node measures it.

    Raises:
        ValueError: not of that form, another platform than those there are, or one named twice.
    """
    if not measurements:
        return ReleaseLeaf(__version__, {"simulated": measure_packages()})
    pairs = [tuple(measurement.split("=", 1)) for measurement in measurements]
    stated = {pair[0]: bytes.fromhex(pair[1]) for pair in pairs if len(pair) == 2}
    if len(stated) != len(pairs) or not stated.keys() <= PLATFORMS.keys():
        raise ValueError(f"each as PLATFORM=HEX, once, of {', '.join(sorted(PLATFORMS))}")
    if not all(32 <= len(digest) <= 64 for digest in stated.values()):
        raise ValueError("a measurement has 32 to 64 bytes")
    return ReleaseLeaf(__version__, stated)


def model_leaf(name: str, digest: bytes) -> ModelLeaf:
    """Describe a model by its public name and its digest."""
    return ModelLeaf(name, digest)


def policy_leaf(policy: bytes) -> PolicyLeaf:
    """Describe an engine policy, given as canonical JSON."""
    return PolicyLeaf(hashlib.sha256(policy).digest(), policy)


def rotation_leaf(role: Role, old_seed_file: Path, new_seed_file: Path) -> KeyRotationLeaf:
    """Hand a role on from the key in one seed file to the key in another."""
    old = signing.private_key(read_seed(old_seed_file))
    new = signing.private_key(read_seed(new_seed_file))
    return KeyRotationLeaf.make(role, signing.public_bytes(old), new)


def withdrawal_leaf(hexadecimal: str, reason: str) -> WithdrawalLeaf:
    """Take back the release, model or policy with this leaf hash (hexadecimal).

    Raises:
        ValueError: not the hexadecimal of 32 bytes.
    """
    digest = bytes.fromhex(hexadecimal)
    if len(digest) != 32:
        raise ValueError("a leaf hash has 32 bytes")
    return WithdrawalLeaf(digest, reason)


def issuer_key_leaf(issuer_name: str, key_file: Path) -> IssuerKeyLeaf:
    """Describe an issuer's token key and the one challenge of the fleet."""
    with IssuerKey.from_file(key_file) as key:
        spki, period = key.spki, key.period
    challenge = TokenChallenge(issuer_name, b"", inner.AUTHORITY.decode())
    return IssuerKeyLeaf(issuer_name, spki, challenge.encode(), period.not_before, period.not_after)
