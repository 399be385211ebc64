"""The quote of the platform `simulated`: the shape of a real one, made by software alone.

    quote = {"claims": <<claims>>, "signature": bytes}           deterministic CBOR, both
    claims = {"platform": "simulated", "measurement": bytes, "report_data": bytes (64),
              "issued_at": uint (unix seconds), "root_key": bytes (32, Ed25519)}
    signature over LABEL || <<claims>> under root_key

SIMULATED: it proves nothing about hardware. Whoever runs the node holds the root key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation.errors import MalformedEvidence
from wire import cbor
from wire.errors import Malformed

PLATFORM = "simulated"
LABEL = b"sottovoce simulated quote v1"
MAX_ENCODED = 1024
_MAX_TIME = 2**40
_MEMBERS = frozenset({"platform", "measurement", "report_data", "issued_at", "root_key"})


@dataclass(frozen=True)
class SimulatedQuote:
    """What a simulated quote states.

    Attributes:
        measurement: SHA-256 over the installed packages, 32 bytes.
        report_data: 64 bytes.
        issued_at: unix seconds.
        root_key: the raw Ed25519 public key of this run's root, 32 bytes.
    """

    measurement: bytes
    report_data: bytes
    issued_at: int
    root_key: bytes

    def encode(self) -> bytes:
        """Return the one encoding of the claims."""
        return cbor.encode(
            {
                "platform": PLATFORM,
                "measurement": self.measurement,
                "report_data": self.report_data,
                "issued_at": self.issued_at,
                "root_key": self.root_key,
            }
        )

    @classmethod
    def decode(cls, claims: bytes) -> SimulatedQuote:
        """Decode claims from their one encoding.

        Raises:
            MalformedEvidence: another member, type, length, range or encoding.
        """
        members = _decode_map(claims, _MEMBERS)
        if members.pop("platform") != PLATFORM:
            raise MalformedEvidence("simulated quote: of another platform")
        lengths = {"measurement": 32, "report_data": 64, "root_key": 32}
        for name, length in lengths.items():
            if type(members[name]) is not bytes or len(members[name]) != length:
                raise MalformedEvidence(f"simulated quote: {name} is not {length} bytes")
        issued_at = members["issued_at"]
        if type(issued_at) is not int or not 0 <= issued_at <= _MAX_TIME:
            raise MalformedEvidence("simulated quote: issued_at is not a time")
        return cls(**members)


def join(claims: bytes, signature: bytes) -> bytes:
    """Return the quote of encoded claims and the signature over `to_be_signed` of them."""
    return cbor.encode({"claims": claims, "signature": signature})


def split(quote: bytes) -> tuple[bytes, bytes]:
    """Take a quote apart into its encoded claims and its signature (64 bytes).

    Raises:
        MalformedEvidence: another shape, type, length or encoding; trailing bytes.
    """
    if len(quote) > MAX_ENCODED:
        raise MalformedEvidence("simulated quote: too long")
    members = _decode_map(quote, frozenset({"claims", "signature"}))
    claims, signature = members["claims"], members["signature"]
    if type(claims) is not bytes or type(signature) is not bytes or len(signature) != 64:
        raise MalformedEvidence("simulated quote: not claims and a 64-byte signature")
    return claims, signature


def to_be_signed(claims: bytes) -> bytes:
    """Return the bytes that the root signs."""
    return LABEL + claims


def _decode_map(data: bytes, names: frozenset[str]) -> dict[str, Any]:
    try:
        members = cbor.decode(data)
    except Malformed as error:
        raise MalformedEvidence("simulated quote: not deterministic CBOR") from error
    if not isinstance(members, dict) or members.keys() != names:
        raise MalformedEvidence("simulated quote: not a map with exactly the members of the format")
    return members
