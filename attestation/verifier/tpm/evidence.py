"""A plain TPM's evidence: what its quote is checked with, in one file.

    {"attest": base64url,                 TPMS_ATTEST
     "pcrs": {"sha256": {"0": hex, ...}}, the values of the quoted registers
     "public": base64url,                 TPMT_PUBLIC of the attestation key
     "signature": base64url}              TPMT_SIGNATURE

in canonical JSON, which has one form only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation import base64url
from attestation.errors import MalformedEvidence
from attestation.verifier.tpm.algorithms import REGISTERS, SIZES
from attestation.verifier.tpm.event_log import Registers
from wire import canonical_json
from wire.errors import Malformed

MAX_ENCODED = 1 << 15
"""Bytes. All registers of four banks have 10 kB."""

_MEMBERS = frozenset({"attest", "pcrs", "public", "signature"})


@dataclass(frozen=True)
class TpmEvidence:
    """A quote with what belongs to it; none of it checked.

    Attributes:
        attest: a TPMS_ATTEST.
        signature: a TPMT_SIGNATURE.
        public: a TPMT_PUBLIC.
        registers: values of registers, by bank and index.
    """

    attest: bytes
    signature: bytes
    public: bytes
    registers: Registers

    def encode(self) -> bytes:
        """Return the one encoding."""
        return canonical_json.encode(
            {
                "attest": base64url.encode(self.attest),
                "pcrs": {
                    bank: {str(index): value.hex() for index, value in values.items()}
                    for bank, values in self.registers.items()
                },
                "public": base64url.encode(self.public),
                "signature": base64url.encode(self.signature),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> TpmEvidence:
        """Decode evidence from its one encoding.

        Raises:
            MalformedEvidence: another member, type, bank, register, length or encoding; too long.
        """
        if len(data) > MAX_ENCODED:
            raise MalformedEvidence("TPM evidence: too long")
        try:
            members = canonical_json.decode(data)
            if not isinstance(members, dict) or members.keys() != _MEMBERS:
                raise MalformedEvidence("TPM evidence: not exactly the members of the format")
            evidence = cls(
                attest=base64url.decode(members["attest"]),
                signature=base64url.decode(members["signature"]),
                public=base64url.decode(members["public"]),
                registers=decode_registers(members["pcrs"]),
            )
        except (Malformed, ValueError) as error:
            raise MalformedEvidence(
                "TPM evidence: not JSON, or a member of another form"
            ) from error
        if evidence.encode() != data:
            raise MalformedEvidence("TPM evidence: not its one encoding")
        return evidence


def decode_registers(banks: Any) -> Registers:  # noqa: ANN401 - whatever a JSON text says
    """Decode an object of banks, each an object of registers in hexadecimal.

    Raises:
        MalformedEvidence: another shape, bank or register, or a value of another length.
    """
    if not isinstance(banks, dict) or not banks.keys() <= SIZES.keys():
        raise MalformedEvidence("PCRs: not an object of known banks")
    return {bank: _decode_bank(bank, values) for bank, values in banks.items()}


def _decode_bank(bank: str, values: Any) -> dict[int, bytes]:  # noqa: ANN401 - as above
    if not isinstance(values, dict) or not values.keys() <= set(map(str, range(REGISTERS))):
        raise MalformedEvidence("PCRs: not an object of registers")
    return {int(index): _decode_value(value, SIZES[bank]) for index, value in values.items()}


def _decode_value(value: Any, size: int) -> bytes:  # noqa: ANN401 - as above
    if not isinstance(value, str) or len(value) != 2 * size:
        raise MalformedEvidence("PCRs: a value of another length")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise MalformedEvidence("PCRs: a value that is not hexadecimal") from error
