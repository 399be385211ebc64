"""The appraisal of a node: one forgery a check, each refused at its step with its own code."""

import dataclasses
import hashlib

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation import simulated_quote
from attestation.attester.simulated import SimulatedAttester
from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import AppraisalError, Code
from attestation.report_data import report_data
from attestation.verdict import Outcome
from attestation.verifier import node as node_module
from attestation.verifier.node import STEPS, VerifiedNode, appraise
from attestation.verifier.policy import ClientPolicy, admission_policy
from attestation.verifier.unsafe_policy import AcceptEverythingUnsafe
from attestation.verifier.weakness import Weakness
from wire import canonical_json

NOW = 1_800_000_000


def refused(node, bundle=None, **arguments):
    """Appraise, and return the (step, code) it was refused with, after checking the verdict."""
    with pytest.raises(AppraisalError) as caught:
        node.appraise(bundle, **arguments)
    error = caught.value
    at = STEPS.index(error.step)
    assert [step.step for step in error.steps] == list(STEPS)
    outcomes = [step.outcome for step in error.steps]
    left = len(STEPS) - at - 1
    assert outcomes == [Outcome.PASS] * at + [Outcome.FAIL] + [Outcome.SKIP] * left
    assert error.steps[at].reason == error.reason
    assert all(step.reason == "not reached" for step in error.steps[at + 1 :])
    assert error.verdict.outcome is Outcome.FAIL
    assert error.code in str(error)
    return error.step, error.code


def with_claims(node, **changes):
    """A bundle whose quote has other claims, signed well by the same root."""
    bundle = node.bundle()
    claims, _ = simulated_quote.split(bundle.quote)
    claims = cbor2.dumps(cbor2.loads(claims) | changes, canonical=True)
    signature = node.attester._root.sign(simulated_quote.to_be_signed(claims))
    return dataclasses.replace(bundle, quote=simulated_quote.join(claims, signature))


# --- what is accepted -------------------------------------------------------------------------


def test_an_honest_node_passes_every_step(node):
    verified = node.appraise()
    assert [step.step for step in verified.steps] == list(STEPS)
    assert verified.verdict.outcome is Outcome.PASS
    assert verified.key_document == node.key_document
    assert verified.node == node.key_document.node
    assert verified.capacity == 4
    assert verified.platform == "simulated"
    assert verified.quote == node.bundle().quote
    assert verified.engine_policy.verification == "audit"
    assert verified.appraised_at == NOW


def test_a_simulated_node_says_so_loudly(node):
    verified = node.appraise()
    assert verified.weaknesses == {Weakness.SIMULATED}
    assert verified.warnings == ("SIMULATED: proves nothing about hardware",)
    reasons = {step.step: step.reason for step in verified.steps}
    assert "SIMULATED: proves nothing about hardware" in reasons["platform"]
    assert "SIMULATED: proves nothing about hardware" in reasons["quote-signature"]


def test_every_weakness_that_was_accepted_is_named(node, anything):
    node.engine |= {"verification": "none", "transfers": "plain", "erasure": "upstream"}
    verified = node.appraise(policy=anything)
    assert verified.weaknesses == frozenset(Weakness) - {Weakness.BOOT_ONLY}
    assert len(verified.warnings) == 4
    assert verified.verdict.outcome is Outcome.PASS


def test_an_accepted_weakness_the_node_does_not_have_is_not_held_against_it(node, anything):
    assert node.appraise(policy=anything).weaknesses == {Weakness.SIMULATED}


def test_the_document_s_last_second_is_the_one_before_not_after(node):
    document = node.key_document
    node.appraise(at=document.not_before)
    node.appraise(at=document.not_after - 1)


def test_a_fresh_quote_answers_the_nonce_that_was_asked(node):
    nonce = b"\x6e" * 32
    assert node.appraise(node.bundle(nonce), nonce=nonce).verdict.outcome is Outcome.PASS


def test_a_log_admits_a_document_ahead_of_its_use(node):
    node.document = {"not_before": NOW + 1200, "not_after": NOW + 1200 + 3600}
    policy = admission_policy(frozenset({Weakness.SIMULATED}))
    assert node.appraise(policy=policy).verdict.outcome is Outcome.PASS
    assert refused(node) == ("key-document-dates", Code.KEY_DOCUMENT_NOT_YET_VALID)
    node.document = {"not_before": NOW + 3601, "not_after": NOW + 7200}
    assert refused(node, policy=policy)[1] is Code.KEY_DOCUMENT_NOT_YET_VALID


