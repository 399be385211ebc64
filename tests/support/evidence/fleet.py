"""SYNTHESISED: whole nodes with hardware of the tests' own: a TDX trust domain, an SNP guest, GPUs.

They have the formats of real ones and prove nothing about any hardware.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.gpu_nonce import gpu_nonce
from attestation.report_data import NO_NONCE, report_data
from attestation.verifier.intel.platform import measure
from attestation.verifier.intel.quote import DcapQuote
from attestation.verifier.node import ReferenceValues
from tests.support.evidence import nvidia
from tests.support.evidence.authority import ec_key
from tests.support.evidence.intel import NOW, IntelNode
from wire import canonical_json
from wire.hpke import Aead, Kdf, Kem, PrivateKey
from wire.key_config import KeyConfig
from wire.key_document import KeyDocument

MODEL, MODEL_DIGEST = "tiny", hashlib.sha256(b"model of the tests").digest()
ENGINE = {
    "version": 1,
    "verification": "audit",
    "transfers": "sealed",
    "prefix_cache": "request",
    "device": "cuda",
    "optimisations": {"paging": {"state": "on", "form": "blocks"}},
}
KEY_CONFIGS = tuple(
    KeyConfig(
        number,
        kem,
        PrivateKey.generate(kem, bytes([number]) * 32).public_bytes,
        ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),),
    )
    for number, kem in ((1, Kem.XWING), (2, Kem.X25519))
)
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(b"\x72" * 32)


@dataclass
class TdxNode:
    """A trust domain with GPUs, honest as it is made.

    Attributes:
        gpus: the names of its GPUs, each a chip of its own.
        intel: the platform; its report data is set when the node is quoted.
        engine: the engine policy's members.
        parts: collateral that differs: bytes, or None to leave a part out.
        nonce: of a fresh quote.
    """

    gpus: tuple = ("one",)
    intel: dict = field(default_factory=dict)
    engine: dict = field(default_factory=lambda: dict(ENGINE))
    parts: dict = field(default_factory=dict)
    nonce: bytes = NO_NONCE

    @property
    def engine_policy(self):
        return canonical_json.encode(self.engine)

    @property
    def key_document(self):
        return KeyDocument(
            key_configs=KEY_CONFIGS,
            receipt_key=RECEIPT_KEY.public_key().public_bytes_raw(),
            tls_key=None,
            model=MODEL,
            model_digest=MODEL_DIGEST,
            policy_digest=hashlib.sha256(self.engine_policy).digest(),
            device=self.engine["device"],
            gpu_count=len(self.gpus),
            capacity=4,
            not_before=NOW - 60,
            not_after=NOW - 60 + 6 * 3600,
        )

    @cached_property
    def gpu_reports(self):
        """A report of each GPU over the nonce that is its own."""
        digest = self.key_document.digest
        return tuple(
            nvidia.Report(nonce=gpu_nonce(digest, index, self.nonce)).encode(
                ec_key(f"attestation GH100 {name} ")
            )
            for index, name in enumerate(self.gpus)
        )

    def collateral(self):
        parts = {"intel-dcap": self.platform.collateral()}
        for index, name in enumerate(self.gpus):
            key = nvidia.attestation_key(name)
            parts[f"nvidia.{index}-chain"] = nvidia.pem(key)
            parts[f"nvidia.{index}-ocsp"] = nvidia.ocsp_responses(key.issuer)
        if self.gpus:
            signer = nvidia.rim_signer()
            parts |= {"rim.0": nvidia.manifest(), "rim.1": nvidia.vbios_manifest()}
            parts |= {f"rim-ocsp.{k}": nvidia.ocsp_responses(signer) for k in range(2)}
        changed = parts | self.parts
        return Collateral({name: part for name, part in changed.items() if part is not None})

    @cached_property
    def platform(self):
        reports = self.gpu_reports
        data = report_data(self.key_document.digest, reports, self.nonce)
        return IntelNode(report={"report_data": data}, **self.intel)

    def bundle(self):
        return Bundle(
            key_document=self.key_document.encode(),
            platform="tdx",
            quote=self.platform.quote(),
            engine_policy=self.engine_policy,
            collateral=self.collateral().encode(),
            gpu_reports=self.gpu_reports,
        )

    def reference(self):
        """What an honest log and trust file would say of this node."""
        return ReferenceValues(
            key_documents=frozenset({self.key_document.digest}),
            releases={"tdx": frozenset({measure(DcapQuote.parse(self.platform.quote()).report)})},
            models={MODEL: frozenset({MODEL_DIGEST})},
            policies=frozenset({hashlib.sha256(self.engine_policy).digest()}),
            roots={"tdx": frozenset({self.platform.root}), "nvidia": nvidia.roots()},
            log_origin="log.test.invalid/fleet",
        )
