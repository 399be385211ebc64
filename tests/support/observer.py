"""Both sides of a real relay under load, and who watches them: when, and how many bytes.

Clients and workers here are scripts of real sizes and rhythms: a request of 4 KiB and what chunks
add, a streamed answer of 530-byte events with its receipt at the end. What is encrypted in between
is nobody's business here; an observer has no use for bytes.
"""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field

from tests.relay.conftest import NODE, config_for, running_relay
from wire.padding import EVENT_SIZE

REQUEST = 4096 + 1127 + 2 * 20
EVENT = EVENT_SIZE + 2 + 16
LAST = 4096 + 2 + 16


@dataclass
class Flow:
    """What was seen of one request on one side of the relay."""

    who: int
    asked: float
    """When the last byte of the request passed."""
    pieces: list[tuple[float, int]] = field(default_factory=list)
    """(when, bytes) of the answer."""

    @property
    def first(self):
        return self.pieces[0][0]

    @property
    def last(self):
        return self.pieces[-1][0]


@dataclass
class Load:
    """How many clients at once, and what they ask for."""

    clients: int
    requests: int
    """Of each client."""
    think_s: float = 0.3
    prefill_s: tuple[float, float] = (0.03, 0.12)
    events: tuple[int, int] = (6, 14)
    rhythm_s: float = 0.02
    streamed: bool = True


class Worker:
    """Answers as `Load` says; the request's number is in its first bytes, for the score alone."""

    def __init__(self, load, generator):
        self.load, self.generator, self.flows, self.tasks = load, generator, [], []

    async def serve(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    self._health(writer)
                else:
                    await self._answer(await chunked(reader), writer)
        writer.close()

    def _health(self, writer):
        body = b'{"status":"ok","nodes":["%s"]}' % NODE.encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def _answer(self, body, writer):
        flow = Flow(int(body[:8]), time.monotonic())
        self.flows.append(flow)
        load, draw = self.load, self.generator
        await asyncio.sleep(draw.uniform(*load.prefill_s))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        events = draw.randint(*load.events)
        for number in range(events):
            await asyncio.sleep(load.rhythm_s * draw.uniform(0.9, 1.1))
            size = EVENT if number + 1 < events else LAST
            if load.streamed or number + 1 == events:
                writer.write(b"%x\r\n" % size + bytes(size) + b"\r\n")
                flow.pieces.append((time.monotonic(), size))
        writer.write(b"0\r\n\r\n")


async def chunked(reader):
    """Read a chunked body, as it came."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def client(port, who, load, generator, flows):
    """Ask one request after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(load.requests):
        await asyncio.sleep(generator.expovariate(1 / load.think_s))
        name = who * load.requests + number
        body = (b"%08d" % name).ljust(REQUEST, b".")
        writer.write(
            b"POST /%s HTTP/1.1\r\nhost: relay\r\nincremental: ?1\r\n"
            b"content-type: message/ohttp-chunked-req\r\n"
            b"content-length: %d\r\n\r\n" % (NODE.encode(), len(body)) + body
        )
        flow = Flow(name, time.monotonic())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            flow.pieces.append((time.monotonic(), size))
        await reader.readline()
        flows.append(flow)
    writer.close()


def watched(load, *, seed=1, **relay):
    """Run a load through a relay; return (what was seen at the clients, at the workers)."""
    generator = random.Random(seed)
    worker, flows = Worker(load, generator), []

    async def main():
        server = await asyncio.start_server(worker.serve, "127.0.0.1", 0)
        worker.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, running_relay(config_for(worker, **relay)) as url:
            port = int(url.rpartition(":")[2])
            async with asyncio.timeout(60):
                await asyncio.gather(
                    *(client(port, who, load, generator, flows) for who in range(load.clients))
                )

        if worker.tasks:
            await asyncio.wait(worker.tasks)

    asyncio.run(main())
    return flows, worker.flows


def at_once(flows):
    """How many requests were under way together, on average over their own time."""
    busy = sum(flow.last - flow.asked for flow in flows)
    span = max(flow.last for flow in flows) - min(flow.asked for flow in flows)
    return busy / span


def by_requests(flow, other):
    """How unlike two flows are, of whom only the requests were watched."""
    return abs(other.asked - flow.asked)


def by_everything(flow, other):
    """How unlike two flows are: their requests, beginnings and ends, and what each amounts to."""
    total, same = (sum(size for _, size in each.pieces) for each in (flow, other))
    times = (other.asked - flow.asked, other.first - flow.first, other.last - flow.last)
    return sum(abs(each) for each in times) + abs(total - same)


def matched(near, far, unlike):
    """Name for each flow near the clients the one at the workers that is likest; how often right.

    What the relay adds to each time is the same for all and is taken out first.
    """
    far = shifted(near, far)
    right = 0
    for flow in near:
        best = min(far, key=lambda other: unlike(flow, other))
        right += best.who == flow.who
    return right, len(near)


def shifted(near, far):
    """Move the times seen at the workers by the usual delays, found by trying many."""

    def median(values):
        return sorted(values)[len(values) // 2]

    def delay(get):
        starts, others = sorted(map(get, near)), sorted(map(get, far))
        return median([a - b for a, b in zip(starts, others, strict=True)])

    asked, first, last = (delay(get) for get in (_asked, _first, _last))
    return [
        Flow(
            flow.who,
            flow.asked + asked,
            [(flow.first + first, 0)]
            + [(flow.first, size) for _, size in flow.pieces[:-1]]
            + [(flow.last + last, flow.pieces[-1][1])],
        )
        for flow in far
    ]


def _asked(flow):
    return flow.asked


def _first(flow):
    return flow.first


def _last(flow):
    return flow.last
