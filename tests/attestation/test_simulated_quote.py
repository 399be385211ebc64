"""The simulated quote has one encoding, and its claims exactly five members."""

import cbor2
import pytest

from attestation import simulated_quote
from attestation.errors import MalformedEvidence
from attestation.simulated_quote import SimulatedQuote
from wire import cbor

QUOTE = SimulatedQuote(b"\x01" * 32, b"\x02" * 64, 1_800_000_000, b"\x03" * 32)
CLAIMS = QUOTE.encode()


def test_claims_round_trip():
    assert SimulatedQuote.decode(CLAIMS) == QUOTE
    assert cbor2.loads(CLAIMS)["platform"] == "simulated"


def test_join_and_split_are_inverse():
    assert simulated_quote.split(simulated_quote.join(CLAIMS, bytes(64))) == (CLAIMS, bytes(64))


def test_the_signature_is_over_a_label_of_its_own():
    assert simulated_quote.to_be_signed(CLAIMS) == b"sottovoce simulated quote v1" + CLAIMS


@pytest.mark.parametrize(
    "changes",
    [
        {"platform": "tdx"},
        {"platform": None},
        {"measurement": bytes(48)},
        {"measurement": "1" * 32},
        {"report_data": bytes(32)},
        {"report_data": None},
        {"issued_at": True},
        {"issued_at": 1.5},
        {"issued_at": -1},
        {"issued_at": 2**41},
        {"root_key": bytes(33)},
        {"more": 1},
    ],
)
def test_claims_outside_the_format_are_refused(changes):
    with pytest.raises(MalformedEvidence):
        SimulatedQuote.decode(cbor2.dumps(cbor2.loads(CLAIMS) | changes, canonical=True))


def test_a_missing_claim_is_refused():
    members = cbor2.loads(CLAIMS)
    for name in members:
        less = {key: value for key, value in members.items() if key != name}
        with pytest.raises(MalformedEvidence):
            SimulatedQuote.decode(cbor.encode(less))


@pytest.mark.parametrize(
    "members",
    [
        {"claims": CLAIMS},
        {"claims": CLAIMS, "signature": bytes(63)},
        {"claims": CLAIMS, "signature": "s" * 64},
        {"claims": cbor2.loads(CLAIMS), "signature": bytes(64)},
        {"claims": CLAIMS, "signature": bytes(64), "kid": b""},
        [CLAIMS, bytes(64)],
        None,
    ],
)
def test_a_quote_of_another_shape_is_refused(members):
    with pytest.raises(MalformedEvidence):
        simulated_quote.split(cbor.encode(members))


def test_a_quote_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(MalformedEvidence, match="too long"):
        simulated_quote.split(bytes(1025))


def test_another_encoding_is_refused():
    members = {"signature": bytes(64), "claims": CLAIMS}
    with pytest.raises(MalformedEvidence):
        simulated_quote.split(cbor2.dumps(members))
    quote = simulated_quote.join(CLAIMS, bytes(64))
    for length in range(len(quote)):
        with pytest.raises(MalformedEvidence):
            simulated_quote.split(quote[:length])
    with pytest.raises(MalformedEvidence):
        simulated_quote.split(quote + b"\x00")
