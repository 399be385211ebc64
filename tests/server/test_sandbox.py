"""The filters of system calls, run here by an interpreter of the few instructions they use."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from server import system_calls
from server.errors import HygieneError
from server.seccomp import make_filter
from server.system_calls import ABSENT, CONDITIONS, MACHINES, numbers

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
ROLES = {
    name: getattr(system_calls, name)
    for name in ("CAPSULE", "KEEPER", "DOOR", "FRONT", "ENGINE", "OTHER_ENGINE")
}


def verdict(machine, names, number, *arguments, architecture=None):
    """Interpret the filter as the kernel does (classic BPF)."""
    program = list(struct.iter_unpack("=HBBI", make_filter(machine, names)))
    words = {0: number, 4: MACHINES[machine][0] if architecture is None else architecture}
    words |= {16 + 8 * place: value & 0xFFFFFFFF for place, value in enumerate(arguments)}
    accumulator = at = 0
    while True:
        code, on_true, on_false, value = program[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            accumulator = words.get(value, 0xFFFFFFFF)
        elif code == 0x15:
            at += on_true if accumulator == value else on_false
        elif code == 0x35:
            at += on_true if accumulator >= value else on_false
        elif code == 0x45:
            at += on_true if accumulator & value else on_false
        else:
            pytest.fail("an instruction that the filter should not need")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("role", ROLES)
def test_exactly_the_listed_calls_are_allowed(machine, role):
    listed = numbers(ROLES[role], machine)
    plain = {number for name, number in listed.items() if name not in CONDITIONS.keys() | ABSENT}
    absent = {number for name, number in listed.items() if name in ABSENT}
    verdicts = {
        number: verdict(machine, ROLES[role], number, *[0x7777] * 6) for number in range(600)
    }

    assert {number for number, what in verdicts.items() if what == ALLOW} == plain
    assert {number for number, what in verdicts.items() if what == ENOSYS} == absent
    assert set(verdicts.values()) <= {ALLOW, EPERM, ENOSYS}


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed_and_the_x32_door_is_shut(machine):
    for names in ROLES.values():
        read = numbers(names, machine)["read"]
        assert verdict(machine, names, read, architecture=MACHINES[machine][0] ^ 1) == KILL
        assert verdict(machine, names, 0x40000000 | read) == EPERM
        assert verdict(machine, names, 0xFFFFFFFF) == EPERM


ARGUMENTS = {
    "a thread": ("clone", (0x10000 | 0x100,), ALLOW),
    "a process": ("clone", (17,), EPERM),
    "not blocking": ("ioctl", (3, 0x5421), ALLOW),
    "a push into a terminal": ("ioctl", (0, 0x5412), EPERM),
    "TCP": ("socket", (socket.AF_INET,), ALLOW),
    "raw packets": ("socket", (socket.AF_PACKET,), EPERM),
    "netlink": ("socket", (socket.AF_NETLINK,), EPERM),
    "a signal for itself": ("tgkill", (os.getpid(),), ALLOW),
    "a signal for another": ("tgkill", (os.getppid(),), EPERM),
    "descriptor flags": ("fcntl", (3, 2), ALLOW),
    "whom the kernel signals": ("fcntl", (3, 8), EPERM),
    "limits read": ("prlimit64", (0, 4, 0), ALLOW),
    "limits set": ("prlimit64", (0, 4, 0x1000), EPERM),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("what", ARGUMENTS)
def test_of_some_calls_the_arguments_decide(machine, what):
    name, arguments, expected = ARGUMENTS[what]
    number = numbers([name], machine)[name]

    assert verdict(machine, system_calls.OTHER_ENGINE, number, *arguments) == expected


def test_aarch64_lacks_only_calls_that_have_a_newer_form():
    missing = {name for name, (_, aarch64) in system_calls.NUMBERS.items() if aarch64 is None}

    assert missing == {
        "access", "arch_prctl", "epoll_wait", "lstat", "open", "poll", "readlink", "select", "stat"
    }  # fmt: skip


def test_no_number_stands_for_two_calls():
    for machine in MACHINES:
        found = numbers(system_calls.NUMBERS, machine)
        assert len(set(found.values())) == len(found)


WORDS = {
    "CAPSULE": ("open", "socket", "connect", "bind", "accept", "exec", "clone", "fork", "ptrace"),
    "KEEPER": ("open", "connect", "bind", "accept", "exec", "clone", "fork", "memfd", "socketpair"),
    "DOOR": ("open", "connect", "bind", "exec", "clone", "fork", "memfd", "socketpair"),
    "FRONT": ("exec", "fork", "ptrace", "kill_", "write_", "unlink", "rename", "mount", "seccomp"),
    "ENGINE": ("exec", "fork", "connect", "accept", "listen", "socketpair", "unlink"),
    "OTHER_ENGINE": ("exec", "fork", "ptrace", "unlink", "rename", "mount"),
}


@pytest.mark.parametrize("role", WORDS)
def test_what_a_role_has_no_business_with_is_not_on_its_list(role):
    assert not [name for name in ROLES[role] for word in WORDS[role] if word in name]
    never = {"execve", "ptrace", "process_vm_readv", "prctl", "mount", "bpf", "io_uring_setup"}
    assert not never & ROLES[role]


def test_a_machine_that_is_not_known_is_refused():
    with pytest.raises(HygieneError):
        make_filter("riscv64", system_calls.CAPSULE)