# --- one forgery a check ----------------------------------------------------------------------


def test_bytes_that_are_no_bundle(node, simulated_only):
    with pytest.raises(AppraisalError) as caught:
        appraise(b"{}", policy=simulated_only, reference=node.reference, at=NOW)
    assert (caught.value.step, caught.value.code) == ("bundle", Code.BUNDLE_MALFORMED)


def test_a_bundle_with_a_malformed_key_document(node):
    for document in (b"", node.key_document.encode() + b"\x00"):
        bundle = dataclasses.replace(node.bundle(), key_document=document)
        assert refused(node, bundle) == ("bundle", Code.KEY_DOCUMENT_MALFORMED)


def test_a_bundle_with_a_malformed_engine_policy(node):
    bundle = dataclasses.replace(node.bundle(), engine_policy=b"{}")
    assert refused(node, bundle) == ("bundle", Code.ENGINE_POLICY_MALFORMED)


def test_the_default_policy_accepts_no_simulated_node(node):
    assert refused(node, policy=ClientPolicy()) == ("platform", Code.PLATFORM_REFUSED)


def test_no_other_weakness_stands_in_for_simulated(node):
    policy = ClientPolicy(frozenset(Weakness) - {Weakness.SIMULATED})
    assert refused(node, policy=policy) == ("platform", Code.PLATFORM_REFUSED)


def test_a_simulated_node_in_the_log_of_real_ones(node):
    for log_origin in ("sottovoce.example", "a.simulated.example", ""):
        expected = ("log-origin", Code.LOG_ORIGIN_REFUSED)
        assert refused(node, log_origin=log_origin) == expected


def test_a_real_node_in_the_log_of_simulated_ones(node):
    bundle = dataclasses.replace(node.bundle(), platform="tdx")
    assert refused(node, bundle) == ("log-origin", Code.LOG_ORIGIN_REFUSED)


def test_a_platform_that_the_policy_accepts_and_nothing_here_verifies(node, monkeypatch):
    monkeypatch.setattr(node_module, "PLATFORMS", {})
    bundle = dataclasses.replace(node.bundle(), platform="tdx")
    expected = ("quote-signature", Code.PLATFORM_UNSUPPORTED)
    assert refused(node, bundle, log_origin="sottovoce.example") == expected


def test_a_quote_that_is_malformed(node):
    for quote in (b"", b"\x00", node.bundle().quote + b"\x00"):
        bundle = dataclasses.replace(node.bundle(), quote=quote)
        assert refused(node, bundle) == ("quote-signature", Code.QUOTE_MALFORMED)
    bundle = with_claims(node, platform="tdx")
    assert refused(node, bundle) == ("quote-signature", Code.QUOTE_MALFORMED)


def test_a_quote_of_a_root_that_is_not_pinned(node):
    expected = ("quote-signature", Code.QUOTE_ROOT_UNKNOWN)
    root = node.reference.roots["simulated"]
    for roots in ({}, {"simulated": frozenset()}, {"tdx": root}):
        assert refused(node, roots=roots) == expected
    stranger = SimulatedAttester(b"\x99" * 32, node.measurement, lambda: NOW)
    quote = stranger.quote(report_data(node.key_document.digest))
    bundle = dataclasses.replace(node.bundle(), quote=quote)
    assert refused(node, bundle) == expected


def test_a_quote_with_a_bad_signature(node):
    bundle = node.bundle()
    claims, signature = simulated_quote.split(bundle.quote)
    stranger = SimulatedAttester(b"\x99" * 32, node.measurement)
    for forged in (
        bytes(64),
        signature[:32] + bytes(32),
        stranger._root.sign(simulated_quote.to_be_signed(claims)),
        node.attester._root.sign(claims),  # without the label: signed for another purpose
    ):
        quote = simulated_quote.join(claims, forged)
        lying = dataclasses.replace(bundle, quote=quote)
        assert refused(node, lying) == ("quote-signature", Code.QUOTE_SIGNATURE_BAD)


