"""The filter of system calls, run here by an interpreter of the few instructions it uses."""

from __future__ import annotations

import struct

import pytest

from server import sandbox
from server.errors import HygieneError

ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def verdict(machine: str, number: int, architecture: int) -> int:
    """Interpret the filter as the kernel does (classic BPF)."""
    program = list(struct.iter_unpack("=HBBI", sandbox._filter(machine)))
    words = {0: number, 4: architecture}
    accumulator = at = 0
    while True:
        code, on_true, on_false, value = program[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            accumulator = words[value]
        elif code == 0x15:
            at += on_true if accumulator == value else on_false
        elif code == 0x35:
            at += on_true if accumulator >= value else on_false
        else:
            pytest.fail("an instruction that the filter should not need")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_exactly_the_listed_calls_are_allowed(machine):
    architecture, numbers = sandbox._MACHINES[machine]

    allowed = {n for n in range(600) if verdict(machine, n, architecture) == ALLOW}
    assert allowed == set(numbers.values())
    assert {verdict(machine, n, architecture) for n in set(range(600)) - allowed} == {EPERM}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_another_architecture_is_killed_and_the_x32_door_is_shut(machine):
    architecture, numbers = sandbox._MACHINES[machine]

    assert verdict(machine, numbers["read"], architecture ^ 1) == KILL
    assert verdict(machine, 0x40000000 | numbers["read"], architecture) == EPERM
    assert verdict(machine, 0xFFFFFFFF, architecture) == EPERM


def test_both_machines_allow_the_same_but_for_calls_that_only_one_has():
    x86_64, aarch64 = (set(numbers) for _, numbers in sandbox._MACHINES.values())

    assert x86_64 - aarch64 == {"poll", "select"}
    assert not aarch64 - x86_64


def test_no_file_socket_process_or_program_is_on_the_list():
    for _, numbers in sandbox._MACHINES.values():
        words = ("open", "socket", "connect", "bind", "accept", "exec", "clone", "fork", "ptrace")
        assert not any(word in name for name in numbers for word in words)


def test_a_machine_that_is_not_known_is_refused():
    with pytest.raises(HygieneError):
        sandbox._filter("riscv64")
