"""The place of a process among those that `torchrun` started. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import EngineError

_LOCAL = {"localhost", "127.0.0.1", "::1"}


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
