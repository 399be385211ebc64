"""What a platform does for a node, and the bundle made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from attestation.bundle import Bundle
from attestation.collateral import Collateral
from attestation.report_data import NO_NONCE, report_data
from wire.key_document import KeyDocument


@dataclass(frozen=True)
class Evidence:
    """What a platform has to show for 64 bytes of report data.

    Attributes:
        quote: the platform's own bytes.
        collateral: what the machine itself knows of the quote's chain, by the names of
            `attestation.collateral`; the rest has to be fetched by others.
        event_log: what was measured at boot, where the platform keeps such a log.
    """

    quote: bytes
    collateral: Mapping[str, bytes] = field(default_factory=dict)
    event_log: bytes = b""


class Attester(Protocol):
    """A platform that can quote."""

    @property
    def platform(self) -> str:
        """The platform's name, as in the bundle."""

    def attest(self, report_data: bytes) -> Evidence:
        """Return fresh evidence over 64 bytes of report data.

        Raises:
            AttesterFailed: the hardware, or what stands before it, did not do its part.
        """


class GpuEvidence(Protocol):
    """What one GPU has to show."""

    @property
    def report(self) -> bytes:
        """SPDM request and response, as a bundle holds it."""

    @property
    def chain(self) -> bytes:
        """The certificates of the key that signed it."""


class Gpus(Protocol):
    """This machine's GPUs, all of them."""

    @property
    def count(self) -> int:
        """How many there are: as many as the key document states."""

    def evidence(
        self, key_document_digest: bytes, nonce: bytes = NO_NONCE
    ) -> Sequence[GpuEvidence]:
        """Return fresh evidence of every GPU, over nonces made of these.

        Raises:
            AttesterFailed: one does not answer, or must not be used any more.
        """


def make_bundle(
    attester: Attester,
    *,
    key_document: KeyDocument,
    engine_policy: bytes,
    nonce: bytes = NO_NONCE,
    gpus: Gpus | None = None,
    stored: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Quote a key document and put the evidence together.

    Args:
        attester: this machine's platform.
        key_document: the document that the quote shall vouch for.
        engine_policy: the engine policy whose digest the document states, canonical JSON.
        nonce: 32 bytes of a client that asked for a fresh quote; zeros for the logged bundle.
        gpus: this machine's GPUs, which are asked first: the quote binds their reports.
        stored: collateral that others fetched. The machine's own parts stand in front of it.

    Raises:
        AttesterFailed: the platform does not quote.
    """
    found = gpus.evidence(key_document.digest, nonce) if gpus else ()
    reports = tuple(gpu.report for gpu in found)
    evidence = attester.attest(report_data(key_document.digest, reports, nonce))
    chains = {f"nvidia.{index}-chain": gpu.chain for index, gpu in enumerate(found)}
    return Bundle(
        key_document.encode(),
        attester.platform,
        evidence.quote,
        engine_policy,
        collateral=Collateral({**(stored or {}), **chains, **evidence.collateral}).encode(),
        gpu_reports=reports,
        event_log=evidence.event_log,
    )
