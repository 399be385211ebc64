"""What a worker shows of TDX hardware and of its GPUs; synthesised, under roots of the tests."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from attestation.attester.base import Evidence
from attestation.attester.nvidia import GpuEvidence
from attestation.bundle import MAX_ENCODED, Bundle
from attestation.errors import AttesterFailed
from attestation.gpu_nonce import gpu_nonce
from attestation.report_data import NO_NONCE
from attestation.verifier.fresh import appraise_fresh
from attestation.verifier.intel.platform import measure
from attestation.verifier.intel.quote import DcapQuote
from attestation.verifier.policy import ClientPolicy
from engine.config import EngineConfig
from server import registration
from server.config import OwnAppraisal, WorkerConfig
from server.engine_ready import EngineReadyLine
from server.errors import StartError
from server.generations import period
from server.keeper import Keyring
from server.keeper_control import KeeperControl
from server.logs import EvidenceRefused
from server.registration import NodeAttester, check_own_evidence, register
from tests.attestation.verifier.intel.test_tdx_platform import LOG, WITH_LOG
from tests.server import wallet
from tests.server.fake_parts import MODEL_DIGEST
from tests.support.evidence import nvidia
from tests.support.evidence.authority import ec_key
from tests.support.evidence.fleet import ENGINE
from tests.support.evidence.intel import NOW
from wire import canonical_json
from wire.key_document import KeyDocument

ROOTS = {"tdx": frozenset({WITH_LOG.root}), "nvidia": nvidia.roots()}
POLICY = canonical_json.encode(ENGINE)


class Keeper(KeeperControl):
    """A keeper in this process."""

    def __init__(self) -> None:
        self.keyring = Keyring(os.urandom, lambda: NOW)

    def _ask(self, packet: bytes) -> bytes:
        return self.keyring.control(packet)


@dataclass
class Tdx:
    """A trust domain that quotes, and shows its event log."""

    event_log: bytes = LOG
    lie: Any = bytes
    platform: str = "tdx"
    quoted: list[bytes] = field(default_factory=list)

    def attest(self, report_data: bytes) -> Evidence:
        self.quoted.append(report_data)
        node = replace(WITH_LOG, report=WITH_LOG.report | {"report_data": self.lie(report_data)})
        return Evidence(node.quote(), {"intel-dcap": node.collateral()}, self.event_log)


@dataclass
class Gpus:
    """GPUs that report for the nonces they are given, unless `lie` changes these."""

    names: tuple[str, ...] = ("one", "two")
    lie: Any = bytes
    answers: bool = True

    @property
    def count(self) -> int:
        return len(self.names)

    def evidence(self, digest: bytes, nonce: bytes = NO_NONCE) -> list[GpuEvidence]:
        if not self.answers:
            raise AttesterFailed("a GPU does not answer")
        return [
            GpuEvidence(
                nvidia.Report(nonce=self.lie(gpu_nonce(digest, index, nonce))).encode(
                    ec_key(f"attestation GH100 {name} ")
                ),
                nvidia.pem(nvidia.attestation_key(name)),
            )
            for index, name in enumerate(self.names)
        ]


@dataclass
class Machine:
    """A worker's start up to its leaf, on a machine that may lie."""

    folder: Path
    platform: Any = field(default_factory=Tdx)
    gpus: Any = field(default_factory=Gpus)
    keeper: Keeper = field(default_factory=Keeper)

    def __post_init__(self) -> None:
        signer = nvidia.rim_signer()
        parts = {"rim.0": nvidia.manifest(), "rim.1": nvidia.vbios_manifest()}
        parts |= {f"rim-ocsp.{k}": nvidia.ocsp_responses(signer) for k in range(2)}
        for index, name in enumerate(self.gpus.names if self.gpus else ()):
            issuer = nvidia.attestation_key(name).issuer
            parts[f"nvidia.{index}-ocsp"] = nvidia.ocsp_responses(issuer)
        for name, part in parts.items():
            (self.folder / name).write_bytes(part)

    @cached_property
    def config(self) -> WorkerConfig:
        return WorkerConfig(
            model=Path("/model"),
            model_name="tiny",
            engine=EngineConfig(Path("/model"), device="cuda"),
            host="127.0.0.1",
            port=1,
            log_url="http://log.invalid",
            issuer_url="http://issuer.invalid",
            issuer_name=wallet.ISSUER_NAME,
            spent_socket=Path("/spent"),
            platform="tdx",
            collateral=self.folder,
            appraisal=OwnAppraisal(ClientPolicy(), ROOTS, "log.test"),
        )

    @property
    def attester(self) -> NodeAttester:
        return NodeAttester(self.platform, self.gpus, POLICY, self.folder)

    def register(self) -> registration.Registration:
        engine = EngineReadyLine(MODEL_DIGEST, 512, 1000, POLICY, 8)
        made = period(self.config, 0, NOW)
        return register(self.config, engine, made, self.keeper, self.attester)

    def check(self) -> None:
        check_own_evidence(self.config, self.register().bundle, at=NOW)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[EvidenceRefused]:
    told: list[Any] = []
    monkeypatch.setattr(registration, "emit", told.append)
    return told


