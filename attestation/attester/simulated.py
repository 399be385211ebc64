"""The attester without hardware. SIMULATED: it proves nothing about hardware."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import simulated_quote
from attestation.attester.base import Evidence
from attestation.simulated_quote import SimulatedQuote


class SimulatedAttester:
    """Quotes with a root key of its own: honest about the code, worthless against the operator.

    Args:
        root_seed: the 32-byte seed of this run's Ed25519 root.
        measurement: what is stated to run, 32 bytes (`attestation.attester.measurement`).
        clock: unix time in seconds.
    """

    platform = simulated_quote.PLATFORM

    def __init__(
        self, root_seed: bytes, measurement: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = Ed25519PrivateKey.from_private_bytes(root_seed)
        self._root_key = self._root.public_key().public_bytes_raw()
        self._measurement = measurement
        self._clock = clock

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the root's raw public key: what a client pins."""
        return hashlib.sha256(self._root_key).digest()

    def attest(self, report_data: bytes) -> Evidence:
        """Return a fresh quote over 64 bytes of report data: all there is."""
        return Evidence(self.quote(report_data))

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes of report data, signed under the root."""
        claims = SimulatedQuote(
            self._measurement, report_data, int(self._clock()), self._root_key
        ).encode()
        return simulated_quote.join(claims, self._root.sign(simulated_quote.to_be_signed(claims)))
