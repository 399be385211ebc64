"""The check of a receipt: one forgery a check, each refused at its step with its own code."""

import dataclasses

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation.errors import Code, ReceiptError
from attestation.verdict import Outcome
from attestation.verifier.receipt import STEPS, WINDOW_S, check_receipt
from wire import receipt
from wire.receipt import Transfers, Verification

NOW = 1_800_000_000
REQUEST_HASH = b"\x71" * 32
RESPONSE_HASH = b"\x61" * 32


def check(node, data=None, *, policy=None, **arguments):
    """Check `data`, or the honest receipt, against what the client knows of the completion."""
    known = {
        "node": node.appraise(policy=policy),
        "request_hash": REQUEST_HASH,
        "response_hash": RESPONSE_HASH,
        "prompt_tokens": 11,
        "completion_tokens": 22,
        "at": NOW,
    }
    if data is None:
        data = receipt.sign(node.receipt(), node.receipt_key)
    return check_receipt(data, **(known | arguments))


def refused(node, data=None, **arguments):
    """Check, and return the (step, code) it was refused with, after looking at the verdict."""
    with pytest.raises(ReceiptError) as caught:
        check(node, data, **arguments)
    error = caught.value
    at = STEPS.index(error.step)
    outcomes = [step.outcome for step in error.steps]
    left = len(STEPS) - at - 1
    assert outcomes == [Outcome.PASS] * at + [Outcome.FAIL] + [Outcome.SKIP] * left
    assert error.verdict.outcome is Outcome.FAIL
    return error.step, error.code


def lying(node, **changes):
    """A receipt with other claims, signed well by the node."""
    return receipt.sign(node.receipt(**changes), node.receipt_key)


def test_an_honest_receipt_passes_every_step(node):
    steps = check(node)
    assert [step.step for step in steps] == list(STEPS)
    assert {step.outcome for step in steps} == {Outcome.PASS}


def test_a_completion_that_states_no_usage_is_told_the_signed_one(node):
    steps = check(node, prompt_tokens=None, completion_tokens=None)
    reason = {step.step: step.reason for step in steps}["receipt-usage"]
    assert "states no usage" in reason
    assert "11 prompt and 22 completion tokens" in reason


def test_bytes_that_are_no_receipt(node):
    honest = receipt.sign(node.receipt(), node.receipt_key)
    for data in (b"", b"\x00", honest[:-1], honest + b"\x00", honest[1:]):
        assert refused(node, data) == ("receipt-format", Code.RECEIPT_MALFORMED)


def test_another_algorithm(node):
    _, unprotected, claims, signature = cbor2.loads(lying(node)).value
    es256 = [cbor2.dumps({1: -7}), unprotected, claims, signature]
    data = cbor2.dumps(cbor2.CBORTag(18, es256))
    assert refused(node, data) == ("receipt-format", Code.RECEIPT_ALGORITHM)


def test_a_signature_by_another_key(node):
    stranger = Ed25519PrivateKey.from_private_bytes(b"\x99" * 32)
    data = receipt.sign(node.receipt(), stranger)
    assert refused(node, data) == ("receipt-signature", Code.RECEIPT_SIGNATURE_BAD)


def test_a_signature_moved_to_other_claims(node):
    honest = cbor2.loads(lying(node)).value
    other = cbor2.loads(lying(node, completion_tokens=1)).value
    data = cbor2.dumps(cbor2.CBORTag(18, [*other[:3], honest[3]]))
    assert refused(node, data) == ("receipt-signature", Code.RECEIPT_SIGNATURE_BAD)


def resigned(node, **changes):
    """A receipt with claims that `wire.receipt` would not sign."""
    protected, unprotected, claims, _ = cbor2.loads(lying(node)).value
    changed = cbor2.loads(claims) | {int(name): value for name, value in changes.items()}
    payload = cbor2.dumps(changed, canonical=True)
    to_be_signed = cbor2.dumps(["Signature1", protected, b"", payload])
    parts = [protected, unprotected, payload, node.receipt_key.sign(to_be_signed)]
    return cbor2.dumps(cbor2.CBORTag(18, parts))


def test_claims_that_are_not_a_receipt_s_though_signed(node):
    data = resigned(node, **{"-65539": [11]})
    assert refused(node, data) == ("receipt-signature", Code.RECEIPT_CLAIMS_MALFORMED)


def test_another_profile_though_signed(node):
    data = resigned(node, **{"265": "tag:example.org,2026:other"})
    assert refused(node, data) == ("receipt-signature", Code.RECEIPT_PROFILE)


def test_a_receipt_of_another_node(node):
    data = lying(node, key_document=bytes(32))
    assert refused(node, data) == ("receipt-node", Code.RECEIPT_OF_ANOTHER_NODE)


def test_a_receipt_of_another_request(node):
    data = lying(node, request_hash=bytes(32))
    expected = ("receipt-request", Code.RECEIPT_OF_ANOTHER_REQUEST)
    assert refused(node, data) == expected
    assert refused(node, request_hash=bytes(32)) == expected


def test_a_receipt_of_another_response(node):
    data = lying(node, response_hash=bytes(32))
    expected = ("receipt-response", Code.RECEIPT_OF_ANOTHER_RESPONSE)
    assert refused(node, data) == expected
    assert refused(node, response_hash=bytes(32)) == expected


