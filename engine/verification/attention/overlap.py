"""A prompt on its way in blocks: while one is checked, the next crosses and another is computed.

Two levels, after VeriAttn: outside, blocks of heads or queries go through the stages one after the
other (send, compute, fetch, check); inside, the device and the checks work tile by tile over keys.
Here is the outer level. Each stage has a thread of its own and a queue of bounded length before it,
so that no stage runs further ahead than memory was meant for. A stage for a GPU would put its work
on a stream of its own and hand an event on; none is written yet.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Stage = Callable[[Any], Any]
"""Takes what the stage before it made, and returns what the next one takes."""
_END = object()


def overlapped(blocks: Iterable[Any], stages: Sequence[Stage], *, ahead: int = 2) -> list[Any]:
    """Send blocks through stages, all stages at once; return what the last one made, in order.

    Args:
        blocks: what goes in.
        stages: at least one, in order.
        ahead: blocks that may wait before a stage.

    Raises:
        Exception: what a stage raised; blocks behind it are not begun, and all threads have ended.
    """
    queues: list[queue.Queue[Any]] = [queue.Queue(ahead) for _ in stages]
    done: queue.Queue[Any] = queue.Queue()
    failed: list[BaseException] = []
    ways = list(zip(stages, queues, [*queues[1:], done], strict=True))
    threads = [threading.Thread(target=_work, args=(*way, failed), daemon=True) for way in ways]
    for thread in threads:
        thread.start()
    try:
        for block in blocks:
            if failed:
                break
            queues[0].put(block)
    finally:  # whatever making a block raises, no thread is left behind
        queues[0].put(_END)
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return list(iter(done.get_nowait, _END))


def _work(
    stage: Stage, waiting: queue.Queue[Any], then: queue.Queue[Any], failed: list[BaseException]
) -> None:
    while (block := waiting.get()) is not _END:
        if failed:
            continue  # what waits is let go, so that nobody is left waiting
        try:
            made = stage(block)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the blocks
            failed.append(error)
            continue
        then.put(made)
    then.put(_END)
