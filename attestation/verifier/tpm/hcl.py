"""The HCL report: how Azure's paravisor ties a virtual TPM to the machine's hardware.

From NV index 0x01400001 of the virtual TPM. Little-endian (Microsoft, "Azure confidential VM guest
attestation", attestation report format):

    header (32)    "HCLA", version u32, size u32, request type u32, status u32, 12 zeros
    hardware (1184) SNP: ATTESTATION_REPORT. TDX: TDREPORT_STRUCT (1024) and zeros
    runtime data   size u32, version u32, report type u32, digest u32, length u32, JSON
    zeros          up to what the NV index holds

The hardware's report data begins with the digest over the JSON. In the JSON are the virtual TPM's
attestation key as a JSON web key (`HCLAkPub`), and the configuration of the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from attestation import base64url
from attestation.errors import MalformedEvidence
from attestation.verifier.tpm.keys import rsa_key
from attestation.verifier.tpm.reader import Reader
from wire import canonical_json
from wire.errors import Malformed

MAX_REPORT = 16 << 10
MAX_RUNTIME = 8 << 10
"""Bytes. Today's reports have 2,600, with about 1,200 of runtime JSON."""

HARDWARE = 1184
TD_REPORT = 1024
_TD_REPORT_DATA = slice(128, 192)
AK_NAME = "HCLAkPub"
_DIGESTS: Mapping[int, str] = MappingProxyType({1: "sha256", 2: "sha384", 3: "sha512"})
_HEADER = 20
_AK_REQUEST = 2


class Hardware(IntEnum):
    """The kind of hardware report."""

    SNP = 2
    TDX = 4


@dataclass(frozen=True)
class HclReport:
    """An HCL report: nothing in it has been checked.

    Attributes:
        kind: which hardware's report it holds.
        hardware: the hardware's report.
        digest: the name of the digest by which the hardware's report data binds `runtime`.
        runtime: the runtime data, JSON.
    """

    kind: Hardware
    hardware: bytes = field(repr=False)
    digest: str
    runtime: bytes

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the hardware must vouch for: the digest, and zeros."""
        return hashlib.new(self.digest, self.runtime).digest().ljust(64, b"\0")

    @property
    def td_report_data(self) -> bytes:
        """The report data in a TDREPORT (Intel TDX Module ABI, REPORTMACSTRUCT)."""
        return self.hardware[_TD_REPORT_DATA]

    @classmethod
    def parse(cls, data: bytes) -> HclReport:
        """Parse a report.

        Raises:
            MalformedEvidence: not of the format; another kind of hardware or digest; a size that is
                not the one that follows; anything but zeros behind it.
        """
        if len(data) > MAX_REPORT:
            raise MalformedEvidence("HCL report: too long")
        reader = Reader(data, "HCL report", order="little")
        size = _parse_header(reader)
        hardware = reader.take(HARDWARE)
        length, _, kind, digest, runtime = (reader.integer(4) for _ in range(5))
        if runtime > MAX_RUNTIME or length != _HEADER + runtime or size != 32 + HARDWARE + length:
            raise MalformedEvidence("HCL report: sizes that contradict each other")
        text = reader.take(runtime)
        if any(reader.rest()):
            raise MalformedEvidence("HCL report: something behind its end")
        if digest not in _DIGESTS:
            raise MalformedEvidence("HCL report: an unknown digest")
        return cls(*_hardware(kind, hardware), _DIGESTS[digest], text)


def _parse_header(reader: Reader) -> int:
    if reader.take(4) != b"HCLA" or reader.integer(4) not in {1, 2}:
        raise MalformedEvidence("HCL report: of another kind or version")
    size, request, status = (reader.integer(4) for _ in range(3))
    if request != _AK_REQUEST or status or any(reader.take(12)):
        raise MalformedEvidence("HCL report: a header of another form")
    return size


def _hardware(kind: int, report: bytes) -> tuple[Hardware, bytes]:
    match kind:
        case Hardware.SNP:
            return Hardware.SNP, report
        case Hardware.TDX if not any(report[TD_REPORT:]):
            return Hardware.TDX, report[:TD_REPORT]
    raise MalformedEvidence("HCL report: no report of SNP or TDX")


@dataclass(frozen=True)
class RuntimeData:
    """What the paravisor says of the machine.

    Attributes:
        attestation_key: the virtual TPM's.
        configuration: the machine's, as it stands there.
        user_data: 64 bytes that the guest asked to be put there; empty if there is none.
    """

    attestation_key: rsa.RSAPublicKey = field(repr=False)
    configuration: Mapping[str, Any]
    user_data: bytes

    @property
    def secure_boot(self) -> bool | None:
        """Whether the machine boots securely; None if it does not say."""
        value = self.configuration.get("secure-boot")
        return value if isinstance(value, bool) else None

    @classmethod
    def parse(cls, data: bytes) -> RuntimeData:
        """Parse runtime data.

        Raises:
            MalformedEvidence: not JSON; a member twice; another shape; no attestation key, or more
                than one.
        """
        try:
            members = canonical_json.decode(data)
        except Malformed as error:
            raise MalformedEvidence("HCL runtime data: not JSON, or a member twice") from error
        match members:
            case {"keys": list(keys)}:
                configuration = members.get("vm-configuration", {})
                user_data = members.get("user-data", "")
            case _:
                raise MalformedEvidence("HCL runtime data: no keys")
        if not isinstance(configuration, dict):
            raise MalformedEvidence("HCL runtime data: no configuration")
        return cls(_attestation_key(keys), configuration, _parse_user_data(user_data))


def _attestation_key(keys: list[Any]) -> rsa.RSAPublicKey:
    found = [key for key in keys if isinstance(key, dict) and key.get("kid") == AK_NAME]
    match found:
        case [{"kty": "RSA", "key_ops": ["sign"], "e": str(exponent), "n": str(modulus)}]:
            return rsa_key(_parse_number(modulus), _parse_number(exponent))
    raise MalformedEvidence("HCL runtime data: not one attestation key")


def _parse_number(text: str) -> int:
    try:
        return int.from_bytes(base64url.decode(text), "big")
    except ValueError as error:
        raise MalformedEvidence("HCL runtime data: a number that is not base64url") from error


def _parse_user_data(value: Any) -> bytes:  # noqa: ANN401 - whatever a JSON text says
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise MalformedEvidence("HCL runtime data: user data that is not hexadecimal") from error
