"""The units of `deploy/systemd`, as systemd would put them together, and life under them.

    python units.py sottovoce WORDS        runs `sottovoce WORDS` under the unit of its party

Of a unit's restrictions a process can take upon itself: the filter of system calls, the families of
addresses, and that no memory is written and executed. (Of files and namespaces systemd alone is
master; those are not tried here.)
"""

import ctypes
import os
import socket
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))

_ALLOW, _ERRNO, _EPERM = 0x7FFF0000, 0x00050000, 1
_EQUAL = 4
_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1


def lines(path):
    """The section, name and value of each assignment of a unit file."""
    section, text = "", path.read_text().replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            section = line.strip("[]")
        elif not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            assert equals, line
            yield section, name, value


def drop_ins(unit, *platforms):
    """The drop-ins of a unit, in systemd's order."""
    folders = [FOLDER / "sottovoce-.service.d", FOLDER / f"{unit.name}.d"]
    found = [path for folder in folders for path in folder.glob("*.conf")]
    return [
        *sorted(found, key=lambda path: path.name),
        *(FOLDER / "platform" / f"{name}.conf" for name in platforms),
    ]


def settings(unit, *platforms):
    """Every value of each setting of a service, in order; an empty one begins anew."""
    found = {}
    for path in (unit, *drop_ins(unit, *platforms)):
        for section, name, value in lines(path):
            if section == "Service":
                found[name] = [*found.get(name, []), value] if value else [""]
    return found


def call_sets():
    """Every named set of system calls, as this machine's systemd has it: what is in it, flat."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True
    ).stdout
    sets, name = {}, ""
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = []
        elif name and line.startswith(" ") and not line.strip().startswith("#"):
            sets[name].append(line.strip())
        elif not line.startswith(" "):
            name = ""
    return sets


def flat(names, sets):
    """The calls that names of calls and of sets come to."""
    calls = set()
    for name in names:
        calls |= flat(sets[name], sets) if name.startswith("@") else {name}
    return calls


def allowed_calls(service):
    """The calls that a service may make, after all its SystemCallFilter lines."""
    sets = call_sets()
    allowed = set()
    for value in service["SystemCallFilter"]:
        calls = flat(value.removeprefix("~").split(), sets)
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    # systemd lets these through always: without them it could not begin the program.
    return allowed | {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn"}


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int),
        ("a", ctypes.c_uint64), ("b", ctypes.c_uint64),
    )  # fmt: skip


def take_upon(service):
    """Put this process under the restrictions that a process can take upon itself."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ERRNO | _EPERM)))
    families = [getattr(socket, name) for name in service["RestrictAddressFamilies"][-1].split()]
    for name in allowed_calls(service):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # of another machine
        if name != "socket":
            assert not seccomp.seccomp_rule_add_array(context, _ALLOW, number, 0, None), name
            continue
        for family in families:
            is_it = _Compare(0, _EQUAL, family, 0)
            assert not seccomp.seccomp_rule_add_array(
                context, _ALLOW, number, 1, ctypes.byref(is_it)
            )
    if service["MemoryDenyWriteExecute"][-1] == "yes":
        assert not ctypes.CDLL(None).prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)
    assert not seccomp.seccomp_load(context)


if __name__ == "__main__":
    words = sys.argv[sys.argv.index("sottovoce") + 1 :]
    take_upon(settings(FOLDER / f"sottovoce-{words[0]}.service"))
    os.execv(sys.executable, [sys.executable, "-m", "sottovoce", *words])
