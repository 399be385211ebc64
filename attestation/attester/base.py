"""What a platform does for a node, and the bundle made of it."""

from __future__ import annotations

from typing import Protocol

from attestation.bundle import Bundle
from attestation.report_data import NO_NONCE, report_data
from wire.key_document import KeyDocument


class Attester(Protocol):
    """A platform that can quote."""

    @property
    def platform(self) -> str:
        """The platform's name, as in the bundle."""

    def quote(self, report_data: bytes) -> bytes:
        """Return a fresh quote over 64 bytes of report data."""


def make_bundle(
    attester: Attester,
    *,
    key_document: KeyDocument,
    engine_policy: bytes,
    nonce: bytes = NO_NONCE,
) -> Bundle:
    """Quote a key document and put the evidence together.

    Args:
        attester: this machine's platform.
        key_document: the document that the quote shall vouch for.
        engine_policy: the engine policy whose digest the document states, canonical JSON.
        nonce: 32 bytes of a client that asked for a fresh quote; zeros for the logged bundle.
    """
    quote = attester.quote(report_data(key_document.digest, nonce=nonce))
    return Bundle(key_document.encode(), attester.platform, quote, engine_policy)
