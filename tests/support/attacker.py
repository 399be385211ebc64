"""A process that takes a role's confinement and then tries to get out; prints what succeeded.

Arguments: a folder to play in, the port of the role, another one, and the role.
"""

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import resource
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

from engine.config import EngineConfig
from server import hardening, logs, sandbox
from server.config import Upstream, WorkerConfig

folder, port, other, role = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
hardening.harden()
(folder / "model").mkdir(exist_ok=True)
(folder / "model" / "config.json").write_text("{}")
(folder / "secret").write_text("s")
config = WorkerConfig(
    folder / "model",
    "m",
    EngineConfig(folder / "model"),
    "127.0.0.1",
    port,
    "http://log",
    f"http://127.0.0.1:{port}",
    "issuer",
    folder / "store",
)
upstream = replace(config, upstream=Upstream(f"http://127.0.0.1:{port}", "vllm", "m"))
made = {
    "keeper": lambda: sandbox.KEEPER,
    "door": lambda: sandbox.DOOR,
    "free": lambda: None,
    "capsule": lambda: sandbox.Confinement(sandbox.system_calls.CAPSULE),
    "front": lambda: sandbox.front(config),
    "engine": lambda: sandbox.engine(config),
    "other engine": lambda: sandbox.engine(upstream),
}[role]()
libc = ctypes.CDLL(None, use_errno=True)


def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def connect(to):
    with socket.socket() as sock:
        sock.settimeout(1)
        with contextlib.suppress(ConnectionRefusedError):  # then the network was reached
            sock.connect(("127.0.0.1", to))


def bind(to):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", to))


def start():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def spawn():
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def thread():
    started = threading.Thread(target=int)
    started.start()
    started.join()


def own_memory():
    with Path("/proc/self/mem").open("r+b", 0) as memory:
        memory.seek(id(config))


parent = os.getppid()


def send_by_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))


def remove():
    written = folder / "written"
    written.unlink() if written.exists() else must(-1)


def rename_itself():
    Path("/proc/self/comm").write_text("x")


def count_events():
    attributes = ctypes.create_string_buffer(b"\x01\0\0\0\x80", 128)
    must(libc.syscall(298, attributes, 0, -1, -1, 0))


ATTEMPTS = {
    "read a secret": (folder / "secret").read_text,
    "read an account": lambda: Path("/etc/passwd").read_text(),
    "read the model": (folder / "model" / "config.json").read_text,
    "list files": lambda: list(folder.iterdir()),
    "list processes": lambda: list(Path("/proc").iterdir()),
    "read its environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
    "write a file": lambda: (folder / "written").write_text("x"),
    "write into the model": lambda: (folder / "model" / "config.json").write_text("{}"),
    "write where it may read": rename_itself,
    "change its own memory": own_memory,
    "make a folder": (folder / f"made {role}").mkdir,
    "make a link": lambda: (folder / f"link {role}").symlink_to("/etc/shadow"),
    "remove a file": remove,
    "connect to the issuer": lambda: connect(port),
    "connect elsewhere": lambda: connect(other),
    "serve its port": lambda: bind(port),
    "serve another port": lambda: bind(other),
    "send to anywhere by UDP": send_by_udp,
    "listen to the wire": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "make a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "start a process": start,
    "start a program": spawn,
    "start a thread": thread,
    "signal its parent": lambda: os.kill(parent, 0),
    "signal a thread of its parent": lambda: must(libc.syscall(234, parent, parent, 0)),
    "have the kernel signal its parent": lambda: fcntl.fcntl(0, 8, parent),
    "open its parent": lambda: os.pidfd_open(parent),
    "read its parent": lambda: must(libc.process_vm_readv(parent, None, 0, None, 0, 0)),
    "be dumped": lambda: must(libc.prctl(4, 1, 0, 0, 0)),
    "write core dumps": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "change its user": lambda: os.setuid(os.getuid()),
    "leave its namespace": lambda: must(libc.unshare(0)),
    "make a ring": lambda: must(libc.syscall(425, 4, ctypes.create_string_buffer(120))),
    "load a BPF program": lambda: must(libc.syscall(321, 0, ctypes.create_string_buffer(48), 48)),
    "count the processor's events": count_events,
    "fault pages by itself": lambda: must(libc.syscall(323, 1)),
    "run a call of 32 bits": lambda: must(libc.syscall(0x40000000 | 39)),
    "make a pipe": os.pipe,
    "map memory": lambda: mmap.mmap(-1, 4096),
}
logs.log_to(os.open(os.devnull, os.O_WRONLY))
if made:
    sandbox.confine(logs.Role.ENGINE, made)
found = []
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
    except (OSError, RuntimeError, ValueError):
        continue
    found.append(name)
os.write(1, json.dumps(found).encode())
os._exit(0)