def test_a_signature_moved_to_other_claims(node):
    bundle = node.bundle()
    _, signature = simulated_quote.split(bundle.quote)
    claims, _ = simulated_quote.split(with_claims(node, measurement=bytes(32)).quote)
    lying = dataclasses.replace(bundle, quote=simulated_quote.join(claims, signature))
    assert refused(node, lying) == ("quote-signature", Code.QUOTE_SIGNATURE_BAD)


def test_evidence_that_nothing_checks(node):
    unused = Collateral({"amd-crl": b"x"}).encode()
    for changes in ({"collateral": unused}, {"event_log": b"x"}):
        bundle = dataclasses.replace(node.bundle(), **changes)
        assert refused(node, bundle) == ("quote-signature", Code.QUOTE_UNCHECKED_EVIDENCE)


def test_malformed_collateral(node):
    bundle = dataclasses.replace(node.bundle(), collateral=b"x")
    assert refused(node, bundle) == ("bundle", Code.COLLATERAL_MALFORMED)


def test_a_quote_from_the_future(node):
    node.quoted_at = NOW + 300
    assert node.appraise().verdict.outcome is Outcome.PASS
    node.quoted_at = NOW + 301
    assert refused(node) == ("quote-dates", Code.QUOTE_FROM_THE_FUTURE)


def test_a_quote_that_is_too_old(node, simulated_only):
    age = simulated_only.max_quote_age_s
    node.quoted_at = NOW - age
    assert node.appraise().verdict.outcome is Outcome.PASS
    node.quoted_at = NOW - age - 1
    assert refused(node) == ("quote-dates", Code.QUOTE_TOO_OLD)


def test_a_measurement_that_is_no_logged_release(node):
    expected = ("measurement", Code.MEASUREMENT_NOT_LOGGED)
    logged = node.reference.releases["simulated"]
    for releases in ({}, {"simulated": frozenset({bytes(32)})}, {"tdx": logged}):
        assert refused(node, releases=releases) == expected


def test_a_quote_over_another_key_document(node):
    other = dataclasses.replace(node.key_document, capacity=8)
    bundle = dataclasses.replace(node.bundle(), key_document=other.encode())
    logged = frozenset({other.digest})
    expected = ("report-data", Code.REPORT_DATA_MISMATCH)
    assert refused(node, bundle, key_documents=logged) == expected


def test_a_quote_over_other_gpu_reports(node):
    bundle = dataclasses.replace(node.bundle(), gpu_reports=(b"slipped in",))
    assert refused(node, bundle) == ("report-data", Code.REPORT_DATA_MISMATCH)


def test_a_quote_over_another_nonce(node):
    expected = ("report-data", Code.NONCE_MISMATCH)
    assert refused(node, nonce=b"\x01" * 32) == expected
    assert refused(node, node.bundle(b"\x01" * 32)) == expected
    assert refused(node, node.bundle(b"\x01" * 32), nonce=b"\x02" * 32) == expected


def test_a_key_document_that_is_not_in_the_log(node):
    expected = ("key-document-log", Code.KEY_DOCUMENT_NOT_LOGGED)
    for logged in (frozenset(), frozenset({bytes(32)})):
        assert refused(node, key_documents=logged) == expected


def test_a_key_document_before_its_time(node):
    at = node.key_document.not_before - 1
    expected = ("key-document-dates", Code.KEY_DOCUMENT_NOT_YET_VALID)
    assert refused(node, at=at) == expected


def test_a_key_document_after_its_time(node):
    at = node.key_document.not_after
    assert refused(node, at=at) == ("key-document-dates", Code.KEY_DOCUMENT_EXPIRED)


def test_an_engine_policy_that_the_key_document_does_not_name(node):
    other = canonical_json.encode(node.engine | {"note": "another"})
    bundle = dataclasses.replace(node.bundle(), engine_policy=other)
    policies = node.reference.policies | {hashlib.sha256(other).digest()}
    expected = ("engine-policy", Code.ENGINE_POLICY_DIGEST_MISMATCH)
    assert refused(node, bundle, policies=policies) == expected


def test_an_engine_policy_that_is_not_in_the_log(node):
    expected = ("engine-policy", Code.ENGINE_POLICY_NOT_LOGGED)
    assert refused(node, policies=frozenset()) == expected


