"""A DCAP quote, taken apart. Nothing is believed here: `verify` says what holds.

After "Intel SGX: Intel SGX ECDSA QuoteGenerationLibrary" (versions 3 and 4) and "Intel TDX DCAP
Quoting Library API" (version 5), all numbers little-endian:

    quote = header (48) || body || u32 length || signature data || padding
    header = u16 version || u16 key type (2: ECDSA P-256) || u32 TEE type || u16 QE SVN ||
             u16 PCE SVN || vendor (16) || user data (20)
    body, version 3 and 4 = SGX report (384), TD report 1.0 (584)
    body, version 5 = u16 type || u32 length || TD report 1.0, 1.5 (648) or 1.5 extended (885)
    signature data, version 3 = signature (64) || attestation key (64) || certification
    signature data, version 4 and 5 = signature || attestation key || u16 6 || u32 length ||
             certification
    certification = QE report (384) || its signature (64) || u16 length || authentication data ||
             u16 type || u32 length || data

Lengths are exact. Only zeros may be the padding (`verify` refuses others): some platforms hand out
a quote in a buffer of fixed size. A quote's bytes identify nothing: for any quote there are others,
of another length or with another signature, that verify as well.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

from attestation.errors import MalformedEvidence

MAX_QUOTE = 32 << 10
"""The kernel's configfs hands out 32 KiB at most; quotes with their chain have 4 to 8."""

SGX, TDX = 0x00, 0x81
PCK_CHAIN = 5
"""The type of certification data that is the PCK certificate's chain, in PEM."""

_KEY_TYPE_P256 = 2
_QE_CERTIFICATION = 6
_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_HEADER, _SIGNATURE, _ENCLAVE_REPORT, _AUTHENTICATION = 48, 64, 384, 32


@dataclass(frozen=True)
class EnclaveReport:
    """What the CPU states of an SGX enclave: of the one quoted, or of the quoting enclave."""

    cpu_svn: bytes
    misc_select: bytes
    reserved1: bytes
    attributes: bytes
    mr_enclave: bytes
    reserved2: bytes
    mr_signer: bytes
    reserved3: bytes
    isv_prod_id: bytes
    isv_svn: bytes
    reserved4: bytes
    report_data: bytes


@dataclass(frozen=True)
class TdReport:
    """What the TDX module states of a trust domain: TD report 1.0."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rt_mr0: bytes
    rt_mr1: bytes
    rt_mr2: bytes
    rt_mr3: bytes
    report_data: bytes


@dataclass(frozen=True)
class TdReport15(TdReport):
    """TD report 1.5: with the module's current version, and the service TDs bound to this one."""

    tee_tcb_svn2: bytes
    mr_service_td: bytes


@dataclass(frozen=True)
class TdReport15Extended(TdReport15):
    """TD report 1.5, extended: with more of the service TDs, and of where the TD began."""

    vmid: bytes
    td_id: bytes
    dev_info: bytes
    init_service_td_hash: bytes
    init_service_td_attributes: bytes
    init_cpu_svn: bytes
    init_tee_tcb_svn: bytes
    init_tee_fmspc: bytes
    cur_service_td_hash: bytes
    cur_service_td_attributes: bytes


Report = EnclaveReport | TdReport
R = TypeVar("R", EnclaveReport, TdReport, TdReport15, TdReport15Extended)

_LENGTHS = {
    **dict.fromkeys(("cpu_svn", "attributes", "tee_tcb_svn", "tee_tcb_svn2"), 16),
    **dict.fromkeys(("init_cpu_svn", "init_tee_tcb_svn"), 16),
    **dict.fromkeys(("mr_enclave", "reserved2", "mr_signer", "td_id"), 32),
    **dict.fromkeys(("seam_attributes", "td_attributes", "xfam"), 8),
    **dict.fromkeys(("init_service_td_attributes", "cur_service_td_attributes"), 8),
    **dict.fromkeys(("isv_prod_id", "isv_svn"), 2),
    "misc_select": 4,
    "reserved1": 28,
    "reserved3": 96,
    "reserved4": 60,
    "report_data": 64,
    "vmid": 1,
    "init_tee_fmspc": 12,
}
_MEASUREMENT = 48
"""The length of every other field: a SHA-384."""

_BODIES: dict[int, type[TdReport]] = {2: TdReport, 3: TdReport15, 4: TdReport15Extended}