def test_the_bundle_has_a_report_of_every_gpu_and_the_document_counts_them(machine):
    registered = machine.register()
    bundle = Bundle.decode(registered.bundle)
    document = KeyDocument.decode(bundle.key_document)
    assert (document.device, document.gpu_count) == ("cuda", 2)
    assert len(bundle.gpu_reports) == 2
    assert bundle.event_log == LOG
    check_own_evidence(machine.config, registered.bundle, at=NOW)


def test_a_worker_on_a_cpu_states_no_gpu(tmp_path):
    registered = Machine(tmp_path, gpus=None).register()
    assert KeyDocument.decode(Bundle.decode(registered.bundle).key_document).gpu_count == 0


def test_a_fresh_bundle_holds_the_nonce_in_the_quote_and_in_every_gpu_report(machine):
    registered, nonce = machine.register(), b"\x6e" * 32
    bundle = machine.attester.bundle(registered.document, nonce)
    found, _ = appraise_fresh(
        bundle,
        node=registered.node,
        nonce=nonce,
        policy=ClientPolicy(),
        reference=_reference(registered.document),
        at=NOW,
    )
    assert found.node == registered.node
    assert machine.platform.quoted[0][32:] == NO_NONCE
    assert machine.platform.quoted[1][32:] == nonce


def _reference(document: KeyDocument) -> Any:
    from attestation.verifier.node import ReferenceValues  # noqa: PLC0415

    return ReferenceValues(
        key_documents=frozenset({document.digest}),
        releases={"tdx": frozenset({measure(DcapQuote.parse(WITH_LOG.quote()).report)})},
        models={"tiny": frozenset({MODEL_DIGEST})},
        policies=frozenset({document.policy_digest}),
        roots=ROOTS,
        log_origin="log.test",
    )


@pytest.mark.parametrize(
    ("changed", "step", "code"),
    [
        (
            {"platform": Tdx(LOG.replace(b"\2" * 48, b"\5" * 48))},
            "quote_signature",
            "tdx_event_log",
        ),
        ({"platform": Tdx(lie=lambda _: bytes(64))}, "report_data", "report_data_mismatch"),
        (
            {"platform": Tdx(lie=lambda data: data[:32] + b"\1" * 32)},
            "report_data",
            "nonce_mismatch",
        ),
        ({"gpus": Gpus(("one", "one"))}, "gpu_evidence", "gpu_not_distinct"),
        ({"gpus": Gpus(lie=lambda _: bytes(32))}, "gpu_evidence", "gpu_nonce_mismatch"),
        ({"gpus": None}, "gpu_evidence", "accelerator_not_stated"),
        ({"platform": Tdx(bytes(MAX_ENCODED))}, "bundle", "bundle_malformed"),
    ],
)
def test_evidence_that_does_not_hold_names_the_step_and_the_worker_does_not_start(
    tmp_path, refusals, changed, step, code
):
    machine = Machine(tmp_path, **changed)
    if machine.gpus is None:
        for left in tmp_path.iterdir():
            left.unlink()
    with pytest.raises(StartError):
        machine.check()
    [told] = refusals
    assert told.step == step
    assert told.code.startswith(code)


def test_a_gpu_that_does_not_answer_leaves_no_keys_behind(tmp_path):
    machine = Machine(tmp_path, gpus=Gpus(answers=False))
    with pytest.raises(AttesterFailed):
        machine.register()
    assert not machine.keeper.keyring.generations


@pytest.mark.parametrize(
    ("platform", "device"), [("tdx", "cpu"), ("simulated", "cuda"), ("simulated", "cpu")]
)
def test_gpus_are_asked_where_they_compute_and_something_vouches_for_them(
    machine, platform, device
):
    engine = EngineConfig(Path("/m"), device=device)
    config = replace(machine.config, platform=platform, engine=engine)
    assert registration.gpus(config) is None


def test_a_worker_on_a_gpu_without_evidence_does_not_start(machine, monkeypatch):
    def none_here() -> None:
        raise AttesterFailed("confidential mode is off")

    monkeypatch.setattr(registration, "open_gpus", none_here)
    with pytest.raises(StartError):
        registration.gpus(machine.config)


def test_a_worker_on_a_gpu_asks_the_driver(machine, monkeypatch):
    monkeypatch.setattr(registration, "open_gpus", Gpus)
    assert registration.gpus(machine.config).count == 2
    indexed = replace(machine.config, engine=EngineConfig(Path("/m"), device="cuda:1"))
    assert registration.gpus(indexed).count == 2
