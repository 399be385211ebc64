"""The kernel's interface, acted by a folder in memory that behaves as its ABI document says."""

import errno
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from attestation.attester.configfs_tsm import (
    ATTEMPTS,
    MAX_BLOB,
    ConfigfsTsm,
    KernelAttributes,
    find_platform,
)
from attestation.errors import AttesterFailed
from attestation.verifier.amd import snp
from attestation.verifier.tpm.events import MAX_LOG
from tests.support.evidence.amd import SnpMachine
from tests.support.evidence.authority import NOT_BEFORE
from tests.support.evidence.certificate_table import certificate_table

DATA = bytes(range(64))


@dataclass
class FakeKernel:
    """configfs-tsm of one guest.

    Attributes:
        quote: makes `outblob` of `inblob`.
        changes: further attributes, or None for one that is not there.
        failures: errors of the next reads of `outblob`.
        strangers: how often another process writes right after we have.
    """

    provider: str = "tdx_guest"
    quote: object = staticmethod(lambda data: b"quote over " + data)
    changes: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)
    strangers: int = 0
    reports: dict = field(default_factory=dict)
    written: list = field(default_factory=list)
    made: list = field(default_factory=list)

    def make(self, report):
        if report in self.reports:
            raise FileExistsError(errno.EEXIST, "File exists")
        self.made.append(report)
        self.reports[report] = {"generation": 0, "inblob": b""}

    def remove(self, report):
        del self.reports[report]

    def write(self, attribute, data):
        state = self.reports[attribute.parent]
        assert attribute.name in {"inblob", "privlevel"}
        if attribute.name == "inblob" and len(data) > 64:
            raise OSError(errno.EINVAL, "Invalid argument")
        state[attribute.name] = data
        state["generation"] += 1
        self.written.append((attribute.name, data))
        if self.strangers:
            self.strangers -= 1
            state["inblob"], state["generation"] = bytes(64), state["generation"] + 1

    def read(self, attribute):
        state = self.reports[attribute.parent]
        if attribute.name == "outblob":
            if self.failures:
                raise OSError(self.failures.pop(0), "no")
            if not state["generation"]:
                raise OSError(errno.EINVAL, "Invalid argument")
        answers = {
            "outblob": lambda: self.quote(state["inblob"]),
            "provider": lambda: self.provider.encode() + b"\n",
            "generation": lambda: b"%d\n" % state["generation"],
            **{name: lambda value=value: value for name, value in self.changes.items()},
        }
        answer = answers.get(attribute.name, lambda: None)()
        if answer is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return answer


def attester(kernel, platform="tdx", pauses=None):
    pauses = [] if pauses is None else pauses
    return ConfigfsTsm(platform, kernel, Path("/reports"), pauses.append)


def failure(kernel, platform="tdx"):
    with pytest.raises(AttesterFailed) as caught:
        attester(kernel, platform).attest(DATA)
    assert kernel.reports == {}
    return str(caught.value)


def test_a_quote_is_over_the_report_data_and_nothing_is_left_behind():
    kernel = FakeKernel()
    evidence = attester(kernel).attest(DATA)
    assert evidence.quote == b"quote over " + DATA
    assert (evidence.collateral, evidence.event_log) == ({}, b"")
    assert kernel.reports == {}
    attester(kernel).attest(DATA)
    assert len(set(kernel.made)) == 2


def test_report_data_has_64_bytes():
    with pytest.raises(ValueError, match="64"):
        attester(FakeKernel()).attest(bytes(63))


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT])
def test_a_busy_firmware_is_asked_again(number):
    pauses = []
    kernel = FakeKernel(failures=[number, number])
    assert attester(kernel, pauses=pauses).attest(DATA).quote == b"quote over " + DATA
    assert pauses == [0.1, 0.2]
    assert kernel.reports == {}


def test_a_race_with_another_writer_is_seen_and_run_again():
    kernel = FakeKernel(strangers=2)
    assert attester(kernel).attest(DATA).quote == b"quote over " + DATA
    assert len(kernel.made) == 3


def test_patience_ends():
    kernel = FakeKernel(failures=[errno.EBUSY] * 100)
    assert f"{ATTEMPTS} times" in failure(kernel)
    assert len(kernel.made) == ATTEMPTS
    kernel = FakeKernel(strangers=100)
    assert "keeps writing" in failure(kernel)
    assert len(kernel.made) == ATTEMPTS


