"""A thousand streams through one real process, and answers that nobody reads."""

import asyncio
import contextlib
import hashlib
import resource
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.anyio

NODE = "ab" * 32
REQUEST = (
    f"POST /{NODE} HTTP/1.1\r\nhost: relay\r\ncontent-type: message/ohttp-chunked-req\r\n"
    f"connection: close\r\n"
).encode()
EVENT = b"e" * 534  # a sealed event
MIB = 1024
ARRIVING = 50
"""How many clients arrive at once; all of them stay."""


@pytest.fixture(autouse=True)
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class SlowStreams:
    """A worker's streams: one event each, a pause until all are open, then events in time."""

    def __init__(self, count, events, interval_s):
        self._missing = count
        self._all_open = asyncio.Event()
        self._events = events
        self._interval_s = interval_s

    async def __call__(self, exchange):
        await exchange.start(headers=[("content-type", "message/ohttp-chunked-res")])
        await exchange.send(EVENT)
        self._missing -= 1
        if not self._missing:
            self._all_open.set()
        await self._all_open.wait()
        for _ in range(self._events - 1):
            await asyncio.sleep(self._interval_s)
            await exchange.send(EVENT)
        await exchange.end()


async def read_stream(relay, arriving):
    """One client: how many events it got, and whether the stream had its end."""
    async with arriving:
        reader, writer = await relay.connect()
        writer.write(REQUEST + b"content-length: 7\r\n\r\nrequest")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    answer = await reader.read()
    writer.close()
    return answer.count(b"e" * 500), answer.endswith(b"0\r\n\r\n")


@dataclass(frozen=True)
class Load:
    streams: int
    events: int
    interval_s: float
    limit_s: float


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(Load(1000, 4, 0.5, 100), id="1000"),
        pytest.param(Load(3500, 60, 1.0, 300), id="3500", marks=pytest.mark.soak),
    ],
)
async def test_one_process_holds_so_many_streams_at_once(fakes, relay_process, load):
    worker = fakes[0]()
    worker.scripts["/gateway"] = SlowStreams(load.streams, load.events, load.interval_s)
    async with worker.running(), relay_process(worker) as relay:
        idle = relay.kib("VmRSS")
        arriving = asyncio.Semaphore(ARRIVING)
        async with asyncio.timeout(load.limit_s):
            streams = await asyncio.gather(
                *(read_stream(relay, arriving) for _ in range(load.streams))
            )
        assert set(streams) == {(load.events, True)}
        each = (relay.kib("VmHWM") - idle) / load.streams
        assert each < 128, f"{each:.0f} KiB a stream"


async def test_an_answer_nobody_reads_is_not_read_from_the_worker(fakes, relay_process):
    worker, piece, pieces = fakes[0](), bytes(range(256)) * 256, 1600
    sent = 0

    async def script(exchange):
        nonlocal sent
        await exchange.start()
        for _ in range(pieces):
            await exchange.send(piece)
            sent += len(piece)
        await exchange.end()

    worker.scripts["/gateway"] = script
    async with worker.running(), relay_process(worker) as relay:
        idle = relay.kib("VmRSS")
        reader, writer = await relay.connect()
        writer.transport.pause_reading()
        writer.write(REQUEST + b"content-length: 1\r\n\r\nx")
        held = await at_rest(lambda: sent)
        assert 0 < held < 0.5 * len(piece) * pieces, "what fits into the kernel's buffers"
        writer.transport.resume_reading()
        hashed, length = hashlib.sha256(), 0
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")
            async for data in chunks(reader):
                hashed.update(data)
                length += len(data)
        assert length == len(piece) * pieces == sent
        assert hashed.digest() == hashlib.sha256(piece * pieces).digest()
        assert relay.kib("VmHWM") - idle < 8 * MIB
        writer.close()


async def test_requests_that_no_worker_reads_are_not_read_from_the_clients(fakes, relay_process):
    worker, clients, length = fakes[0](), 4, 16 * 1024 * 1024
    reading = asyncio.Event()
    served = worker._serve

    async def slow(reader, writer):
        if worker.cut_off.is_set():  # set below, once the relay knows the node
            reader._transport.pause_reading()
            await reading.wait()
            reader._transport.resume_reading()
        await served(reader, writer)

    worker._serve = slow
    async with worker.running(), relay_process(worker, poll_interval_s=3600) as relay:
        worker.cut_off.set()
        idle, sent = relay.kib("VmRSS"), 0

        async def upload():
            nonlocal sent
            reader, writer = await relay.connect()
            writer.write(REQUEST + f"content-length: {length}\r\n\r\n".encode())
            for _ in range(length // 65536):
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
            answer = await reader.read()
            writer.close()
            return answer

        uploads = [asyncio.create_task(upload()) for _ in range(clients)]
        held = await at_rest(lambda: sent)
        assert held < 0.8 * clients * length
        assert relay.kib("VmHWM") - idle < clients * 1 * MIB
        reading.set()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*uploads)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert [len(each.body) for each in worker.exchanges] == [length] * clients
        assert relay.kib("VmHWM") - idle < clients * 1 * MIB


async def at_rest(progress):
    """Wait until `progress` stands still; return where."""
    before = -1
    async with asyncio.timeout(30):
        while before != (now := progress()) or not now:
            before = now
            await asyncio.sleep(0.5)
    return before


async def chunks(reader):
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readexactly(2)
