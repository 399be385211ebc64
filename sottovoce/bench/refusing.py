"""What a flood of garbage costs a worker: requests to its live key that do not open."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.config import EngineConfig
from server import front
from server.config import WorkerConfig
from server.control import NodesMessage
from server.hardening import die_with
from server.keeper_checks import WINDOW, question
from server.messages import Request
from server.sockets import packet_pair, receive_packet, send_packet, stream_pair
from sottovoce.bench.cost import processor_time
from sottovoce.bench.keeper import RunningKeeper, running_keeper
from sottovoce.bench.line import Line, line
from sottovoce.bench.load import http_request
from wire import ohttp
from wire.hpke import Aead, Kdf, Kem

_CIPHERTEXT = 4096 + 16 + 1
_CONNECTIONS = 32
_BATCHES = 5
_START_S = 10.0
_REFUSED = b"HTTP/1.1 422 "
_HEAD_END = b"\r\n\r\n"


class FrontFailed(Exception):
    """The front did not start, or did not refuse."""


def measure(keeper: RunningKeeper, count: int) -> Iterator[Line]:
    """Yield refusals a second, of a keeper alone and over HTTP, and what one costs each part."""
    packets = [question(Request(True, body)) or b"" for body in _garbage(keeper, 256)]
    rates = [_asked(keeper, packets, count // _BATCHES) for _ in range(_BATCHES)]
    yield line("sweep garbage refusals @ 4 KiB, X-Wing, keeper alone", "/s", rates)
    with running_keeper() as other, _running_front(other) as (pid, port):
        rates, fronts, keepers = [], [], []
        for _ in range(_BATCHES):
            some = max(1, count // _BATCHES)
            before, before_keeper = processor_time(pid).own, processor_time(other.pid).own
            began = time.perf_counter()
            asyncio.run(_flood(port, _garbage(other, 256), some))
            rates.append(some / (time.perf_counter() - began))
            fronts.append((processor_time(pid).own - before) * 1e6 / some)
            keepers.append((processor_time(other.pid).own - before_keeper) * 1e6 / some)
    shape = f"4 KiB, X-Wing, over HTTP, {_CONNECTIONS} connections"
    yield line(f"sweep garbage refusals @ {shape}", "/s", rates)
    yield line(f"sweep cpu per refusal @ {shape}, front", "us", fronts)
    yield line(f"sweep cpu per refusal @ {shape}, keeper", "us", keepers)


def _garbage(keeper: RunningKeeper, count: int) -> list[bytes]:
    """Random bytes where a request of the smallest class has its `enc` and its only chunk."""
    config = keeper.configs[Kem.XWING]
    header = ohttp.Header(config.key_id, config.kem, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    enc_length = header.suite.enc_length
    return [
        header.encode() + os.urandom(enc_length) + b"\0" + os.urandom(_CIPHERTEXT - 1)
        for _ in range(count)
    ]


def _asked(keeper: RunningKeeper, packets: list[bytes], count: int) -> float:
    """Have so many packets answered, as the front asks; return how many a second."""
    began = time.perf_counter()
    for number in range(count):
        if number >= WINDOW:
            receive_packet(keeper.front)
        send_packet(keeper.front, packets[number % len(packets)])
    for _ in range(min(count, WINDOW)):
        receive_packet(keeper.front)
    return count / (time.perf_counter() - began)


@contextmanager
def _running_front(keeper: RunningKeeper) -> Iterator[tuple[int, int]]:
    """Run a front without capsules, in a process of its own: its process and its port."""
    (launcher, to_launcher), (zygote, to_zygote) = packet_pair(), packet_pair()
    _, quotes = stream_pair()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            launcher.close()
            zygote.close()
            front.run(_config(port), to_launcher, to_zygote, keeper.front, quotes)
        finally:
            os._exit(0)
    to_launcher.close()
    to_zygote.close()
    try:
        send_packet(launcher, NodesMessage({"00" * 32: tuple(keeper.configs.values())}).encode())
        _await_port(port)
        yield pid, port
    finally:
        launcher.close()  # the front ends with its launcher's socket
        zygote.close()
        os.waitpid(pid, 0)


def _config(port: int) -> WorkerConfig:
    nowhere = Path(tempfile.gettempdir()) / "sottovoce-bench-no-store"
    return WorkerConfig(
        model=nowhere,
        model_name="none",
        engine=EngineConfig(nowhere),
        host="127.0.0.1",
        port=port,
        log_url="http://127.0.0.1:9",
        issuer_url="http://127.0.0.1:9",
        issuer_name="none",
        spent_socket=nowhere,
    )


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise FrontFailed("the front did not start")


async def _flood(port: int, bodies: list[bytes], count: int) -> None:
    requests = [http_request(port, "/gateway", body, ohttp.CHUNKED_REQUEST_TYPE) for body in bodies]
    numbers = iter(range(count))
    await asyncio.gather(*(_send(port, requests, numbers) for _ in range(_CONNECTIONS)))


async def _send(port: int, requests: list[bytes], numbers: Iterator[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        writer.write(requests[number % len(requests)])
        if not (await reader.readuntil(_HEAD_END)).startswith(_REFUSED):
            raise FrontFailed("garbage was not refused")
    writer.close()
