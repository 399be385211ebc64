"""The units name commands that exist, are hardened, and leave a worker its own sandbox."""

import re
import shlex
import shutil

import pytest
from named_options import check
from units import FOLDER, UNITS, allowed_calls, lines, settings

from server import system_calls

HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "PrivateUsers": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "LockPersonality": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateMounts": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "UMask": "0077",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectControlGroups": "yes",
    "ProtectProc": "invisible",
    "SystemCallArchitectures": "native",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
}
WORKER = FOLDER / "sottovoce-worker.service"
PLATFORMS = sorted(path.stem for path in (FOLDER / "platform").glob("*.conf"))

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd's own lists of system calls"
)
by_name = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def test_every_party_has_a_unit():
    parties = {unit.stem.removeprefix("sottovoce-") for unit in UNITS}
    assert parties == {"witness", "log", "issuer", "spent", "worker", "relay", "proxy"}


@by_name
def test_a_unit_names_a_command_and_options_that_exist(unit):
    [start] = settings(unit)["ExecStart"]
    program, *words = shlex.split(start)
    assert program == "/opt/sottovoce/bin/sottovoce"
    assert words[0] == unit.stem.removeprefix("sottovoce-")
    if "$WORKERS" in words:
        words[words.index("$WORKERS")] = "--worker"
    check(words)


@by_name
def test_a_unit_is_hardened(unit):
    found = settings(unit)
    assert {name: found[name][-1] for name in HARDENED} == HARDENED
    assert found["SystemCallFilter"][0] == "@system-service"


@by_name
def test_only_a_worker_may_execute_what_it_wrote(unit):
    assert settings(unit)["MemoryDenyWriteExecute"][-1] == ("no" if unit == WORKER else "yes")


@by_name
def test_nobody_is_root(unit):
    found = settings(unit)
    assert found.get("User") == ["sottovoce"] or found["DynamicUser"] == ["yes"]


@by_name
def test_secret_files_are_handed_over_by_systemd(unit):
    found = settings(unit)
    [start] = found["ExecStart"]
    handed = {value.partition(":")[0] for value in found.get("LoadCredential", ())}
    assert set(re.findall(r"%d/(\S+)", start)) == handed
    assert not re.search(r"/etc/\S+\.(seed|pem|key)", start)


@by_name
def test_every_variable_is_told_of(unit):
    [start] = settings(unit)["ExecStart"]
    comments = " ".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    for name in re.findall(r"\$\{?([A-Z]+)", start):
        assert re.search(rf"\b{name}", comments), name


def test_who_shares_the_socket_shares_the_user():
    sharing = {unit.stem for unit in UNITS if "spent.sock" in settings(unit)["ExecStart"][0]}
    ours = {unit.stem for unit in UNITS if settings(unit).get("User") == ["sottovoce"]}
    assert sharing == ours
    assert "\nu sottovoce " in (FOLDER / "sottovoce.sysusers").read_text()


@needs_systemd
def test_a_worker_may_make_every_call_that_its_roles_may():
    allowed = allowed_calls(settings(WORKER))
    roles = system_calls.OTHER_ENGINE | system_calls.DOOR | system_calls.KEEPER
    assert {"landlock_restrict_self", "seccomp", "memfd_create"} <= allowed
    assert roles <= allowed, roles - allowed


@needs_systemd
@by_name
def test_no_service_may_reach_into_the_kernel_or_another_process(unit):
    refused = """
        mount ptrace bpf init_module kexec_load reboot setuid chroot perf_event_open keyctl
        process_vm_readv process_vm_writev pidfd_getfd userfaultfd
    """
    assert not set(refused.split()) & allowed_calls(settings(unit))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_takes_back_no_more_than_it_says(platform):
    names = {name for _, name, _ in lines(FOLDER / "platform" / f"{platform}.conf")}
    assert names <= {
        "PrivateUsers", "PrivateDevices", "DeviceAllow", "SupplementaryGroups", "ReadWritePaths",
        "CapabilityBoundingSet", "AmbientCapabilities", "LimitMEMLOCK",
    }  # fmt: skip
    found = settings(WORKER, platform)
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["CapabilityBoundingSet"][-1] in {"", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"}
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"]
