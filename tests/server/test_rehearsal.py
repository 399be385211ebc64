"""What a waiting capsule goes through, so that its request need not."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any

from engine.types import EngineState
from server.rehearsal import OneTokenEngine, rehearse, touch
from tests.server import wallet
from tests.server.fake_parts import GEOMETRY, FakeApplication


class Watched(OneTokenEngine):
    """Keeps the last state of its slots."""

    closed_in: tuple[EngineState, ...] = ()

    def close(self) -> None:
        self.closed_in = tuple(slot.state for slot in self.slots)
        super().close()


def test_the_engine_of_a_rehearsal_answers_one_token_and_has_erased_it():
    engine = Watched(GEOMETRY)
    FakeApplication().rehearse(engine)
    engine.close()
    assert engine.closed_in == (EngineState.ERASED,)
    assert not engine.slots


def page_faults(*steps: Callable[[], Any]) -> int:
    """Count those of the last step, in a fork that went through the others before."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for step in steps[:-1]:
                step()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            steps[-1]()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            os.write(writing, b"%d" % (after - before))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    count = int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return count


def test_a_capsule_that_has_rehearsed_has_its_pages():
    application, issuer = FakeApplication(), wallet.accepted_issuer()
    rehearse(issuer, application, GEOMETRY)

    def again() -> None:
        touch(issuer, application, GEOMETRY)

    assert page_faults(again, again) < page_faults(again) / 2