def test_an_engine_policy_for_another_device(node):
    node.document = {"device": "cuda"}
    assert refused(node) == ("engine-policy", Code.ENGINE_POLICY_DEVICE_MISMATCH)


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        ({"verification": "none"}, Code.COMPUTE_UNVERIFIED),
        ({"transfers": "plain"}, Code.TRANSFERS_PLAIN),
        ({"erasure": "upstream"}, Code.MEMORY_NOT_ERASED),
        ({"prefix_cache": "shared"}, Code.CACHE_ACROSS_REQUESTS),
    ],
)
def test_an_engine_policy_below_the_client_s(node, engine, code):
    node.engine |= engine
    assert refused(node) == ("engine-policy", code)


def test_a_model_of_a_name_that_is_not_in_the_log(node):
    models = {"another": node.reference.models["tinychat"]}
    assert refused(node, models=models) == ("model-digest", Code.MODEL_NAME_NOT_LOGGED)


def test_a_model_under_another_model_s_name(node):
    for models in (
        {"tinychat": frozenset({bytes(32)}), "another": node.reference.models["tinychat"]},
        {"tinychat": frozenset()},
    ):
        assert refused(node, models=models) == ("model-digest", Code.MODEL_DIGEST_NOT_LOGGED)


def gpu_bundle(node, *reports):
    """A bundle whose quote does bind these GPU reports."""
    quote = node.attester.quote(report_data(node.key_document.digest, reports))
    return dataclasses.replace(node.bundle(), quote=quote, gpu_reports=reports)


def test_fewer_gpu_reports_than_stated_is_a_failure_and_no_skip(node):
    node.document = {"gpu_count": 2}
    for reports in ((), (b"one",)):
        bundle = gpu_bundle(node, *reports)
        assert refused(node, bundle) == ("gpu-evidence", Code.GPU_REPORTS_MISSING)


def test_more_gpu_reports_than_stated(node):
    bundle = gpu_bundle(node, b"one")
    assert refused(node, bundle) == ("gpu-evidence", Code.GPU_REPORTS_SURPLUS)


def test_gpu_reports_are_not_believed_without_their_certificates(node):
    node.document = {"gpu_count": 1}
    bundle = gpu_bundle(node, b"trust me")
    assert refused(node, bundle) == ("gpu-evidence", Code.GPU_CHAIN_MISSING)


def test_a_gpu_whose_certificates_are_none(node):
    node.document = {"gpu_count": 1}
    chain = Collateral({"nvidia.0-chain": b"x"}).encode()
    bundle = dataclasses.replace(gpu_bundle(node, b"trust me"), collateral=chain)
    assert refused(node, bundle) == ("gpu-evidence", Code.GPU_CHAIN_MALFORMED)


def test_collateral_for_a_gpu_that_is_not_there(node):
    chain = Collateral({"nvidia.0-chain": b"x"}).encode()
    bundle = dataclasses.replace(node.bundle(), collateral=chain)
    assert refused(node, bundle) == ("quote-signature", Code.QUOTE_UNCHECKED_EVIDENCE)


def test_a_release_that_is_not_on_the_policys_own_list(node):
    accepted = {"accepted_weaknesses": frozenset({Weakness.SIMULATED})}
    own = {"simulated": frozenset({node.measurement.hex()})}
    node.appraise(policy=ClientPolicy(**accepted, releases=own))
    policy = ClientPolicy(**accepted, releases={"simulated": frozenset({"ab" * 32})})
    assert refused(node, policy=policy) == ("measurement", Code.RELEASE_NOT_ALLOWED)


def test_a_model_that_is_not_on_the_policys_own_list(node):
    accepted = {"accepted_weaknesses": frozenset({Weakness.SIMULATED})}
    own = {"tinychat": frozenset({node.key_document.model_digest.hex()})}
    node.appraise(policy=ClientPolicy(**accepted, models=own))
    policy = ClientPolicy(**accepted, models={"tinychat": frozenset({"ab" * 32})})
    assert refused(node, policy=policy) == ("model-digest", Code.MODEL_NOT_ALLOWED)


