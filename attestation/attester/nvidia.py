"""The attester of NVIDIA GPUs: reports through the driver's own library, where there is one.

NVML (`libnvidia-ml.so.1`) comes with the driver; it is called through ctypes, and nothing needs to
be installed. The GPUs are asked after the key document is made and before the CPU's quote, whose
report data holds their reports (`attestation.gpu_nonce`).

A GPU that is not in confidential mode, or with devtools on, is refused here: of some architectures
no report shows it, and then this refusal, in a measured release, is the only evidence there is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from attestation.errors import AttesterFailed
from attestation.gpu_nonce import gpu_nonce
from attestation.report_data import NO_NONCE

LIBRARY = "libnvidia-ml.so.1"

_SUCCESS = 0
_ENVIRONMENT_PRODUCTION = 2
_FEATURE_ENABLED = 1
_DEVTOOLS_OFF = 0

_CERTIFICATE_CHAIN = 0x1000
_ATTESTATION_CERTIFICATE_CHAIN = 0x1400
_REPORT = 0x2000
_CEC_REPORT = 0x1000
_NONCE = 0x20


class GpuUnavailable(AttesterFailed):
    """There is no GPU that could attest, or it must not be used. The message says why."""


class SystemState(ctypes.Structure):
    """`nvmlConfComputeSystemState_t`."""

    _fields_ = (
        ("environment", ctypes.c_uint),
        ("cc_feature", ctypes.c_uint),
        ("devtools_mode", ctypes.c_uint),
    )


class Certificates(ctypes.Structure):
    """`nvmlConfComputeGpuCertificate_t`."""

    _fields_ = (
        ("chain_size", ctypes.c_uint),
        ("attestation_chain_size", ctypes.c_uint),
        ("chain", ctypes.c_ubyte * _CERTIFICATE_CHAIN),
        ("attestation_chain", ctypes.c_ubyte * _ATTESTATION_CERTIFICATE_CHAIN),
    )


class AttestationReport(ctypes.Structure):
    """`nvmlConfComputeGpuAttestationReport_t`."""

    _fields_ = (
        ("cec_report_present", ctypes.c_uint),
        ("report_size", ctypes.c_uint),
        ("cec_report_size", ctypes.c_uint),
        ("nonce", ctypes.c_ubyte * _NONCE),
        ("report", ctypes.c_ubyte * _REPORT),
        ("cec_report", ctypes.c_ubyte * _CEC_REPORT),
    )


@dataclass(frozen=True)
class GpuEvidence:
    """What one GPU has to show.

    Attributes:
        report: SPDM request and response, as a bundle holds it.
        chain: its certificates, PEM: the part `nvidia.<i>-chain` of the collateral.
    """

    report: bytes
    chain: bytes


class NvidiaGpus:
    """This machine's GPUs, all of them, in confidential mode and without devtools.

    Args:
        library: NVML, or what stands in for it.

    Raises:
        GpuUnavailable: (on construction) NVML does not start, confidential mode is off or not that
            of production, devtools are on, or there is no GPU.
    """

    def __init__(self, library: object) -> None:
        self._library = library
        self._call("nvmlInit_v2")
        try:
            self._check_state()
            self._count = self._count_gpus()
        except GpuUnavailable:
            self.close()
            raise

    @property
    def count(self) -> int:
        """How many GPUs there are."""
        return self._count

    def evidence(
        self, key_document_digest: bytes, nonce: bytes = NO_NONCE
    ) -> tuple[GpuEvidence, ...]:
        """Ask every GPU for a report that belongs to this key document and nonce.

        The state is read again: it may not be the one of the start any more.

        Raises:
            GpuUnavailable: a GPU does not answer, or must not be used any more.
        """
        self._check_state()
        return tuple(
            self._ask(index, gpu_nonce(key_document_digest, index, nonce))
            for index in range(self._count)
        )

    def close(self) -> None:
        """Let NVML go. A failure of that is of no consequence."""
        with suppress(GpuUnavailable):
            self._call("nvmlShutdown")

    def _ask(self, index: int, nonce: bytes) -> GpuEvidence:
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        report = AttestationReport(nonce=(ctypes.c_ubyte * _NONCE)(*nonce))
        self._call("nvmlDeviceGetConfComputeGpuAttestationReport", device, ctypes.byref(report))
        found = Certificates()
        self._call("nvmlDeviceGetConfComputeGpuCertificate", device, ctypes.byref(found))
        return GpuEvidence(
            _filled(report.report, report.report_size),
            # The text may be closed by a zero byte, as C has it.
            _filled(found.attestation_chain, found.attestation_chain_size).rstrip(b"\x00"),
        )

    def _check_state(self) -> None:
        state = SystemState()
        self._call("nvmlSystemGetConfComputeState", ctypes.byref(state))
        if state.cc_feature != _FEATURE_ENABLED:
            raise GpuUnavailable("confidential mode is off")
        if state.environment != _ENVIRONMENT_PRODUCTION:
            raise GpuUnavailable("the confidential mode is not that of production")
        if state.devtools_mode != _DEVTOOLS_OFF:
            raise GpuUnavailable("devtools are on")

    def _count_gpus(self) -> int:
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if not count.value:
            raise GpuUnavailable("there is no GPU")
        return count.value

    def _call(self, name: str, *arguments: object) -> None:
        try:
            result = getattr(self._library, name)(*arguments)
        except AttributeError as error:
            raise GpuUnavailable(f"this driver has no {name}") from error
        if result != _SUCCESS:
            raise GpuUnavailable(f"{name} failed with code {result}")


def open_gpus(load: Callable[[str], object] = ctypes.CDLL) -> NvidiaGpus:
    """Return this machine's GPUs.

    Raises:
        GpuUnavailable: there is no driver, or as on construction of `NvidiaGpus`.
    """
    try:
        library = load(LIBRARY)
    except OSError as error:
        raise GpuUnavailable(f"there is no {LIBRARY}: no driver is installed") from error
    return NvidiaGpus(library)


def _filled(buffer: ctypes.Array[ctypes.c_ubyte], size: int) -> bytes:
    if not 0 < size <= len(buffer):
        raise GpuUnavailable(f"the driver returned {size} bytes in a buffer of {len(buffer)}")
    return bytes(buffer[:size])
