"""What it costs to let the events of a stream leave at fixed ticks (`WorkerConfig.event_tick_ms`).

    python benchmarks/event_ticks.py [--json]

`measure` plays one stream against the real clock: events that come at random times, as tokens do,
through a real sealer into a real socket. It needs no model and no GPU.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from server.connections import FrontConnection
from server.responses import ChunkedResponder
from server.ticks import TickedResponder
from wire import ohttp
from wire.hpke import Aead, Kdf, Kem, PrivateKey, Suite, setup_recipient, setup_sender

PAYLOAD = b'{"choices":[{"delta":{"content":"token"}}]}'.ljust(250)


@dataclass(frozen=True)
class TickCost:
    """One stream's cost."""

    tick_ms: float
    events: int
    chunks: int
    """Pieces sent, padding included."""
    cpu_us_a_chunk: float
    """Processor time of the capsule for each piece, waiting included."""
    delay_ms: float
    """Median time an event waited for its tick."""
    bytes_per_s: float


def measure(*, tick_ms: float, events: int = 100, interval_ms: float = 25.0) -> TickCost:
    """Play one stream of `events`, on average `interval_ms` apart, at one tick."""
    near, far = socket.socketpair()
    reading = threading.Thread(target=_discard, args=(far,))
    reading.start()
    with near:
        inner = _Counting(FrontConnection(near), *_sealer())
        responder = TickedResponder(inner, tick_ms / 1000)
        responder.begin(200, ())
        began, cpu = time.monotonic(), time.thread_time()
        for at in _arrivals(events, interval_ms / 1000):
            _wait(responder, began + at)
            inner.came_at.append(time.monotonic())
            responder.event(PAYLOAD)
        responder.end()
        cpu, seconds = time.thread_time() - cpu, time.monotonic() - began
    reading.join()
    return TickCost(
        tick_ms=tick_ms,
        events=events,
        chunks=inner.chunks,
        cpu_us_a_chunk=round(cpu / inner.chunks * 1e6, 1),
        delay_ms=round(statistics.median(inner.delays) * 1000, 2),
        bytes_per_s=round(inner.size / seconds),
    )


class _Counting(ChunkedResponder):
    """Counts what leaves, and how long each event had waited."""

    def __init__(self, front: FrontConnection, sealer: ohttp.ChunkedResponseSealer) -> None:
        super().__init__(front, sealer)
        self.chunks = self.size = 0
        self.came_at: deque[float] = deque()
        self.delays: list[float] = []

    def piece(self, piece: bytes) -> None:
        super().piece(piece)
        self.chunks += 1
        self.size += len(piece)
        if b"data: " in piece:
            self.delays.append(time.monotonic() - self.came_at.popleft())


def _sealer() -> tuple[ohttp.ChunkedResponseSealer]:
    suite = Suite(Kem.X25519, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    key = PrivateKey.generate(Kem.X25519, bytes(32))
    enc, _ = setup_sender(suite, key.public_bytes, b"")
    return (ohttp.ChunkedResponseSealer(setup_recipient(suite, key, enc, b""), enc, bytes(16)),)


def _arrivals(count: int, interval_s: float) -> Iterator[float]:
    draw, at = random.Random(1), 0.0
    for _ in range(count):
        at += draw.expovariate(1 / interval_s)
        yield at


def _wait(responder: TickedResponder, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, responder.on_wait() or left))


def _discard(sock: socket.socket) -> None:
    with sock:
        while sock.recv(65536):
            pass


def main() -> None:
    """Measure the ticks one would choose between."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object a line")
    as_json = parser.parse_args().json
    for tick_ms in (5.0, 10.0, 20.0, 50.0):
        cost = asdict(measure(tick_ms=tick_ms))
        line = json.dumps(cost) if as_json else "  ".join(f"{k} {v}" for k, v in cost.items())
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
