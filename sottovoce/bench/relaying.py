"""Relaying: a relay's own process between this one and a worker that answers without thinking."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

from sottovoce.bench.cost import processor_time
from sottovoce.bench.line import Line, line
from sottovoce.bench.load import http_request, read_streams

NODE = "ab" * 32
_START_S = 30.0
_AT_ONCE = 64
_BATCHES = 4
_EVENTS = 64
_EVENT = b"\x42" + b"e" * 551  # an event of 512 bytes in its Binary HTTP and OHTTP chunks
_SHORT = b"\x40" + b"a" * 4095
_END = b"-- the end"
_CHUNKED = "message/ohttp-chunked-req"
_REQUEST = b"r" * 4096


class RelayFailed(Exception):
    """The relay did not start."""


def measure(requests: int, streams: int) -> Iterator[Line]:
    """Yield requests and streams a second through one relay, and what an event costs it."""
    with _running("bench", "stub-worker") as worker, _relay(worker.port) as relay:
        rates, _ = _rates(relay, requests // _BATCHES, b"one" + _REQUEST)
        yield line(f"sweep relay requests @ 4 KiB each way, {_AT_ONCE} at once", "/s", rates)
        rates, costs = _rates(relay, streams // _BATCHES, b"all" + _REQUEST)
        shape = f"{_EVENTS} events of {len(_EVENT)} B"
        yield line(f"sweep relay streams @ {shape}, {_AT_ONCE} at once", "/s", rates)
        yield line(f"sweep relay cpu per event @ {shape}, {_AT_ONCE} at once", "us", costs)


def _rates(relay: _Process, count: int, body: bytes) -> tuple[list[float], list[float]]:
    request = http_request(relay.port, f"/{NODE}", body, _CHUNKED)
    rates, costs = [], []
    for _ in range(_BATCHES):
        before, started = processor_time(relay.pid).own, time.perf_counter()
        left = max(1, count)
        while left:
            some = min(left, _AT_ONCE)
            asyncio.run(read_streams(relay.port, [request] * some, end=_END))
            left -= some
        rates.append(max(1, count) / (time.perf_counter() - started))
        spent = processor_time(relay.pid).own - before
        costs.append(spent * 1e6 / (max(1, count) * _EVENTS))
    return rates, costs


class _Process:
    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port


@contextlib.contextmanager
def _running(*arguments: str) -> Iterator[_Process]:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sottovoce", *arguments, "--port", str(port)]
    process = subprocess.Popen(command)  # noqa: S603 - our own command
    try:
        _await_health(process, port)
        yield _Process(process.pid, port)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _relay(worker_port: int) -> Iterator[_Process]:
    worker = f"http://127.0.0.1:{worker_port}"
    with _running("relay", "--worker", worker, "--log", worker) as relay:
        deadline = time.monotonic() + _START_S
        while httpx.get(f"http://127.0.0.1:{relay.port}/health").json()["nodes"] != 1:
            if time.monotonic() > deadline:
                raise RelayFailed("the relay does not see its worker")
            time.sleep(0.1)
        yield relay


def _await_health(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                return
        time.sleep(0.05)
    raise RelayFailed("a process did not get ready")


def serve_stub_worker(port: int) -> None:
    """Serve what a relay asks of a worker, from constants, until the process is ended."""
    asyncio.run(_serve(port))


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_HEALTH = b'{"status":"ok","nodes":["%b"]}' % NODE.encode()
_LAST = _chunk(_END) + b"0\r\n\r\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(_HEALTH) + _HEALTH
                )
                continue
            body = await _read_body(reader, head)
            writer.write(_HEAD)
            if body.startswith(b"one"):
                writer.write(_chunk(_SHORT) + _LAST)
                continue
            for _ in range(_EVENTS):
                writer.write(_chunk(_EVENT))
                await asyncio.sleep(0)
            writer.write(_LAST)
            await writer.drain()
    writer.close()


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    for field in head.lower().split(b"\r\n"):
        if field.startswith(b"content-length:"):
            return await reader.readexactly(int(field[15:]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
