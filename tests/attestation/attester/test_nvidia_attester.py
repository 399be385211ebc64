"""The attester of GPUs, against a library that behaves like the driver's, or does not."""

import ctypes

import pytest

from attestation.attester.nvidia import (
    LIBRARY,
    AttestationReport,
    Certificates,
    GpuUnavailable,
    NvidiaGpus,
    SystemState,
    open_gpus,
)
from attestation.gpu_nonce import gpu_nonce
from attestation.report_data import NO_NONCE
from attestation.verifier.nvidia.verify import verify
from tests.support.evidence.nvidia import NOW, Report, attestation_key, pem, roots

DIGEST = b"\x6b" * 32
NAMES = ("one", "two")


class FakeNvml:
    """NVML with two GPUs. `state` and `fails` make it misbehave."""

    def __init__(self):
        self.state = {"environment": 2, "cc_feature": 1, "devtools_mode": 0}
        self.count = len(NAMES)
        self.fails = {}
        self.sizes = {}
        self.called = []
        self.ignores_nonces = False

    def _done(self, name):
        self.called.append(name)
        return self.fails.get(name, 0)

    def nvmlInit_v2(self):  # noqa: N802 - the library's name, as those that follow
        return self._done("init")

    def nvmlShutdown(self):  # noqa: N802
        return self._done("shutdown")

    def nvmlSystemGetConfComputeState(self, state):  # noqa: N802
        for name, value in self.state.items():
            setattr(state._obj, name, value)
        return self._done("state")

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = self.count
        return self._done("count")

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):  # noqa: N802
        device._obj.value = 0x1000 + index.value
        return self._done("handle")

    def nvmlDeviceGetConfComputeGpuAttestationReport(self, device, report):  # noqa: N802
        name = NAMES[device.value - 0x1000]
        nonce = bytes(32) if self.ignores_nonces else bytes(report._obj.nonce)
        made = Report(nonce=nonce).encode(attestation_key(name).key)
        ctypes.memmove(report._obj.report, made, len(made))
        report._obj.report_size = self.sizes.get("report", len(made))
        return self._done("report")

    def nvmlDeviceGetConfComputeGpuCertificate(self, device, found):  # noqa: N802
        made = pem(attestation_key(NAMES[device.value - 0x1000])) + b"\x00"
        ctypes.memmove(found._obj.attestation_chain, made, len(made))
        found._obj.attestation_chain_size = self.sizes.get("chain", len(made))
        return self._done("chain")


def refusal(nvml):
    with pytest.raises(GpuUnavailable) as caught:
        NvidiaGpus(nvml)
    return str(caught.value)


def test_the_structures_have_the_sizes_of_the_library():
    assert ctypes.sizeof(SystemState) == 12
    assert ctypes.sizeof(Certificates) == 8 + 0x1000 + 0x1400
    assert ctypes.sizeof(AttestationReport) == 12 + 0x20 + 0x2000 + 0x1000


@pytest.mark.parametrize("nonce", [NO_NONCE, b"\x01" * 32])
def test_every_gpu_reports_for_the_key_document_its_place_and_the_nonce(nonce):
    gpus = NvidiaGpus(FakeNvml())
    assert gpus.count == 2
    found = gpus.evidence(DIGEST, nonce)
    for index, each in enumerate(found):
        claims = verify(each.report, each.chain, roots=roots(), at=NOW)
        assert claims.nonce == gpu_nonce(DIGEST, index, nonce)
    assert len({each.report for each in found}) == 2


def test_a_library_that_ignores_the_nonce_is_caught_by_the_verifier():
    nvml = FakeNvml()
    nvml.ignores_nonces = True
    (first, _) = NvidiaGpus(nvml).evidence(DIGEST)
    claims = verify(first.report, first.chain, roots=roots(), at=NOW)
    assert claims.nonce != gpu_nonce(DIGEST, 0)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"cc_feature": 0}, "confidential mode is off"),
        ({"environment": 1}, "not that of production"),
        ({"devtools_mode": 1}, "devtools are on"),
    ],
)
def test_gpus_in_another_mode_are_refused_and_the_library_let_go(state, reason):
    nvml = FakeNvml()
    nvml.state.update(state)
    assert reason in refusal(nvml)
    assert nvml.called[-1] == "shutdown"


def test_a_mode_that_changes_later_is_seen():
    nvml = FakeNvml()
    gpus = NvidiaGpus(nvml)
    nvml.state["devtools_mode"] = 1
    with pytest.raises(GpuUnavailable, match="devtools"):
        gpus.evidence(DIGEST)


def test_a_machine_without_gpus():
    nvml = FakeNvml()
    nvml.count = 0
    assert refusal(nvml) == "there is no GPU"


def test_a_call_that_fails_says_which():
    nvml = FakeNvml()
    nvml.fails["init"] = 9
    assert refusal(nvml) == "nvmlInit_v2 failed with code 9"
    nvml = FakeNvml()
    gpus = NvidiaGpus(nvml)
    nvml.fails["report"] = 3
    with pytest.raises(GpuUnavailable, match="AttestationReport failed with code 3"):
        gpus.evidence(DIGEST)


def test_a_driver_that_knows_no_confidential_mode():
    assert refusal(object()) == "this driver has no nvmlInit_v2"


@pytest.mark.parametrize(("name", "size"), [("report", 0x2001), ("report", 0), ("chain", 0x1401)])
def test_a_size_beyond_its_buffer(name, size):
    nvml = FakeNvml()
    nvml.sizes[name] = size
    with pytest.raises(GpuUnavailable, match="bytes in a buffer"):
        NvidiaGpus(nvml).evidence(DIGEST)


def test_closing_never_fails():
    nvml = FakeNvml()
    gpus = NvidiaGpus(nvml)
    nvml.fails["shutdown"] = 1
    gpus.close()
    assert nvml.called[-1] == "shutdown"


def test_the_library_is_loaded_by_its_name_if_there_is_one():
    assert open_gpus({LIBRARY: FakeNvml()}.__getitem__).count == 2

    def missing(name):
        raise OSError(name)

    with pytest.raises(GpuUnavailable, match="no driver"):
        open_gpus(missing)
