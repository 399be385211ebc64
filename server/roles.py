"""The processes of a worker: forked early, watched, ended together.

What a role writes to its standard error goes through a pipe that the launcher relays only while
the worker starts: a model folder that cannot be loaded may say why. Before any request can be
opened the launcher closes the pipe, and from then on there is nowhere to say anything; typed events
(`server.logs`) have a descriptor of their own.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from server.errors import ServerError
from server.hardening import die_with, harden
from server.logs import Role, RoleEnded, RoleStarted, emit, failure, log_to, silence
from server.sockets import close_all_but, detach_standard_streams

STOP_S = 5.0
"""How long roles may take to end when they are asked to, before they are killed."""

AFTERMATH_S = 2.0
"""How long after the first role others are waited for that end over its death."""

_STDERR = 2


class RoleDied(ServerError):
    """A role's process ended."""


@dataclass(frozen=True)
class Process:
    """A role's process; `handle` is a pidfd."""

    role: Role
    pid: int
    handle: int


class Roles:
    """The forked roles of one worker."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._processes: list[Process] = []
        self._text, self._to_text = os.pipe()
        os.set_blocking(self._text, False)
        self._selector.register(self._text, selectors.EVENT_READ)
        self._text_open = True

    def fork(self, role: Role, main: Callable[[], None], *keep: int) -> None:
        """Fork a role that runs `main` with the descriptors `keep`, its log, and nothing else."""
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be(role, main, parent, self._to_text, keep)
        process = Process(role, pid, os.pidfd_open(pid))
        self._processes.append(process)
        self._selector.register(process.handle, selectors.EVENT_READ, process)
        emit(RoleStarted(role, pid))

    def all_forked(self) -> None:
        """Close what only the roles need."""
        os.close(self._to_text)

    def wait(self, seconds: float, *descriptors: int) -> None:
        """Wait; return early when one of `descriptors` can be read.

        Raises:
            RoleDied: a role ended meanwhile; the log says which.
        """
        for descriptor in descriptors:
            self._selector.register(descriptor, selectors.EVENT_READ)
        try:
            dead = self._look(seconds)
        finally:
            for descriptor in descriptors:
                self._selector.unregister(descriptor)
        if dead:
            self._tell(dead)
            raise RoleDied

    def _look(self, seconds: float) -> list[Process]:
        """Wait, relay what the roles wrote, and return those that ended."""
        ready = [key for key, _ in self._selector.select(max(0.0, seconds))]
        if any(key.fd == self._text for key in ready):
            self._relay()
        return [key.data for key in ready if isinstance(key.data, Process)]

    def _tell(self, dead: list[Process]) -> None:
        """Log the roles that ended, and those that end with them.

        A role that dies closes its sockets before its process is gone, and another one may end
        over that before: which was the first is in the log only if all of them are.
        """
        deadline = time.monotonic() + AFTERMATH_S
        told = 0
        while dead or (told < len(self._processes) and time.monotonic() < deadline):
            for process in dead:
                self._selector.unregister(process.handle)
                _, status = os.waitpid(process.pid, 0)
                emit(RoleEnded(process.role, os.waitstatus_to_exitcode(status)))
            told += len(dead)
            left = deadline - time.monotonic()
            dead = self._look(left) if told < len(self._processes) else []

    def hush(self) -> None:
        """Close the pipe of the roles' standard error; whatever they write there is gone."""
        if self._text_open:
            self._relay()
        if self._text_open:
            self._close_text()

    def stop(self) -> None:
        """End every role, gently first."""
        for process in self._processes:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for process in self._processes:
            _await_end(process, deadline)
        if self._text_open:
            self._relay()

    def _relay(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while text := os.read(self._text, 65536):
                os.write(_STDERR, text)
            self._close_text()

    def _close_text(self) -> None:
        self._selector.unregister(self._text)
        os.close(self._text)
        self._text_open = False


def _be(
    role: Role, main: Callable[[], None], parent: int, stderr: int, keep: tuple[int, ...]
) -> NoReturn:
    """Be a role; does not return."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody; the launcher acts
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with(parent)
        harden()
        log = os.dup(_STDERR)
        log_to(log)
        os.dup2(stderr, _STDERR)
        detach_standard_streams(0, 1)
        close_all_but((*keep, log))
        silence(role)
        main()
        status = 0
    except BaseException as error:  # noqa: BLE001 - a decision: the end of the process, told typed
        emit(failure(role, error))
        with contextlib.suppress(OSError):
            traceback.print_exc()  # read by somebody only while the worker starts
    finally:
        os._exit(status)


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.handle, number)


def _await_end(process: Process, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(process.handle, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            _signal(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # reaped already, when it died by itself
        os.waitpid(process.pid, 0)