def test_a_receipt_of_another_model(node):
    data = lying(node, model_digest=bytes(32))
    assert refused(node, data) == ("receipt-model", Code.RECEIPT_OF_ANOTHER_MODEL)


@pytest.mark.parametrize(
    ("promised", "done"),
    [
        ("audit", "none"),
        ("full", "none"),
        ("full", "audit"),
        ("full", "ship"),
        ("ship", "audit"),
        ("ship", "full"),
    ],
)
def test_verification_below_what_the_node_promises(node, promised, done):
    node.engine |= {"verification": promised}
    data = lying(node, verification=Verification(done, 33, bytes(32)))
    expected = ("receipt-verification", Code.VERIFICATION_BELOW_POLICY)
    assert refused(node, data) == expected


@pytest.mark.parametrize(
    ("promised", "done"), [("none", "none"), ("none", "full"), ("audit", "ship"), ("full", "full")]
)
def test_verification_at_least_what_the_node_promises(node, anything, promised, done):
    node.engine |= {"verification": promised}
    data = lying(node, verification=Verification(done, 33, bytes(32)))
    assert check(node, data, policy=anything)


def test_a_mode_without_a_single_check(node, anything):
    data = lying(node, verification=Verification("audit", 0, bytes(32)))
    expected = ("receipt-verification", Code.VERIFICATION_WITHOUT_CHECKS)
    assert refused(node, data) == expected
    nothing_computed = {"verification": Verification("audit", 0, bytes(32)), "completion_tokens": 0}
    assert check(node, lying(node, **nothing_computed), completion_tokens=0)
    node.engine |= {"verification": "none"}
    unverified = lying(node, verification=Verification("none", 0, bytes(32)))
    assert check(node, unverified, policy=anything)


@pytest.mark.parametrize(
    ("promised", "done"),
    [
        ("none", "plain"),
        ("none", "cc"),
        ("none", "sealed"),
        ("sealed", "plain"),
        ("sealed", "cc"),
        ("cc", "plain"),
    ],
)
def test_transfers_below_what_the_node_promises(node, promised, done):
    node.engine |= {"transfers": promised}
    data = lying(node, transfers=Transfers(done, 1, 1, 0))
    assert refused(node, data) == ("receipt-transfers", Code.TRANSFERS_BELOW_POLICY)


@pytest.mark.parametrize(
    ("promised", "done"),
    [("plain", "plain"), ("plain", "none"), ("cc", "sealed"), ("sealed", "none"), ("none", "none")],
)
def test_transfers_at_least_what_the_node_promises(node, anything, promised, done):
    node.engine |= {"transfers": promised}
    data = lying(node, transfers=Transfers(done, 1, 1, 0))
    assert check(node, data, policy=anything)


@pytest.mark.parametrize(
    ("prompt_tokens", "completion_tokens"),
    [(11, 21), (12, 22), (22, 11), (0, 0), (None, 22), (11, None), ("11", "22")],
)
def test_other_token_counts_than_the_completion_states(node, prompt_tokens, completion_tokens):
    stated = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    assert refused(node, **stated) == ("receipt-usage", Code.USAGE_MISMATCH)


def test_a_date_finer_than_minutes(node):
    data = lying(node, issued_at=NOW + 1)
    assert refused(node, data) == ("receipt-date", Code.RECEIPT_DATE_NOT_ROUNDED)


def test_a_date_outside_the_window(node):
    expected = ("receipt-age", Code.RECEIPT_DATE_OUTSIDE_WINDOW)
    for edge in (-WINDOW_S, WINDOW_S):
        assert check(node, lying(node, issued_at=NOW + edge))
        beyond = edge + (60 if edge > 0 else -60)
        assert refused(node, lying(node, issued_at=NOW + beyond)) == expected
    assert refused(node, at=NOW + WINDOW_S + 1) == expected


def test_a_receipt_of_the_same_node_under_its_next_document_is_not_taken(node):
    data = lying(node)
    node.document = {"not_after": node.key_document.not_after - 1}
    assert refused(node, data) == ("receipt-node", Code.RECEIPT_OF_ANOTHER_NODE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_flipped_byte_in_a_receipt_is_accepted(node, data):
    flipped = bytearray(lying(node))
    position = data.draw(st.integers(0, len(flipped) - 1))
    flipped[position] ^= data.draw(st.integers(1, 255))
    step, _ = refused(node, bytes(flipped))
    assert step in ("receipt-format", "receipt-signature")


def test_no_reason_quotes_a_hash_or_a_path(node):
    for step in check(node):
        assert REQUEST_HASH.hex() not in step.reason
        assert "/v1" not in step.reason


def test_the_honest_receipt_is_what_the_tests_change(node):
    assert dataclasses.replace(node.receipt()) == node.receipt()


def test_without_a_time_the_age_is_skipped_and_the_rounding_is_not(node):
    *made, age = check(node, at=None)
    assert (age.step, age.outcome) == ("receipt-age", Outcome.SKIP)
    assert {step.outcome for step in made} == {Outcome.PASS}
    assert refused(node, lying(node, issued_at=NOW + 1), at=None)[0] == "receipt-date"
