"""The environment of a worker: fixed, but for a few names, each with a form of its own.

Interpreter, libc, torch and the libraries under them read hundreds of variables: paths to load code
from, debug output, key logs. What is not on this page is not there for any of them: the worker
starts itself again without it (`server.allocator`), and what runs is what was measured.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from server.errors import HygieneError

FIXED = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}
"""The first two scrub what is freed; see `server.allocator`."""

_NUMBER = re.compile(r"[0-9]{1,5}")
_DEVICES = re.compile(r"[0-9A-Za-z,/-]{1,1024}")

ADMITTED = {
    # Where torchrun says a process's place is (`engine.parallel.torchrun`), on this machine.
    **dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), _NUMBER),
    "MASTER_ADDR": re.compile(r"localhost|127\.0\.0\.1|::1"),
    "MASTER_PORT": _NUMBER,
    "TORCHELASTIC_USE_AGENT_STORE": re.compile(r"True|False"),
    "TORCHELASTIC_RESTART_COUNT": _NUMBER,
    # Which of a machine's accelerators; how many is in the key document.
    "CUDA_VISIBLE_DEVICES": _DEVICES,
}
"""What may be there as well, and its form."""


def measured(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment to run under: `FIXED`, and of `given` what is admitted."""
    kept = {
        name: given[name]
        for name, form in ADMITTED.items()
        if name in given and form.fullmatch(given[name])
    }
    return {**kept, **FIXED}


def given() -> dict[str, str]:
    """Return the environment that this process was started with, whatever changed it since.

    Raises:
        HygieneError: it cannot be read, so nobody knows.
    """
    try:
        content = Path("/proc/self/environ").read_bytes()
    except OSError as error:
        raise HygieneError("the environment of this process cannot be read") from error
    # glibc cuts its tunables apart where they stand. (Whether it heeded them is looked at later.)
    content = content.replace(b"\0glibc.", b":glibc.")
    items = (item.partition(b"=") for item in content.split(b"\0") if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in items}