def test_another_error_ends_it_at_once():
    kernel = FakeKernel(failures=[errno.EIO])
    assert "does not quote" in failure(kernel)
    assert len(kernel.made) == 1


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (FakeKernel("sev_guest"), "not tdx's"),
        (FakeKernel("arm_cca_guest"), "not tdx's"),
        (FakeKernel(quote=lambda _: b""), "empty quote"),
        (FakeKernel(quote=lambda _: bytes(MAX_BLOB + 1)), "too long"),
        (FakeKernel(changes={"generation": b"many"}), "not a number"),
        (FakeKernel(changes={"privlevel_floor": b"\n"}), "not a number"),
    ],
)
def test_what_is_not_as_the_abi_says_is_refused(kernel, reason):
    assert reason in failure(kernel)


def test_below_a_service_module_it_asks_at_the_level_it_may():
    kernel = FakeKernel(changes={"privlevel_floor": b"2\n"})
    attester(kernel).attest(DATA)
    assert kernel.written == [("inblob", DATA), ("privlevel", b"2")]


# SNP


def snp_kernel(machine, **certificates):
    table = certificate_table(certificates) if certificates else b""
    return FakeKernel("sev_guest", machine.quote, {"auxblob": table, "privlevel_floor": b"0\n"})


def all_of(machine):
    leaf = "vlek" if machine.vlek else "vcek"
    return {leaf: machine.key_certificate.der, "ask": machine.ask.der, "ark": machine.ark.der}


@pytest.mark.parametrize("vlek", [False, True])
def test_the_hosts_certificates_become_the_chain(vlek):
    machine = SnpMachine(vlek=vlek)
    evidence = attester(snp_kernel(machine, **all_of(machine)), "snp").attest(DATA)
    assert evidence.collateral == {"amd-chain": machine.chain}
    claims = snp.verify(
        evidence.quote, [evidence.collateral["amd-chain"]], roots=machine.roots, at=NOT_BEFORE
    )
    assert claims.report.report_data == DATA


def test_a_chain_of_which_the_host_keeps_a_part_back_is_left_to_others():
    machine = SnpMachine()
    only = {"vcek": machine.key_certificate.der}
    assert attester(snp_kernel(machine, **only), "snp").attest(DATA).collateral == {}
    assert attester(snp_kernel(machine), "snp").attest(DATA).collateral == {}


def test_certificates_that_are_none_are_refused():
    machine = SnpMachine()
    kernel = snp_kernel(machine, **all_of(machine) | {"ask": b"x"})
    assert "is none" in failure(kernel, "snp")
    kernel = FakeKernel("sev_guest", machine.quote, {"auxblob": b"x"})
    assert "is none" in failure(kernel, "snp")
    kernel = snp_kernel(machine, **all_of(machine))
    kernel.quote = lambda _: b"short"
    assert "is none" in failure(kernel, "snp")


# What machine this is


def test_the_provider_says_which_platform_it_is():
    assert find_platform(FakeKernel(), Path("/reports")) == ("tdx_guest", "tdx")
    assert find_platform(FakeKernel("sev_guest"), Path("/reports")) == ("sev_guest", "snp")
    assert find_platform(FakeKernel("cca"), Path("/reports")) == ("cca", "")


def test_a_machine_without_the_interface_is_none(tmp_path):
    assert find_platform(reports=tmp_path / "missing") is None
    with pytest.raises(AttesterFailed, match="No such file"):
        ConfigfsTsm("tdx", reports=tmp_path / "missing").attest(DATA)


def test_the_real_files_are_written_at_once_and_read_to_a_limit(tmp_path):
    real = KernelAttributes()
    report = tmp_path / "report"
    real.make(report)
    real.write(report / "inblob", DATA)
    assert real.read(report / "inblob") == DATA
    (report / "outblob").write_bytes(bytes(MAX_BLOB * 2))
    assert len(real.read(report / "outblob")) == MAX_BLOB + 1
    for attribute in list(report.iterdir()):
        attribute.unlink()
    real.remove(report)
    assert not report.exists()


def test_a_trust_domain_shows_its_event_log_where_the_kernel_does(tmp_path):
    log = tmp_path / "CCEL"
    attester = ConfigfsTsm("tdx", FakeKernel(), event_log=log)
    assert attester.attest(DATA).event_log == b""
    log.write_bytes(b"events")
    assert attester.attest(DATA).event_log == b"events"
    snp = FakeKernel("sev_guest", changes={"auxblob": b""})
    assert ConfigfsTsm("snp", snp, event_log=log).attest(DATA).event_log == b""


def test_an_event_log_longer_than_a_verifier_takes_is_not_shown(tmp_path):
    log = tmp_path / "CCEL"
    log.write_bytes(bytes(MAX_LOG + 1))
    with pytest.raises(AttesterFailed, match="too long"):
        ConfigfsTsm("tdx", FakeKernel(), event_log=log).attest(DATA)
