"""What each role may still ask of the kernel, once it has begun. Nobody can give himself more.

    role     files it reads             network                     also
    capsule  none                       its three sockets           no thread
    keeper   none                       sockets it was given        no thread
    door     none                       the port it was given       no thread
    front    libraries, names, roots    its port, issuer, store     threads
    engine   libraries, the model       sockets it was given        threads

Nobody writes a file, starts a program or a process, looks at another process, or raises its
privileges. A seccomp filter refuses what is not listed (`system_calls`), and Landlock, where the
kernel has it, says which files and ports. The capsule's filter needs no Landlock: it opens nothing.
The launcher, which talks to hardware and log, and the zygote, which forks, are not confined; nor is
an engine on a GPU or of several processes, whose drivers and compilers write, connect and start
programs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from server import landlock, seccomp, system_calls
from server.config import Upstream, WorkerConfig
from server.hardening import ensure_single_thread
from server.landlock import Access
from server.logs import Role, RoleConfined, RoleNotConfined, emit

_ROOT = Path(__file__).parents[1]

_LOOKUP = tuple(
    Path("/etc", name)
    for name in ("hosts", "host.conf", "resolv.conf", "nsswitch.conf", "gai.conf", "services")
)
_ROOTS = (Path("/etc/ssl"), Path("/etc/pki/tls"))
_MACHINE = tuple(
    Path(name)
    for name in (
        "/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/self",
        "/sys/devices/system",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Confinement:
    """The calls and the access of one role."""

    calls: frozenset[str]
    access: Access = field(default_factory=Access)


KEEPER = Confinement(system_calls.KEEPER)
DOOR = Confinement(system_calls.DOOR)


def front(config: WorkerConfig) -> Confinement:
    """Return what the front needs: its port, the issuer's, and what TLS and names are read from."""
    read = (*_libraries(), *_LOOKUP, *_ROOTS)
    access = Access(read, bind=(config.port,), connect=(_port(config.issuer_url),))
    return Confinement(system_calls.FRONT, access)


def engine(config: WorkerConfig) -> Confinement | None:
    """Return what the engine needs; None where it cannot be confined."""
    upstream = config.upstream
    ours = config.engine
    folders = [folder for folder in (ours.model, ours.adapter, ours.draft) if folder is not None]
    if upstream is not None:
        return _other_engine(upstream, config.model)
    if ours.device != "cpu" or ours.ranks > 1:
        return None
    return Confinement(system_calls.ENGINE, Access((*_libraries(), *_MACHINE, *folders)))


def _other_engine(upstream: Upstream, model: Path) -> Confinement:
    ports = () if upstream.url.startswith("unix:") else (_port(upstream.url),)
    read = (*_libraries(), *_MACHINE, *_LOOKUP, *_ROOTS, model)
    return Confinement(system_calls.OTHER_ENGINE, Access(read, connect=ports))


def confine(role: Role, confinement: Confinement | None) -> None:
    """Confine this process, for good, and log how. `hardening.harden` must have been called before.

    Raises:
        HygieneError: it has threads, or the kernel refused.
    """
    if confinement is None:
        emit(RoleNotConfined(role))
        return
    ensure_single_thread()
    _have_no_temporary_folder()
    offered = landlock.confine(confinement.access)
    seccomp.install(confinement.calls)
    emit(RoleConfined(role, offered))


def _have_no_temporary_folder() -> None:
    """Name one that exists and cannot be written, before a library tries folders until one can."""
    tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/"


def confine_capsule() -> None:
    """Confine this process to what a capsule does. It has nothing to log with.

    Raises:
        HygieneError: the kernel refused.
    """
    seccomp.install(system_calls.CAPSULE)


def _libraries() -> Iterator[Path]:
    """Yield where code is: Python's own, what is installed, the system's, and ours."""
    yield from (Path(each) for each in (sys.prefix, sys.base_prefix) if each)
    yield from (Path(each) for each in sys.path if each)
    yield from (Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64"))
    yield from (
        Path("/usr/share/zoneinfo"),
        Path("/etc/ld.so.cache"),
        Path("/etc/localtime"),
        _ROOT,
    )


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
