"""Real platforms in an appraisal: a trust domain with GPUs, whole, and wrong in one respect."""

from dataclasses import replace

import pytest

from attestation.collateral import Collateral
from attestation.errors import AppraisalError, Code
from attestation.verdict import Outcome
from attestation.verifier.intel.policy import TdxPolicy
from attestation.verifier.node import STEPS, appraise
from attestation.verifier.nvidia.policy import GpuPolicy
from attestation.verifier.platforms import PLATFORMS
from attestation.verifier.policy import REAL_PLATFORMS, WEAK_PLATFORMS, ClientPolicy
from attestation.verifier.unsafe_policy import AcceptEverythingUnsafe
from attestation.verifier.weakness import Weakness
from tests.support.evidence import nvidia
from tests.support.evidence.authority import ec_key
from tests.support.evidence.fleet import NOW, TdxNode

DEFAULT = ClientPolicy()


def appraised(node, bundle=None, *, policy=DEFAULT, nonce=bytes(32), **reference):
    bundle = bundle or node.bundle()
    known = replace(node.reference(), **reference)
    return appraise(bundle.encode(), policy=policy, reference=known, at=NOW, nonce=nonce)


def refused(*args, **kwargs):
    with pytest.raises(AppraisalError) as caught:
        appraised(*args, **kwargs)
    return caught.value.step, caught.value.code


@pytest.fixture(scope="module")
def honest():
    return TdxNode(gpus=("one", "two"))


def test_every_platform_of_the_policy_has_its_verifier():
    assert set(PLATFORMS) == REAL_PLATFORMS | WEAK_PLATFORMS.keys()


def test_a_trust_domain_with_two_gpus_passes_under_the_default_policy(honest):
    verified = appraised(honest)
    assert verified.platform == "tdx"
    assert verified.weaknesses == frozenset()
    assert verified.warnings == ()
    assert [step.step for step in verified.steps] == list(STEPS)
    assert verified.verdict.outcome is Outcome.PASS
    assert verified.steps[-1].reason.startswith("2 distinct GPUs: GH100")


def test_a_fresh_quote_binds_the_nonce_down_to_the_gpus():
    nonce = b"\x6e" * 32
    node = TdxNode(nonce=nonce)
    assert appraised(node, nonce=nonce).verdict.outcome is Outcome.PASS
    assert refused(node) == ("report-data", Code.NONCE_MISMATCH)


def test_gpus_that_ignore_the_nonce_are_refused_though_the_quote_is_fresh():
    nonce = b"\x6e" * 32
    node = TdxNode(nonce=nonce)
    node.gpu_reports = TdxNode().gpu_reports
    assert refused(node, nonce=nonce) == ("gpu-evidence", Code.GPU_NONCE_MISMATCH)


def test_gpu_reports_of_another_nonce_are_refused_though_the_quote_binds_them():
    node = TdxNode()
    node.gpu_reports = (nvidia.Report(nonce=bytes(32)).encode(),)
    assert refused(node) == ("gpu-evidence", Code.GPU_NONCE_MISMATCH)


def test_one_gpu_is_not_two():
    node = TdxNode(gpus=("one", "one"))
    assert refused(node) == ("gpu-evidence", Code.GPU_NOT_DISTINCT)


def test_a_gpu_report_that_another_key_signed():
    node = TdxNode()
    forged = nvidia.Report(nonce=node.gpu_reports[0][4:36]).encode(ec_key("a stranger"))
    node.gpu_reports = (forged,)
    assert refused(node) == ("gpu-evidence", Code.GPU_SIGNATURE_BAD)


def test_gpu_reports_exchanged_after_the_quote(honest):
    bundle = replace(honest.bundle(), gpu_reports=honest.gpu_reports[::-1])
    assert refused(honest, bundle) == ("report-data", Code.REPORT_DATA_MISMATCH)


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("nvidia.0-chain", Code.GPU_CHAIN_MISSING),
        ("nvidia.0-ocsp", Code.GPU_OCSP_MISSING),
        ("rim-ocsp.1", Code.GPU_OCSP_MISSING),
    ],
)
def test_collateral_of_a_gpu_that_is_missing(missing, code):
    assert refused(TdxNode(parts={missing: None})) == ("gpu-evidence", code)


def test_a_quote_without_its_collateral():
    node = TdxNode(parts={"intel-dcap": None})
    assert refused(node) == ("quote-signature", Code.TDX_COLLATERAL_MISSING)


@pytest.mark.parametrize("name", ["amd-chain", "nvidia.1-chain", "rim.2x", "rim-ocsp.2", "x"])
def test_collateral_that_nobody_uses(name):
    node = TdxNode(parts={name: b"x"})
    assert refused(node) == ("quote-signature", Code.QUOTE_UNCHECKED_EVIDENCE)


def test_a_root_that_is_not_pinned(honest):
    for platform, step in (("tdx", "quote-signature"), ("nvidia", "gpu-evidence")):
        roots = {**honest.reference().roots, platform: frozenset({bytes(32)})}
        assert refused(honest, roots=roots)[0] == step
    assert refused(honest, roots={})[0] == "quote-signature"


def test_a_real_node_has_no_place_in_a_log_of_simulated_ones(honest):
    everything = ClientPolicy(frozenset(Weakness))
    found = refused(honest, policy=everything, log_origin="log.test.invalid/x.simulated")
    assert found == ("log-origin", Code.LOG_ORIGIN_REFUSED)


def test_authentic_but_not_acceptable_hardware():
    open_to_attack = {"tcb_info": {"tcbEvaluationDataNumber": 1}}
    assert refused(TdxNode(intel=open_to_attack))[0] == "platform-policy"


def test_the_policys_parts_decide(honest):
    strict = ClientPolicy(tdx=TdxPolicy(min_tcb_evaluation_number=99))
    expected = ("platform-policy", Code.TDX_TCB_EVALUATION_TOO_OLD)
    assert refused(honest, policy=strict) == expected
    strict = ClientPolicy(gpu=GpuPolicy(architectures=frozenset({"blackwell"})))
    expected = ("gpu-evidence", Code.GPU_ARCHITECTURE_REFUSED)
    assert refused(honest, policy=strict) == expected


def test_the_unsafe_policy_asks_no_gpu_for_manifests_or_revocation():
    parts = ("nvidia.0-ocsp", "rim.0", "rim.1", "rim-ocsp.0", "rim-ocsp.1")
    node = TdxNode(parts=dict.fromkeys(parts))
    assert refused(node)[0] == "gpu-evidence"
    verified = appraised(node, policy=AcceptEverythingUnsafe())
    assert "UNSAFE" in next(s.reason for s in verified.steps if s.step == "platform-policy")


def test_every_byte_of_the_collateral_has_one_encoding(honest):
    bundle = honest.bundle()
    encoded = bundle.collateral
    spaced = replace(bundle, collateral=encoded.replace(b":", b": ", 1))
    assert refused(honest, spaced) == ("bundle", Code.COLLATERAL_MALFORMED)
    assert Collateral.decode(encoded).encode() == encoded
