"""Puts the statements of a release into the log: what runs, what it serves, who signs tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.attester.measurement import measure_packages
from issuer.keys import IssuerKey
from sottovoce import __version__
from sottovoce.keys import read_seed
from transparency.leaf import Body, IssuerKeyLeaf, ModelLeaf, PolicyLeaf, ReleaseLeaf, sign_leaf
from transparency.publish import AddedLeaf, add_leaf
from wire import inner
from wire.privacy_pass import TokenChallenge


def publish(log_url: str, seed_file: Path, body: Body) -> AddedLeaf:
    """Sign `body` with the role's key in `seed_file` and add it to the log."""
    key = Ed25519PrivateKey.from_private_bytes(read_seed(seed_file))
    return add_leaf(log_url, sign_leaf(body, key))


def release_leaf() -> ReleaseLeaf:
    """Describe the code that is installed here, as a simulated node measures it."""
    return ReleaseLeaf(__version__, {"simulated": measure_packages()})


def model_leaf(name: str, digest: bytes) -> ModelLeaf:
    """Describe a model by its public name and its digest."""
    return ModelLeaf(name, digest)


def policy_leaf(policy: bytes) -> PolicyLeaf:
    """Describe an engine policy, given as canonical JSON."""
    return PolicyLeaf(hashlib.sha256(policy).digest(), policy)


def issuer_key_leaf(issuer_name: str, key_file: Path) -> IssuerKeyLeaf:
    """Describe an issuer's token key and the one challenge of the fleet."""
    with IssuerKey.from_file(key_file) as key:
        spki, period = key.spki, key.period
    challenge = TokenChallenge(issuer_name, b"", inner.AUTHORITY.decode())
    return IssuerKeyLeaf(issuer_name, spki, challenge.encode(), period.not_before, period.not_after)
