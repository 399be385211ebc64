"""After a sequence is erased, the engine process's memory holds nothing of it.

The whole readable memory of a real engine process is searched for the prompt's ids, the answer's
ids and rows of the KV cache. The same search while the sequence is alive must find them: a search
that cannot find proves nothing. Freed memory is scrubbed by the allocator settings that a worker
demands; the process under test runs with them.
"""

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from engine.connection import EngineConnection
from engine.slot import Slot
from engine.types import EngineState, SamplingParams


def id_needles(name, ids):
    """Four consecutive ids, as tables and slots hold them."""
    return {
        f"{name} at {at}, {width}": struct.pack(f"<4{width}", *ids[at : at + 4])
        for at in (0, len(ids) - 4)
        for width in "IQ"
    }


def search(pid, needles):
    """Return the names of the needles found in any readable page that is not a file's."""
    hits = set()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, modes, _, _, inode, *path = line.split(maxsplit=5)
            if "r" not in modes or path[:1] in (["[vvar]"], ["[vvar_vclock]"], ["[vsyscall]"]):
                continue
            if int(inode) and "w" not in modes and "memfd" not in line:
                continue
            start, stop = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                data = memory.read(stop - start)
            except OSError:
                continue
            hits |= {name for name, needle in needles.items() if contains(data, needle)}
    return hits


def contains(data, needle):
    """Whether `needle` lies in `data` at a multiple of four, as tables and pools do."""
    first = np.frombuffer(needle, np.uint64, count=1)[0]
    for offset in (0, 4):
        count = (len(data) - offset) // 8
        words = np.frombuffer(data, np.uint64, count=count, offset=offset)
        for word in np.flatnonzero(words == first):
            start = offset + 8 * int(word)
            if data[start : start + len(needle)] == needle:
                return True
    return False


def wait_for(connection, condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        connection.wait(end - time.monotonic())


def expected_needles(local_engine, prompt):
    """Run the same sequence here, and say what it looks like in memory."""
    local = local_engine(max_batch_tokens=512)
    slot = local.submit(prompt, max_new_tokens=400)
    for _ in range(20):
        local.engine.step()
    block = local.engine._entries[0].sequence.blocks[0]
    rows = {
        f"K of layer {layer}": keys[block * 16 + 5].numpy().tobytes()
        for layer, keys in enumerate(local.pool.keys)
    }
    return rows | id_needles("prompt", prompt) | id_needles("answer", slot.ids(0, 16))


def test_an_erased_sequence_is_nowhere(engine, local_engine, lab):
    if os.geteuid() != 0:
        pytest.skip("reading another process's memory needs root here")
    needles, endings = {}, ("done", "cancel", "gone")
    slots, connections = [], []
    for number, how in enumerate(endings):
        prompt = lab.prompt(64, 70 + number)
        found = expected_needles(local_engine, prompt)
        needles |= {f"{how}: {name}": needle for name, needle in found.items()}
        connection = EngineConnection(engine.raw_socket(), engine.geometry)
        (slot,) = connection.open_slots(1)
        params = SamplingParams(max_new_tokens=400, temperature=0.0, constrained=True)
        slot.submit(prompt, params, group=1, index_in_group=0)
        for position in range(1, 21):  # after which it waits, alive, while memory is searched
            slot.set_mask(position, b"\xff" * 25)
            connection.wake(0)
            wait_for(connection, lambda slot=slot, n=position: slot.sampled == n)
        slots.append(slot)
        connections.append(connection)
    pid = engine.process.pid
    assert search(pid, needles) == set(needles), "a search that cannot find proves nothing"
    witness = Slot.attach(os.dup(slots[2].fd), engine.geometry)
    slots[0].done()
    slots[1].cancel()
    for connection in connections[:2]:
        connection.wake(0)
    connections[2].close()
    for slot, connection in zip(slots[:2], connections[:2], strict=True):
        wait_for(connection, lambda slot=slot: slot.state is EngineState.ERASED)
    while witness.state is not EngineState.ERASED:
        time.sleep(0.01)
    assert search(pid, needles) == set()
    for connection in connections[:2]:
        connection.close()
    witness.close()
