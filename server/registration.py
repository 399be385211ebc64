"""How a generation of keys becomes a node that clients can draw: document, quote, bundle, leaf."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from attestation.attester.base import Attester, make_bundle
from attestation.attester.measurement import measure_packages
from attestation.attester.simulated import SimulatedAttester
from attestation.verifier.engine_policy import EnginePolicy
from server.config import WorkerConfig
from server.engine_ready import EngineReadyLine
from server.errors import StartError
from server.generations import Period
from server.keeper_control import KeeperControl
from server.keeper_messages import Binding, PublicKeys
from transparency.leaf import Leaf
from wire.hpke import Aead, Kdf, Kem
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument

ALGORITHMS = (
    (Kdf.HKDF_SHA256, Aead.AES_128_GCM),
    (Kdf.HKDF_SHA256, Aead.AES_256_GCM),
    (Kdf.HKDF_SHA256, Aead.CHACHA20_POLY1305),
)
"""What both key configs offer, the preferred one first."""


@dataclass(frozen=True)
class Registration:
    """A generation ready to be logged. Adding the same one twice is harmless."""

    period: Period
    node: str
    key_configs: tuple[KeyConfig, ...]
    leaf: Leaf
    bundle: bytes


def attester(config: WorkerConfig) -> Attester:
    """Return the attester of the configured platform.

    Raises:
        StartError: the platform is unknown, or its seed is missing or malformed.
    """
    if config.platform != SimulatedAttester.platform or config.platform_seed is None:
        raise StartError("the platform is not one this worker can quote on")
    return SimulatedAttester(_read_seed(config.platform_seed), measure_packages())


def _read_seed(path: Path) -> bytes:
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise StartError("the platform's seed cannot be read") from error
    if len(seed) != 32:
        raise StartError("the platform's seed is not 32 bytes")
    return seed


def key_document(
    config: WorkerConfig, engine: EngineReadyLine, period: Period, keys: PublicKeys
) -> KeyDocument:
    """Return the key document of a generation; the X-Wing config comes first."""
    return KeyDocument(
        key_configs=(
            KeyConfig(period.xwing_id, Kem.XWING, keys.xwing, ALGORITHMS),
            KeyConfig(period.x25519_id, Kem.X25519, keys.x25519, ALGORITHMS),
        ),
        receipt_key=keys.receipt,
        tls_key=None,
        model=config.model_name,
        model_digest=engine.model_digest,
        policy_digest=hashlib.sha256(engine.policy).digest(),
        device=config.device,
        gpu_count=config.gpu_count,
        capacity=config.capacity,
        token_budget=config.token_budget,
        not_before=period.not_before,
        not_after=period.not_after,
    )


def register(
    config: WorkerConfig,
    engine: EngineReadyLine,
    period: Period,
    keeper: KeeperControl,
    attester: Attester,
) -> Registration:
    """Have the keeper make a generation, quote its document, and have its leaf signed."""
    keys = keeper.make(period.number, *period.key_ids)
    document = key_document(config, engine, period, keys)
    policy = EnginePolicy.decode(engine.policy)
    keeper.bind(
        Binding(
            period.number,
            document.digest,
            engine.model_digest,
            policy.verification,
            policy.transfers,
        )
    )
    bundle = make_bundle(attester, key_document=document, engine_policy=engine.policy).encode()
    digest = hashlib.sha256(bundle).digest()
    leaf = keeper.sign_leaf(period.number, digest, period.not_after)
    return Registration(period, document.node, document.key_configs, Leaf.decode(leaf), bundle)
