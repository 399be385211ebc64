"""A worker without hygiene, for tests that must find what it leaves; never for anything else.

Freed memory is not overwritten, KV blocks and rows of ids are not zeroed, and capsules end late.
Takes the arguments of `sottovoce worker`.
"""

import os
import sys
import time
from dataclasses import replace

from server import launcher, zygote
from sottovoce.commands import worker

LATE_S = 60.0


class _SlowToEnd:
    """The module `os`, but for its `_exit`."""

    def __getattr__(self, name):
        return getattr(os, name)

    def _exit(self, status):
        time.sleep(LATE_S)
        os._exit(status)


def _forgets_nothing(*arguments):
    """Run the engine, in its own process: torch is imported nowhere else."""
    from engine.kv_cache import KVPool  # noqa: PLC0415
    from engine.trusted import TrustedSide  # noqa: PLC0415

    erase = TrustedSide.erase

    def erase_nothing(side, sequence):
        row, ids = sequence.row, side._tokens.copy()
        erase(side, sequence)
        if row is not None:
            side._tokens[row] = ids[row]

    TrustedSide.erase = erase_nothing
    KVPool.zero = lambda _pool, _blocks: None
    launcher.PARTS.engine(*arguments)


if __name__ == "__main__":
    launcher.ensure_scrubbing = lambda: None
    zygote.os = _SlowToEnd()
    worker.app(sys.argv[1:], obj=replace(launcher.PARTS, engine=_forgets_nothing))