@dataclass(frozen=True)
class DcapQuote:
    """The parts of a quote.

    Attributes:
        version: 3, 4 or 5.
        report: what is quoted.
        signed: the bytes under `signature`: the quote up to the signature data's length.
        signature: ECDSA P-256 by the attestation key, r and s.
        attestation_key: the quoting enclave's key, x and y.
        qe_report: the quoting enclave's own report, 384 bytes.
        qe_report_signature: ECDSA P-256 by the PCK, r and s.
        authentication_data: what the quoting enclave's report binds beside its key, 32 bytes.
        certification_type: what kind `certification_data` is of.
        certification_data: for `PCK_CHAIN` the chain in PEM.
        unpadded: the whole quote without what is behind it.
        padding: what is behind it.
    """

    version: int
    report: Report
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    authentication_data: bytes
    certification_type: int
    certification_data: bytes
    unpadded: bytes
    padding: bytes

    @property
    def tee(self) -> str:
        """`TDX` or `SGX`."""
        return "SGX" if isinstance(self.report, EnclaveReport) else "TDX"

    @classmethod
    def parse(cls, data: bytes) -> DcapQuote:
        """Take a quote apart.

        Raises:
            MalformedEvidence: too long or too short, of another version, TEE, key type or vendor,
                or with a length that is not exact.
        """
        if len(data) > MAX_QUOTE:
            raise MalformedEvidence("quote: too long")
        reader = _Reader(data)
        version, report = _parse_signed(reader)
        signed = data[: reader.offset]
        signature_data = reader.sized(4)
        parts = _parse_signature_data(_Reader(signature_data), version)
        return cls(version, report, signed, *parts, data[: reader.offset], data[reader.offset :])


def parse_enclave_report(data: bytes) -> EnclaveReport:
    """Take an SGX report apart.

    Raises:
        MalformedEvidence: not 384 bytes.
    """
    reader = _Reader(data)
    report = _parse_report(EnclaveReport, reader)
    reader.finish()
    return report


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def take(self, length: int) -> bytes:
        taken = self._data[self.offset : self.offset + length]
        if len(taken) < length:
            raise MalformedEvidence("quote: ends before its end")
        self.offset += length
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def sized(self, length: int) -> bytes:
        """Take bytes that stand after their own length, a number of `length` bytes."""
        return self.take(self.number(length))

    def finish(self) -> None:
        if self.offset != len(self._data):
            raise MalformedEvidence("quote: a length is not exact")


def _parse_signed(reader: _Reader) -> tuple[int, Report]:
    version, key_type, tee = reader.number(2), reader.number(2), reader.number(4)
    if (version, tee) not in {(3, SGX), (4, TDX), (5, TDX)}:
        raise MalformedEvidence(f"quote: no version {version} of TEE type {tee:#x} is known")
    if key_type != _KEY_TYPE_P256:
        raise MalformedEvidence("quote: the attestation key is of another type")
    reader.take(4)
    if reader.take(len(_INTEL)) != _INTEL:
        raise MalformedEvidence("quote: the quoting enclave is not Intel's")
    reader.take(20)
    if version == 3:
        return version, _parse_report(EnclaveReport, reader)
    if version == 4:
        return version, _parse_report(TdReport, reader)
    return version, _parse_typed_report(reader)


def _parse_typed_report(reader: _Reader) -> TdReport:
    kind = _BODIES.get(reader.number(2))
    if kind is None:
        raise MalformedEvidence("quote: the body is of another type")
    body = _Reader(reader.sized(4))
    report = _parse_report(kind, body)
    body.finish()
    return report


def _parse_report(kind: type[R], reader: _Reader) -> R:
    return kind(*(reader.take(_LENGTHS.get(each.name, _MEASUREMENT)) for each in fields(kind)))


def _parse_signature_data(
    reader: _Reader, version: int
) -> tuple[bytes, bytes, bytes, bytes, bytes, int, bytes]:
    signature, attestation_key = reader.take(_SIGNATURE), reader.take(64)
    inner = reader
    if version > 3:
        if reader.number(2) != _QE_CERTIFICATION:
            raise MalformedEvidence("quote: no certification of the quoting enclave")
        inner = _Reader(reader.sized(4))
    qe_report, qe_report_signature = inner.take(_ENCLAVE_REPORT), inner.take(_SIGNATURE)
    authentication_data = inner.sized(2)
    if len(authentication_data) != _AUTHENTICATION:
        raise MalformedEvidence("quote: the authentication data are not 32 bytes")
    certification_type, certification_data = inner.number(2), inner.sized(4)
    inner.finish()
    reader.finish()
    return (
        signature,
        attestation_key,
        qe_report,
        qe_report_signature,
        authentication_data,
        certification_type,
        certification_data,
    )
