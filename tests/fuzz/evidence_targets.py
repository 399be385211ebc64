"""The decoders of `attestation`."""

from __future__ import annotations

from attestation import base64url, simulated_quote
from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.errors import MalformedEvidence, PolicyError
from attestation.simulated_quote import SimulatedQuote
from attestation.verifier.engine_policy import EnginePolicy
from attestation.verifier.policy_file import parse_policy
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import DATE, key_document
from wire import canonical_json

ERRORS = (MalformedEvidence,)
POLICY = canonical_json.encode(
    {
        "version": 1,
        "verification": "none",
        "transfers": "none",
        "prefix_cache": "request",
        "device": "cpu",
        "optimisations": {"paging": {"state": "on", "form": "blocks"}},
    }
)
QUOTE = SimulatedQuote(b"\x01" * 32, b"\x02" * 64, DATE, b"\x03" * 32)


def bundles() -> list[bytes]:
    document = key_document().encode()
    plain = Bundle(document, "simulated", b"quote", POLICY)
    full = Bundle(document, "tdx", b"quote", POLICY, b"collateral", (b"one", b"two"), b"events")
    return [plain.encode(), full.encode()]


TARGETS = (
    Target(
        "bundle",
        Bundle.decode,
        ERRORS,
        bundles,
        ("attestation.bundle:Bundle.decode",),
        Bundle.encode,
    ),
    Target(
        "collateral",
        Collateral.decode,
        ERRORS,
        lambda: [b"", Collateral({"amd-chain": b"chain", "rim.0": b"\xff\xfe"}).encode()],
        ("attestation.collateral:Collateral.decode",),
        Collateral.encode,
    ),
    Target(
        "base64url-unpadded",
        lambda data: base64url.decode(data.decode("latin-1")),
        (ValueError,),
        lambda: [b"", b"eA", b"__79"],
        ("attestation.base64url:decode",),
        lambda data: base64url.encode(data).encode(),
    ),
    Target(
        "simulated-claims",
        SimulatedQuote.decode,
        ERRORS,
        lambda: [QUOTE.encode()],
        ("attestation.simulated_quote:SimulatedQuote.decode",),
        SimulatedQuote.encode,
    ),
    Target(
        "simulated-quote",
        simulated_quote.split,
        ERRORS,
        lambda: [simulated_quote.join(QUOTE.encode(), b"\x04" * 64)],
        ("attestation.simulated_quote:split",),
        lambda parts: simulated_quote.join(*parts),
    ),
    Target(
        "client-policy",
        lambda data: parse_policy(data.decode("latin-1")),
        (PolicyError,),
        lambda: [b"", b'accepted-weaknesses = ["boot-only"]\n[engine]\noffload = "none"\n'],
        ("attestation.verifier.policy_file:parse_policy",),
    ),
    Target(
        "engine-policy",
        EnginePolicy.decode,
        ERRORS,
        lambda: [POLICY],
        ("attestation.verifier.engine_policy:EnginePolicy.decode",),
    ),
)
