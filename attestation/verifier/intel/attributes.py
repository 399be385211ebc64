"""What a trust domain or an enclave may never be, whatever a policy says.

`dcap-qvl` refuses the same, and has no way not to. The bits of a trust domain are those of the TDX
Module ABI specification 348551-008, table 3.23; an enclave's are of the SDM, volume 3D, section
"ATTRIBUTES".
"""

from __future__ import annotations

from attestation.errors import Code, Refused
from attestation.verifier.intel.quote import (
    EnclaveReport,
    Report,
    TdReport,
    TdReport15,
    TdReport15Extended,
)


def _bits(first: int, last: int) -> int:
    return (1 << last + 1) - (1 << first)


_DEBUG = _bits(0, 0)
_PROFILING = _bits(4, 6)
_SERVICE_TD_EXTENSION = _bits(17, 17)
_SEPT_VE_DISABLE = _bits(28, 28)
_MIGRATABLE = _bits(29, 29)
_RESERVED = _bits(1, 3) | _bits(7, 15) | _bits(23, 26) | _bits(32, 61)
KEY_LOCKER = _bits(31, 31)
PROVISIONING_AGENT = _bits(62, 62)
PERFMON = _bits(63, 63)

_FORBIDDEN = (
    (_DEBUG, Code.TDX_DEBUG, "the host may read this trust domain: it is in debug mode"),
    (_PROFILING, Code.TDX_PROFILED, "the host may profile this trust domain"),
    (_RESERVED, Code.TDX_ATTRIBUTES_RESERVED, "reserved attributes are set"),
    (_MIGRATABLE, Code.TDX_MIGRATABLE, "this trust domain may be moved to another machine"),
    (_SERVICE_TD_EXTENSION, Code.TDX_SERVICE_TD, "service TDs may be bound to this trust domain"),
)
_ENCLAVE_DEBUG = 0x02


def td_attributes(report: TdReport) -> int:
    """Return a trust domain's attributes as a number, bit 0 the lowest."""
    return int.from_bytes(report.td_attributes, "little")


def check_attributes(report: Report) -> None:
    """Check what no policy may allow.

    Raises:
        Refused: in debug mode or profiled, reserved bits set, migratable, with a service TD, or
            without SEPT_VE_DISABLE, which keeps the host from injecting exceptions by its pages.
    """
    if isinstance(report, EnclaveReport):
        if report.attributes[0] & _ENCLAVE_DEBUG:
            raise Refused(Code.TDX_DEBUG, "the host may read this enclave: it is in debug mode")
        return
    for bits, code, reason in _FORBIDDEN:
        if td_attributes(report) & bits:
            raise Refused(code, reason)
    if any(_service_tds(report)):
        raise Refused(Code.TDX_SERVICE_TD, "a service TD is bound to this trust domain")
    if not td_attributes(report) & _SEPT_VE_DISABLE:
        raise Refused(Code.TDX_SEPT_VE, "the host may inject exceptions (SEPT_VE_DISABLE)")


def _service_tds(report: TdReport) -> bytes:
    if isinstance(report, TdReport15Extended):
        return report.mr_service_td + report.init_service_td_hash + report.cur_service_td_hash
    return report.mr_service_td if isinstance(report, TdReport15) else b""
