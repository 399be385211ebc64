"""What the log asks of a node before it logs its key document: evidence that verifies.

The log checks the quote, its dates, and that it binds the key document. Whether release, model and
policy are in the log is for every client to check: the log's word on it would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attestation.bundle import Bundle
from attestation.errors import AttestationError
from attestation.simulated_quote import SimulatedQuote, split
from attestation.verifier.node import ReferenceValues, appraise
from attestation.verifier.policy import Weakness, admission_policy
from client.trust import Trust
from transparency.current import Admitted
from transparency.errors import AdmissionRefused
from wire.errors import WireError
from wire.key_document import KeyDocument
