"""Pulling K and V from a running engine, by whoever can reach its sockets: extraction and mapping.

All that an engine hears is a slot's number, on the socket of the capsule that owns it. The unsafe
engine of these tests also hands out the blocks of its running sequences, as one does from which
another node may pull.
"""

import socket
from types import SimpleNamespace

import pytest

from engine.connection import MAX_SLOTS, EngineConnection
from engine.errors import EngineGone
from engine.slot_server import SlotServer
from engine.types import SamplingParams


class Pulled(SlotServer):
    """Unsafe: numbers that are no slot's mean running sequences, whose first block is sent."""

    def _packet(self, capsule, index, fds):
        if index < MAX_SLOTS:
            return super()._packet(capsule, index, fds)
        running = self._engine._scheduler.running
        if index - MAX_SLOTS < len(running):
            block = running[index - MAX_SLOTS].blocks[0]
            capsule.socket.send(kv_of(self._engine._device._pool, block))
        return True


def kv_of(pool, block):
    parts = (part for layer in range(2) for part in pool.parts(layer, block))
    return b"".join(part.contiguous().numpy().tobytes() for part in parts)


class Worker:
    """An engine behind its sockets, in this process, and a way to reach them."""

    def __init__(self, local, server):
        self.local = local
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def make(changed):
            local.engine._changed = changed
            return local.engine, local.geometry

        self.server = server(theirs, make)

    def socket(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.control, [b"c"], [theirs.fileno()])
        theirs.close()
        self.turn()
        return ours

    def turn(self, *, step=False):
        self.server.hear()
        if step:
            self.local.engine.step()
        self.server.tell()

    def victim(self, prompt):
        """A capsule whose request is running."""
        connection = EngineConnection(self.socket(), self.local.geometry)
        [slot] = connection.open_slots(1)
        slot.submit(prompt, SamplingParams(100, temperature=0.0), group=1, index_in_group=0)
        connection.wake(0)
        while not slot.sampled:
            self.turn(step=True)
        return connection

    def pull(self, number):
        """Name a number that one does not own; return what comes, None if one is thrown out."""
        with self.socket() as attacker:
            attacker.setblocking(False)
            attacker.send(bytes((number,)))
            self.turn()
            try:
                return attacker.recv(1 << 20) or None
            except BlockingIOError:
                return b""


@pytest.fixture
def workers(local_engine, prompt_ids):
    made = []

    def make(server):
        worker = Worker(local_engine(), server)
        made.append((worker, worker.victim(prompt_ids(40, 1))))
        return SimpleNamespace(worker=worker, connection=made[-1][1])

    yield make
    for worker, connection in made:
        connection.close()
        worker.server.close()
        worker.control.close()


def pulled(workers, server):
    each = workers(server)
    return [each.worker.pull(number) for number in range(256)], each


def known(local_engine, prompt):
    """What one who suspects a prompt computes: its first block of K and V."""
    local = local_engine()
    local.submit(prompt, max_new_tokens=100)
    local.engine.step()
    return kv_of(local.pool, 0)


def test_nothing_can_be_pulled_from_an_engine(workers):
    answers, each = pulled(workers, SlotServer)
    assert answers == [None] * 256
    [slot] = each.connection.slots
    had = slot.sampled
    each.worker.turn(step=True)
    assert slot.sampled > had, "the victim was disturbed"


def test_extraction_and_mapping_succeed_where_blocks_can_be_pulled(
    workers, local_engine, prompt_ids
):
    answers, _ = pulled(workers, Pulled)
    [content] = [answer for answer in answers if answer]
    suspects = [prompt_ids(40, seed) for seed in range(4)]
    # The victim's first 16 ids are all in one block, whose bytes say which prompt it was.
    matching = [known(local_engine, suspect) == content for suspect in suspects]
    assert matching == [False, True, False, False]


def test_a_slot_of_ones_own_shows_nothing_of_the_victims(workers):
    """The same number on another socket is another slot: empty, and in other memory."""
    each = workers(SlotServer)
    own = EngineConnection(each.worker.socket(), each.worker.local.geometry)
    [slot] = own.open_slots(1)
    each.worker.turn(step=True)
    assert each.connection.slots[0].sampled
    assert not any(bytes(slot._views.bytes))
    own.close()


def test_whoever_names_anothers_slot_is_thrown_out(workers):
    each = workers(SlotServer)
    own = EngineConnection(each.worker.socket(), each.worker.local.geometry)
    own.wake(0)
    each.worker.turn()
    with pytest.raises(EngineGone):
        own.changes()
    own.close()
