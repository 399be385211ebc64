"""How the ranks of an engine come to be: forked by rank 0 before it loads, or by `torchrun`.

Forked ranks find each other through an anonymous file that they inherit, and torchrun's through
its own store; both then talk over the loopback interface. A rank cannot outlive rank 0 (the kernel
ends it), and a rank that ends early ends rank 0 (`RankLost`, whatever it is doing).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import NoReturn

import torch
import torch.distributed as dist

from engine.config import EngineConfig
from engine.errors import EngineError, ModelRefused, RankLost
from engine.parallel.follower import follow
from engine.parallel.group import Group
from engine.parallel.orders import Order

_LOOPBACK = "lo"
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_PR_SET_PDEATHSIG = 1
_STDERR = 2
REFUSAL_S = 10.0
"""How long a rank that refuses its model stays: rank 0 refuses it too, and is to say why."""


@dataclass(frozen=True)
class Torchrun:
    """This process's place among those that `torchrun` started."""

    rank: int
    size: int

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> Torchrun | None:
        """Return the place that an environment names, None if torchrun started nothing.

        Raises:
            EngineError: the ranks are spread over machines: a group lies inside one worker.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return None
        size = int(environment["WORLD_SIZE"])
        local = environment.get("MASTER_ADDR") in _LOCAL
        if not local or environment.get("LOCAL_WORLD_SIZE") != str(size):
            raise EngineError("the ranks of a group are on one machine, and meet on its loopback")
        return cls(int(environment["RANK"]), size)


def of_rank(config: EngineConfig, rank: int) -> EngineConfig:
    """Return the configuration of one rank: its own GPU, or its share of the cores."""
    if config.device != "cpu":
        return replace(config, device=f"{config.device.partition(':')[0]}:{rank}")
    cores = len(os.sched_getaffinity(0))
    return replace(config, threads=config.threads or max(1, cores // config.ranks))


@contextmanager
def joined(config: EngineConfig, place: Torchrun | None = None) -> Iterator[Group | None]:
    """Be rank 0 of the group of an engine meanwhile; None for an engine of one process.

    Args:
        config: of rank 0 (`of_rank`).
        place: rank 0's among torchrun's ranks; without it the other ranks are forked here.

    Raises:
        RankLost: a rank ended before it was told to.
    """
    if config.ranks == 1:
        yield None
        return
    if place is not None:
        _check_place(config, place)
        _meet(None, 0, config.ranks)
        yield from _leading(config)
        return
    file = os.memfd_create("ranks")
    before = signal.signal(signal.SIGCHLD, _child_ended)
    children = [_fork(config, rank, file) for rank in range(1, config.ranks)]
    try:
        _meet(file, 0, config.ranks)
        yield from _leading(config)
    finally:
        signal.signal(signal.SIGCHLD, before)
        _reap(children, kill=sys.exc_info()[0] is not None)
        os.close(file)


def _leading(config: EngineConfig) -> Iterator[Group]:
    try:
        group = Group(0, config.ranks, torch.device(config.device))
        yield group
        # From here on the end of a rank is no loss.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        group.tell([Order.END])
    finally:
        dist.destroy_process_group()


def run_rank(config: EngineConfig, place: Torchrun) -> None:
    """Be a rank that torchrun started, other than 0, until rank 0 says that it is over.

    Raises:
        ModelRefused: this rank's part is not served.
        RankLost: another rank is gone.
    """
    _check_place(config, place)
    _be_rank(of_rank(config, place.rank), place.rank, None)


def _check_place(config: EngineConfig, place: Torchrun) -> None:
    if place.size != config.ranks:
        raise EngineError(f"torchrun started {place.size} ranks; {config.ranks} are configured")


def _fork(config: EngineConfig, rank: int, file: int) -> int:
    """Fork a rank that keeps nothing but its standard error and `file`."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_forked(config, rank, file, parent)
    return pid


def _reap(children: list[int], *, kill: bool) -> None:
    for child in children:
        with suppress(ChildProcessError, ProcessLookupError):
            if kill:
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _be_forked(config: EngineConfig, rank: int, file: int, parent: int) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else rank 0 ended before the kernel was asked
            os.closerange(_STDERR + 1, file)
            os.closerange(file + 1, os.sysconf("SC_OPEN_MAX"))
            _be_rank(of_rank(config, rank), rank, file)
            status = 0
    except ModelRefused:
        time.sleep(REFUSAL_S)
    except BaseException:  # noqa: BLE001 - a decision: the end of the process, told by its status
        traceback.print_exc(file=sys.stderr)  # read by somebody only while the worker starts
    finally:
        os._exit(status)


def _be_rank(config: EngineConfig, rank: int, file: int | None) -> None:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _meet(file, rank, config.ranks)
    follow(config, Group(rank, config.ranks, torch.device(config.device)))
    dist.destroy_process_group()


def _meet(file: int | None, rank: int, size: int) -> None:
    """Initialise torch's default process group: through an inherited file, or torchrun's store."""
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = _LOOPBACK
    try:
        if file is None:
            dist.init_process_group("gloo", rank=rank, world_size=size)
        else:
            store = dist.FileStore(  # type: ignore[attr-defined]
                f"/proc/self/fd/{file}", size
            )
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    except RuntimeError as error:
        raise RankLost("the ranks of the group do not find each other") from error


def _child_ended(_number: int, _frame: FrameType | None) -> NoReturn:
    raise RankLost("a rank of the group ended")
