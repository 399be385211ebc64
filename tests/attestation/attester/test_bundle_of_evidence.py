"""What `make_bundle` puts together, and the worker's own appraisal of it."""

from dataclasses import dataclass, replace

import pytest

from attestation.attester.base import Evidence, make_bundle
from attestation.attester.self_appraisal import appraise_own
from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import AppraisalError, Code
from attestation.report_data import report_data
from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import Weakness
from tests.attestation.conftest import NOW, SimulatedNode
from tests.support.evidence.amd import SnpMachine
from tests.support.evidence.authority import NOT_BEFORE

ALL = ClientPolicy(frozenset(Weakness))


@dataclass(frozen=True)
class SnpAttester:
    """A synthesised machine as an attester."""

    machine: SnpMachine
    platform: str = "snp"

    def attest(self, data):
        return Evidence(self.machine.quote(data), {"amd-chain": self.machine.chain})


@dataclass(frozen=True)
class Gpu:
    report: bytes
    chain: bytes


class TwoGpus:
    def evidence(self, digest, nonce):
        return [Gpu(b"one" + digest + nonce, b"chain 0"), Gpu(b"two", b"chain 1")]


def test_gpus_are_asked_first_and_the_quote_binds_their_reports_and_the_nonce():
    node, machine, nonce = SimulatedNode(), SnpMachine(), b"\x6e" * 32
    bundle = make_bundle(
        SnpAttester(machine),
        key_document=node.key_document,
        engine_policy=node.engine_policy,
        nonce=nonce,
        gpus=TwoGpus(),
        stored={"amd-crl": b"list", "amd-chain": b"old"},
    )
    digest = node.key_document.digest
    assert bundle.gpu_reports == (b"one" + digest + nonce, b"two")
    assert machine.report_data == report_data(digest, bundle.gpu_reports, nonce)
    assert Collateral.decode(bundle.collateral).parts == {
        "amd-chain": machine.chain,
        "amd-crl": b"list",
        "nvidia.0-chain": b"chain 0",
        "nvidia.1-chain": b"chain 1",
    }


def snp_bundle(machine, node):
    stored = {"amd-crl": machine.crl()}
    return make_bundle(
        SnpAttester(machine),
        key_document=node.key_document,
        engine_policy=node.engine_policy,
        stored=stored,
    ).encode()


def appraise(bundle, roots, *, policy=ALL, origin="log.test", at=NOW):
    return appraise_own(bundle, policy=policy, roots=roots, log_origin=origin, at=at)


def refusal(*args, **kwargs):
    with pytest.raises(AppraisalError) as caught:
        appraise(*args, **kwargs)
    return caught.value.step, caught.value.code


def test_an_snp_node_with_honest_evidence_passes_its_own_appraisal():
    assert NOT_BEFORE < NOW
    machine, node = SnpMachine(), SimulatedNode()
    found = appraise(snp_bundle(machine, node), {"snp": machine.roots}, policy=ClientPolicy())
    assert found.platform == "snp"
    assert found.weaknesses == frozenset()


def test_a_simulated_node_passes_where_simulated_is_accepted_only():
    node = SimulatedNode()
    bundle, roots = (
        node.bundle().encode(),
        {"simulated": frozenset({node.attester.root_fingerprint})},
    )
    appraise(bundle, roots, origin="log.test.simulated")
    assert refusal(bundle, roots)[0] == "log-origin"
    assert refusal(bundle, roots, policy=ClientPolicy()) == ("platform", Code.PLATFORM_REFUSED)


def test_the_step_that_fails_is_named():
    machine, node = SnpMachine(report={0x008: (0xB001F).to_bytes(8, "little")}), SimulatedNode()
    bundle, roots = snp_bundle(machine, node), {"snp": machine.roots}
    assert refusal(bundle, roots)[1] is Code.SNP_DEBUG
    assert refusal(bundle, {}) == ("quote-signature", Code.SNP_ROOT_UNKNOWN)
    broken = replace(Bundle.decode(bundle), collateral=b"x").encode()
    assert refusal(broken, roots) == ("bundle", Code.COLLATERAL_MALFORMED)
    strange = replace(Bundle.decode(bundle), platform="other").encode()
    assert refusal(strange, roots)[0] == "platform"


def test_an_attester_that_quotes_other_report_data_is_caught():
    class Replaying(SnpAttester):
        def attest(self, _):
            return super().attest(bytes(64))

    machine, node = SnpMachine(), SimulatedNode()
    bundle = make_bundle(
        Replaying(machine),
        key_document=node.key_document,
        engine_policy=node.engine_policy,
        stored={"amd-crl": machine.crl()},
    ).encode()
    assert refusal(bundle, {"snp": machine.roots}) == ("report-data", Code.REPORT_DATA_MISMATCH)
