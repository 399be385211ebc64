"""Azure's evidence, in the shapes in which it is exchanged.

JSON; bytes are lists of numbers where there is no version:

    {"quote":     {"message", "signature", "pcrs"}, "report",     "vcek": PEM}       SNP
    {"tpm_quote": {"message", "signature", "pcrs"}, "hcl_report", "td_quote"}        TDX
    {"version": 1 or 2, "tpm_quote": {hexadecimal}, "hcl_report": base64url,
     "vcek": base64url of DER | "td_quote": base64url}

`message` is a TPMS_ATTEST over all 24 registers of SHA-256, `signature` RSASSA over SHA-256.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from attestation.errors import MalformedEvidence
from wire import canonical_json
from wire.errors import Malformed

MAX_ENCODED = 1 << 18
"""Bytes. With lists of numbers, 30 kB of TDX evidence become four times as many."""

_VERSIONS = (1, 2)
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True)
class AzureEvidence:
    """Azure's evidence; none of it checked.

    Attributes:
        message: a TPMS_ATTEST.
        signature: the RSA signature over it.
        registers: the values of the registers, in order.
        hcl_report: the HCL report.
        vcek: the certificate of the chip's key, DER or PEM; empty with TDX.
        td_quote: the TDX quote; empty with SNP.
    """

    message: bytes
    signature: bytes
    registers: tuple[bytes, ...]
    hcl_report: bytes
    vcek: bytes
    td_quote: bytes

    def encode(self) -> bytes:
        """Return the newest of the shapes, as canonical JSON: what our attester writes."""
        name, endorsed = ("vcek", self.vcek) if self.vcek else ("td_quote", self.td_quote)
        return canonical_json.encode(
            {
                "version": _VERSIONS[0],
                "tpm_quote": {
                    "message": self.message.hex(),
                    "signature": self.signature.hex(),
                    "pcrs": [value.hex() for value in self.registers],
                },
                "hcl_report": base64.urlsafe_b64encode(self.hcl_report).decode(),
                name: base64.urlsafe_b64encode(endorsed).decode(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> AzureEvidence:
        """Decode evidence in any of its shapes.

        Raises:
            MalformedEvidence: of none of them; a member twice, missing or unknown; too long.
        """
        if len(data) > MAX_ENCODED:
            raise MalformedEvidence("Azure evidence: too long")
        try:
            members = canonical_json.decode(data)
        except Malformed as error:
            raise MalformedEvidence("Azure evidence: not JSON, or a member twice") from error
        match members:
            case {"version": int(version), "tpm_quote": quote, "hcl_report": report, **rest}:
                if version not in _VERSIONS:
                    raise MalformedEvidence("Azure evidence: of another version")
            case {"quote": quote, "report": report, **rest} | {
                "tpm_quote": quote,
                "hcl_report": report,
                **rest,
            }:
                pass
            case _:
                raise MalformedEvidence("Azure evidence: of no shape that is known")
        return cls(*_decode_quote(quote), _decode_base64(report), *_decode_endorsement(rest))


def _decode_quote(quote: Any) -> tuple[bytes, bytes, tuple[bytes, ...]]:  # noqa: ANN401 - JSON
    match quote:
        case {"message": message, "signature": signature, "pcrs": list(values), **rest} if not rest:
            pcrs = tuple(map(_decode_hex, values))
            return _decode_hex(message), _decode_hex(signature), pcrs
    raise MalformedEvidence("Azure evidence: no quote")


def _decode_endorsement(members: dict[Any, Any]) -> tuple[bytes, bytes]:
    """Decode what endorses the hardware's report: a VCEK, or a TDX quote instead of the report."""
    match members:
        case {"vcek": str(pem), **rest} if not rest and pem.startswith("-----BEGIN"):
            return _encode_ascii(pem), b""
        case {"vcek": vcek, **rest} if not rest and vcek:
            return _decode_base64(vcek), b""
        case {"td_quote": quote, **rest} if not rest and quote:
            return b"", _decode_base64(quote)
    raise MalformedEvidence("Azure evidence: neither a VCEK nor a TDX quote alone")


def _encode_ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except ValueError as error:
        raise MalformedEvidence("Azure evidence: PEM that is not ASCII") from error


def _decode_hex(value: Any) -> bytes:  # noqa: ANN401 - whatever a JSON text says
    if isinstance(value, str) and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    return _decode_numbers(value)


def _decode_base64(value: Any) -> bytes:  # noqa: ANN401 - as above
    if not isinstance(value, str):
        return _decode_numbers(value)
    try:
        data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError as error:
        raise MalformedEvidence("Azure evidence: a text that is not base64url") from error
    if value not in {(text := base64.urlsafe_b64encode(data).decode()), text.rstrip("=")}:
        raise MalformedEvidence("Azure evidence: base64url with stray bits")
    return data


def _decode_numbers(value: Any) -> bytes:  # noqa: ANN401 - as above
    if isinstance(value, list) and all(type(each) is int and 0 <= each < 256 for each in value):
        return bytes(value)
    raise MalformedEvidence("Azure evidence: a member that is not bytes")
