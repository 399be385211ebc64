"""Everything a worker ever writes to its log: one frozen dataclass an event, one JSON line each.

There is no free text. A field is a number, a truth value, a member of a fixed enumeration, the
public name of a node (64 hex digits), or a name out of our own code (`CodeName`). What is not on
this page cannot be logged: `emit` takes an `Event` and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

_log = [2]
"""The file descriptor of the log; see `log_to`."""


class Role(StrEnum):
    """The processes of a worker."""

    LAUNCHER = "launcher"
    FRONT = "front"
    KEEPER = "keeper"
    ZYGOTE = "zygote"
    CAPSULE = "capsule"
    ENGINE = "engine"
    DOOR = "door"


def log_to(descriptor: int) -> None:
    """Write this process's events to `descriptor` instead of standard error."""
    _log[0] = descriptor


def log_descriptor() -> int:
    """Return the file descriptor that events are written to."""
    return _log[0]


class Neighbour(StrEnum):
    """The parties outside the worker that it waits for."""

    LOG = "log"
    ISSUER = "issuer"
    PLATFORM = "platform"
    """The hardware that quotes, or who fetches its collateral."""


class NodeName(str):
    """The public name of a node: lower-case hex of a key document's SHA-256.

    Raises:
        ValueError: anything else.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:  # noqa: D102 - the class says it
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("not a node's name")
        return super().__new__(cls, value)


class CodeName(str):
    """A name out of our own code: an exception's class, or `module:line`.

    Raises:
        ValueError: anything that could be a sentence.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:  # noqa: D102 - the class says it
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:]{0,99}", value):
            raise ValueError("not a name out of code")
        return super().__new__(cls, value)


class PlatformName(StrEnum):
    """The platforms a worker can quote on, by the names of bundles."""

    TDX = "tdx"
    SNP = "snp"
    AZURE_VTPM = "azure-vtpm"
    TPM = "tpm"
    SIMULATED = "simulated"


FIELD_TYPES = (int, bool, Role, Neighbour, PlatformName, NodeName, CodeName)
"""All that a field of an event may be. Tested for every class below."""


@dataclass(frozen=True)
class Event:
    """Base of the allow-list."""


@dataclass(frozen=True)
class WorkerStarting(Event):
    """The launcher has checked its allocator and is forking the roles."""

    pid: int


@dataclass(frozen=True)
class RoleStarted(Event):
    """A role's process exists."""

    role: Role
    pid: int


@dataclass(frozen=True)
class RoleConfined(Event):
    """A role runs under its filter of system calls, and Landlock's version; 0: there is none."""

    role: Role
    landlock: int


@dataclass(frozen=True)
class RoleNotConfined(Event):
    """A role that cannot be confined as it is configured: an engine on a GPU, or in parts."""

    role: Role


@dataclass(frozen=True)
class RoleEnded(Event):
    """A role died; the worker ends with it. `code` is negative for a signal."""

    role: Role
    code: int


@dataclass(frozen=True)
class RoleFailed(Event):
    """A role ends on an exception. Its text is never told, only its class and where."""

    role: Role
    error: CodeName
    where: CodeName


@dataclass(frozen=True)
class ModelLoading(Event):
    """Part of the model is loaded: of its bytes, so many per cent."""

    percent: int


@dataclass(frozen=True)
class EngineReady(Event):
    """The model is loaded."""

    max_model_len: int
    max_sequences: int


@dataclass(frozen=True)
class PlatformFound(Event):
    """What this worker quotes on. `asked`: it was told to; else this is what the machine is."""

    platform: PlatformName
    asked: bool


@dataclass(frozen=True)
class EvidenceRefused(Event):
    """The worker's own verifier refuses its evidence at `step`, for `code`: it does not start."""

    step: CodeName
    code: CodeName


@dataclass(frozen=True)
class NeighbourWaited(Event):
    """A party the worker needs did not answer; it is asked again."""

    neighbour: Neighbour
    attempt: int


@dataclass(frozen=True)
class LeafNotTaken(Event):
    """The log refuses this node's leaf, for `reason`; it is asked again."""

    reason: CodeName


@dataclass(frozen=True)
class IssuerKeysChanged(Event):
    """Capsules forked from now on accept tokens under this many issuer keys."""

    count: int


@dataclass(frozen=True)
class GenerationListed(Event):
    """A generation of keys is in the log and served."""

    node: NodeName
    not_after: int


@dataclass(frozen=True)
class GenerationErased(Event):
    """A generation's private keys are gone."""

    node: NodeName


@dataclass(frozen=True)
class WorkerReady(Event):
    """The worker can do its work under this first name."""

    node: NodeName


@dataclass(frozen=True)
class AcceleratorSuspect(Event):
    """A step of the accelerator did not verify: nothing new is begun, and no key follows."""


@dataclass(frozen=True)
class WorkerStopping(Event):
    """The worker was asked to end."""


@dataclass(frozen=True)
class CapsuleCrashed(Event):
    """A capsule ended otherwise than it should. `code` is negative for a signal."""

    code: int


def emit(event: Event) -> None:
    """Write one event as one JSON line to the log, in one system call.

    Raises:
        TypeError: `event` is not on the allow-list, or a field is not of an allowed type.
    """
    if not isinstance(event, Event):
        raise TypeError("only an Event can be logged")
    line: dict[str, Any] = {"at": int(time.time()), "event": type(event).__name__}
    for field in fields(event):
        value = getattr(event, field.name)
        if type(value) not in FIELD_TYPES:
            raise TypeError("an event's field is not of an allowed type")
        line[field.name] = value
    os.write(_log[0], json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _where(trace: TracebackType | None) -> CodeName:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return CodeName("unknown")
    return CodeName(f"{trace.tb_frame.f_globals.get('__name__', 'unknown')}:{trace.tb_lineno}")


def failure(role: Role, error: BaseException) -> RoleFailed:
    """Describe the exception a role ends on: its class and the line that raised it, no text."""
    return RoleFailed(role, CodeName(type(error).__name__), _where(error.__traceback__))


def silence(role: Role) -> None:
    """Cut every other way to the log that Python has, for this process.

    The logging module is switched off, and an exception that nobody catches becomes a
    `RoleFailed`.
    """
    logging.disable(logging.CRITICAL)
    sys.excepthook = lambda _, error, __: emit(failure(role, error))
    sys.unraisablehook = lambda unraisable: _emit_if_any(role, unraisable.exc_value)
    threading.excepthook = lambda arguments: _emit_if_any(role, arguments.exc_value)


def _emit_if_any(role: Role, error: BaseException | None) -> None:
    if error is not None:
        emit(failure(role, error))
