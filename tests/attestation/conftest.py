"""A simulated node that can be made to lie in one respect at a time."""

import hashlib
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.attester.base import make_bundle
from attestation.attester.simulated import SimulatedAttester
from attestation.verifier.node import ReferenceValues, appraise
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from wire import canonical_json, receipt
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument

NOW = 1_800_000_000
MEASUREMENT = b"\x4d" * 32
MODEL_DIGEST = b"\x6d" * 32
ENGINE = {
    "version": 1,
    "verification": "audit",
    "transfers": "sealed",
    "prefix_cache": "request",
    "device": "cpu",
    "optimisations": {
        "continuous batching": {"state": "on", "form": "as usual"},
        "global profiling": {"state": "refused", "form": "typed aggregate metrics only"},
    },
}
ALGORITHMS = ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),)
KEY_CONFIGS = tuple(
    KeyConfig(key_id, kem, PrivateKey.generate(kem, bytes([key_id]) * 32).public_bytes, ALGORITHMS)
    for key_id, kem in ((1, Kem.XWING), (2, Kem.X25519))
)


@dataclass
class SimulatedNode:
    """One node, honest as it is made. Changes of `engine` and `document` reach the bundle."""

    engine: dict = field(default_factory=lambda: dict(ENGINE))
    document: dict = field(default_factory=dict)
    measurement: bytes = MEASUREMENT
    root_seed: bytes = b"\x52" * 32
    quoted_at: int = NOW - 60

    @property
    def attester(self):
        return SimulatedAttester(self.root_seed, self.measurement, lambda: self.quoted_at + 0.5)

    @property
    def receipt_key(self):
        return Ed25519PrivateKey.from_private_bytes(b"\x72" * 32)

    @property
    def engine_policy(self):
        return canonical_json.encode(self.engine)

    @property
    def key_document(self):
        honest = KeyDocument(
            key_configs=KEY_CONFIGS,
            receipt_key=self.receipt_key.public_key().public_bytes_raw(),
            tls_key=None,
            model="tinychat",
            model_digest=MODEL_DIGEST,
            policy_digest=hashlib.sha256(self.engine_policy).digest(),
            device=self.engine["device"],
            gpu_count=0,
            capacity=4,
            not_before=NOW - 60,
            not_after=NOW - 60 + 6 * 3600,
        )
        return replace(honest, **self.document)

    def bundle(self, nonce=bytes(32)):
        return make_bundle(
            self.attester,
            key_document=self.key_document,
            engine_policy=self.engine_policy,
            nonce=nonce,
        )

    @property
    def reference(self):
        """What an honest log and trust file would say of this node."""
        return ReferenceValues(
            key_documents=frozenset({self.key_document.digest}),
            releases={"simulated": frozenset({self.measurement})},
            models={"tinychat": frozenset({MODEL_DIGEST})},
            policies=frozenset({hashlib.sha256(self.engine_policy).digest()}),
            roots={"simulated": frozenset({self.attester.root_fingerprint})},
            log_origin="sottovoce.test.simulated",
        )

    def appraise(self, bundle=None, *, policy=None, at=NOW, nonce=bytes(32), **reference):
        """Appraise, with any of the reference values replaced."""
        return appraise(
            (bundle or self.bundle()).encode(),
            policy=policy or SIMULATED_ONLY,
            reference=replace(self.reference, **reference),
            at=at,
            nonce=nonce,
        )

    def receipt(self, **changes):
        """The claims of an honest receipt, or of one that lies in `changes`."""
        honest = receipt.Receipt(
            key_document=self.key_document.digest,
            request_hash=REQUEST_HASH,
            response_hash=RESPONSE_HASH,
            model_digest=MODEL_DIGEST,
            prompt_tokens=11,
            completion_tokens=22,
            verification=receipt.Verification(self.engine["verification"], 33, b"\x64" * 32),
            transfers=receipt.Transfers(self.engine["transfers"], 4, 3, 1),
            issued_at=NOW,
        )
        return replace(honest, **changes)


SIMULATED_ONLY = ClientPolicy(frozenset({Weakness.SIMULATED}))
ANYTHING = ClientPolicy(frozenset(Weakness))
REQUEST_HASH = b"\x71" * 32
RESPONSE_HASH = b"\x61" * 32


@pytest.fixture
def node():
    """An honest simulated node."""
    return SimulatedNode()


@pytest.fixture
def simulated_only():
    """The default policy, but for simulated nodes."""
    return SIMULATED_ONLY


@pytest.fixture
def anything():
    """The policy that puts up with every weakness that has a name."""
    return ANYTHING
