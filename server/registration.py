"""How a generation of keys becomes a node that clients can draw: document, quote, bundle, leaf."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from attestation.attester.base import Attester, Gpus, make_bundle
from attestation.attester.measurement import measure_packages
from attestation.attester.nvidia import open_gpus
from attestation.attester.platform import AUTO, detect, read_collateral
from attestation.attester.self_appraisal import appraise_own
from attestation.attester.simulated import SimulatedAttester
from attestation.errors import AppraisalError, AttesterFailed
from attestation.report_data import NO_NONCE
from attestation.verifier.engine_policy import EnginePolicy
from server.config import WorkerConfig
from server.engine_ready import EngineReadyLine
from server.errors import StartError
from server.generations import Period
from server.keeper_control import KeeperControl
from server.keeper_messages import Binding, PublicKeys
from server.logs import CodeName, EvidenceRefused, PlatformFound, PlatformName, emit
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
    document: KeyDocument
    leaf: Leaf
    bundle: bytes

    @property
    def node(self) -> str:
        """The node's name."""
        return self.document.node

    @property
    def key_configs(self) -> tuple[KeyConfig, ...]:
        """What requests to it are encapsulated to."""
        return self.document.key_configs


def attester(config: WorkerConfig) -> Attester:
    """Return the attester of the configured platform, and say in the log which one that is.

    Raises:
        StartError: the platform is unknown or not here, or its seed is missing or malformed.
    """
    made: Attester
    if config.platform == SimulatedAttester.platform:
        if config.platform_seed is None:
            raise StartError("the simulated platform needs its seed")
        made = SimulatedAttester(_read_seed(config.platform_seed), measure_packages())
    else:
        try:
            made = detect(config.platform, endorsement=config.platform_endorsement)
        except AttesterFailed as error:
            raise StartError("the platform is not one this worker can quote on") from error
    emit(PlatformFound(PlatformName(made.platform), config.platform != AUTO))
    return made


def gpus(config: WorkerConfig) -> Gpus | None:
    """Return the GPUs that the engine computes on; None where it computes on the CPU.

    A simulated worker has no evidence to show of its GPUs, and states none.

    Raises:
        StartError: there are none, or they must not be used: not in confidential mode, or devtools
            are on.
    """
    on_cpu = config.engine.device.partition(":")[0] != "cuda"
    if on_cpu or config.platform == SimulatedAttester.platform:
        return None
    try:
        return open_gpus()
    except AttesterFailed as error:
        raise StartError("the GPUs have no evidence to show") from error


def _read_seed(path: Path) -> bytes:
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise StartError("the platform's seed cannot be read") from error
    if len(seed) != 32:
        raise StartError("the platform's seed is not 32 bytes")
    return seed


@dataclass(frozen=True)
class NodeAttester:
    """All that this machine has to show for a key document.

    Attributes:
        platform: what quotes.
        gpus: what computes, if it has evidence of its own.
        engine_policy: canonical JSON.
        collateral: folder of what others fetched; read anew each time.
    """

    platform: Attester
    gpus: Gpus | None
    engine_policy: bytes
    collateral: Path | None

    @property
    def gpu_count(self) -> int:
        """How many GPUs have evidence to show."""
        return self.gpus.count if self.gpus else 0

    def bundle(self, document: KeyDocument, nonce: bytes = NO_NONCE) -> bytes:
        """Have a document quoted, GPUs first, and return the encoded bundle.

        Raises:
            AttesterFailed: the platform does not quote, or a GPU does not report.
        """
        return make_bundle(
            self.platform,
            key_document=document,
            engine_policy=self.engine_policy,
            nonce=nonce,
            gpus=self.gpus,
            stored=read_collateral(self.collateral),
        ).encode()


def key_document(
    config: WorkerConfig,
    engine: EngineReadyLine,
    period: Period,
    keys: PublicKeys,
    gpu_count: int,
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
        device=EnginePolicy.decode(engine.policy).device,
        gpu_count=gpu_count,
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
    attester: NodeAttester,
) -> Registration:
    """Have the keeper make a generation, quote its document, and have its leaf signed.

    Raises:
        AttesterFailed: the platform does not quote. The generation is erased again.
    """
    keys = keeper.make(period.number, *period.key_ids)
    document = key_document(config, engine, period, keys, attester.gpu_count)
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
    try:
        bundle = attester.bundle(document)
    except AttesterFailed:
        keeper.erase(period.number)
        raise
    digest = hashlib.sha256(bundle).digest()
    leaf = keeper.sign_leaf(period.number, digest, period.not_after)
    return Registration(period, document, Leaf.decode(leaf), bundle)


def check_own_evidence(config: WorkerConfig, bundle: bytes, *, at: int) -> None:
    """Appraise a bundle as a client would, as far as a worker can: all but what is in the log.

    Raises:
        StartError: a step failed. The log of the worker names it.
    """
    own = config.appraisal
    if own is None:
        return
    try:
        appraise_own(bundle, policy=own.policy, roots=own.roots, log_origin=own.log_origin, at=at)
    except AppraisalError as error:
        step, code = (name.replace("-", "_") for name in (error.step, error.code))
        emit(EvidenceRefused(CodeName(step), CodeName(code)))
        raise StartError("this worker's own verifier refuses its evidence") from error
