"""Leaves that wait for the log's next turn, and how they are taken in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from transparency.admission import Admitted
from transparency.errors import TransparencyError
from transparency.leaf import Body, KeyRotationLeaf, Leaf, RoleKeys, WithdrawalLeaf
from transparency.proof import LogProof


@dataclass
class Waiting:
    """A leaf on its way, and where its answer goes."""

    leaf: Leaf
    data: bytes
    body: Body
    roles: RoleKeys
    admitted: Admitted | None
    refusal: TransparencyError | None = None
    answer: asyncio.Future[LogProof] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


def ended_by_amendments(batch: list[Waiting]) -> Iterator[list[Waiting]]:
    """Split a batch behind each leaf that changes what may follow it."""
    group: list[Waiting] = []
    for waiting in batch:
        group.append(waiting)
        if isinstance(waiting.body, KeyRotationLeaf | WithdrawalLeaf):
            yield group
            group = []
    yield group


def fail(batch: list[Waiting], error: TransparencyError) -> None:
    """Give an error to those of a batch that have no answer yet."""
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