def test_the_policy_that_accepts_everything_still_wants_authentic_logged_evidence(node):
    node.engine |= {"verification": "none", "transfers": "plain", "prefix_cache": "shared"}
    node.engine |= {"erasure": "upstream"}
    verified = node.appraise(policy=AcceptEverythingUnsafe())
    assert verified.weaknesses == frozenset(Weakness) - {Weakness.BOOT_ONLY}
    assert "UNSAFE" in next(s.reason for s in verified.steps if s.step == "platform-policy")
    unlogged = {"policy": AcceptEverythingUnsafe(), "key_documents": frozenset()}
    assert refused(node, **unlogged) == ("key-document-log", Code.KEY_DOCUMENT_NOT_LOGGED)


def test_no_accelerator_stated_passes_with_that_reason(node):
    assert node.appraise().steps[-1].reason == "no accelerator stated"


class _RealQuote:
    """Stands for a platform's verified quote: every step about the quote passes."""

    measurement = b"\x4d" * 32
    worth = "signed by a pinned root"
    weaknesses = frozenset()

    def check_dates(self, *, at, max_age_s):  # noqa: ARG002
        return "in date"

    def check_policy(self, policy, *, at):  # noqa: ARG002
        return "as the policy demands"

    def check_report_data(self, expected):  # noqa: ARG002
        return "bound"


class _RealPlatform:
    collateral_names = frozenset()

    def verify(self, bundle, collateral, *, roots, at):  # noqa: ARG002
        return _RealQuote()


def test_a_real_node_cannot_keep_a_gpu_by_not_counting_it(node, monkeypatch):
    monkeypatch.setattr(node_module, "PLATFORMS", {"tdx": _RealPlatform()})
    real = {
        "policy": ClientPolicy(),
        "log_origin": "sottovoce.example",
        "releases": {"tdx": frozenset({node.measurement})},
    }
    verified = node.appraise(dataclasses.replace(node.bundle(), platform="tdx"), **real)
    assert verified.weaknesses == frozenset()
    assert verified.warnings == ()
    node.engine |= {"device": "cuda"}
    bundle = dataclasses.replace(node.bundle(), platform="tdx")
    assert refused(node, bundle, **real) == ("gpu-evidence", Code.ACCELERATOR_NOT_STATED)


def test_a_simulated_node_may_compute_on_a_gpu_for_it_proves_nothing_anyway(node):
    node.engine |= {"device": "cuda"}
    assert node.appraise().warnings == ("SIMULATED: proves nothing about hardware",)


# --- malleability -----------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_flipped_byte_anywhere_in_a_bundle_is_accepted(node, data):
    encoded = bytearray(node.bundle().encode())
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AppraisalError):
        appraise(
            bytes(encoded),
            policy=ClientPolicy(frozenset(Weakness)),
            reference=node.reference,
            at=NOW,
        )


def test_no_flipped_byte_in_a_quote_is_accepted(node):
    bundle = node.bundle()
    for position in range(len(bundle.quote)):
        quote = bytearray(bundle.quote)
        quote[position] ^= 1 << position % 8
        assert refused(node, dataclasses.replace(bundle, quote=bytes(quote)))


def test_no_truncated_or_extended_bundle_is_accepted(node, simulated_only):
    encoded = node.bundle().encode()
    cut = [encoded[:length] for length in range(0, len(encoded), 31)]
    for other in (*cut, encoded + b" ", encoded + encoded):
        with pytest.raises(AppraisalError) as caught:
            appraise(other, policy=simulated_only, reference=node.reference, at=NOW)
        assert caught.value.code is Code.BUNDLE_MALFORMED


# --- only an appraisal makes a VerifiedNode ---------------------------------------------------


def members(verified):
    return {field.name: getattr(verified, field.name) for field in dataclasses.fields(verified)}


def test_nobody_else_makes_a_verified_node(node):
    verified = node.appraise()
    for seal in (None, object(), True):
        with pytest.raises(TypeError):
            VerifiedNode(**members(verified), seal=seal)
    with pytest.raises(TypeError):
        VerifiedNode(**members(verified))


def test_a_verified_node_cannot_be_changed_into_another(node):
    verified = node.appraise()
    other = dataclasses.replace(node.key_document, capacity=8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        verified.key_document = other
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, key_document=other)


def test_every_code_of_an_appraisal_and_of_a_receipt_is_distinct():
    assert len({code.value for code in Code}) == len(Code)


def test_the_bundle_of_all_clients_is_the_same(node):
    assert node.bundle().encode() == node.bundle().encode()
    assert Bundle.decode(node.bundle().encode()) == node.bundle()
