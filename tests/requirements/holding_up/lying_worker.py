"""`sottovoce worker`, whose device lies while the first byte of a file is set.

    python -m tests.requirements.holding_up.lying_worker FLAG [arguments of the worker]

The file is mapped before the engine is confined: a page of shared memory takes no call to read.
"""

# What a role needs is imported in it, as in the worker itself.
# ruff: noqa: PLC0415

import mmap
import sys
from dataclasses import replace
from pathlib import Path

from server import launcher
from sottovoce.commands import worker


def main():
    flag, *arguments = sys.argv[1:]
    with Path(flag).open("r+b") as file:
        lies = mmap.mmap(file.fileno(), 1)

    def engine(control, config, ready):
        from engine.native.device import NativeDevice

        honest = NativeDevice.step

        def step(self, batch):
            output = honest(self, batch)
            if lies[0] and output.transcript is not None:
                output.logits[0, 7] += 2.0
            return output

        NativeDevice.step = step
        launcher.PARTS.engine(control, config, ready)

    worker.app(arguments, obj=replace(launcher.PARTS, engine=engine))


if __name__ == "__main__":
    main()
