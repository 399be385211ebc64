"""What one client, or one address, can take from a relay."""

import asyncio
import json

import pytest

from relay import linger
from relay.body import MAX_BODY
from relay.config import RelayConfig
from relay.errors import BadConfig

pytestmark = pytest.mark.anyio

NODE = "ab" * 32
HEAD = f"POST /{NODE} HTTP/1.1\r\nhost: relay\r\ncontent-type: message/ohttp-req\r\n"


async def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def ended(reader):
    """Everything until the end, however that comes."""
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""


async def problem_of(reader):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    return head, json.loads(await asyncio.wait_for(reader.readexactly(length), 10))


async def test_an_address_that_asks_too_often_gets_a_429_with_retry_after(relay_between):
    async with relay_between(unlimited=(), requests_per_s=1.0, burst=3) as setup:
        answers = [await setup.post() for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 3
        refused = answers[-1]
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json() == {
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": 429,
        }
        assert len(setup.worker.exchanges) == 3
        assert (await setup.client.get("/nodes")).status_code == 429, "documents count too"


async def test_loopback_is_not_limited_unless_it_is_asked_for(relay_between):
    async with relay_between(requests_per_s=1.0, burst=1) as setup:
        assert [(await setup.post()).status_code for _ in range(5)] == [200] * 5


async def test_an_address_has_so_many_connections_and_no_more(relay_between):
    async with relay_between(unlimited=(), connections_per_address=2) as setup:
        kept = [await connected(setup.url) for _ in range(2)]
        reader, writer = await connected(setup.url)
        assert await ended(reader) == b""
        writer.close()
        for _, other in kept:
            other.close()
            await other.wait_closed()
        for _ in range(500):  # the relay learns of the ends in its own time
            if await ask_health(setup.url):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the places did not come back")


async def ask_health(url):
    reader, writer = await connected(url)
    writer.write(b"GET /health HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n")
    answer = await ended(reader)
    writer.close()
    return answer


@pytest.mark.parametrize("begin", [b"", b"GET /hea", HEAD.encode(), b"POST / HTTP/1.1\r\na: b\r\n"])
async def test_a_slow_header_section_is_cut_off(relay_between, begin):
    async with relay_between(head_timeout_s=0.2) as setup:
        reader, writer = await connected(setup.url)
        trickle = asyncio.create_task(trickled(writer, begin))
        assert await ended(reader) == b""
        trickle.cancel()
        writer.close()
        assert setup.worker.exchanges == []


async def trickled(writer, begin):
    """A byte now and then, so that the connection is never idle."""
    writer.write(begin)
    while begin:
        await asyncio.sleep(0.02)
        writer.write(b"a")


async def test_the_second_header_section_of_a_connection_has_its_time_too(relay_between):
    async with relay_between(head_timeout_s=0.2) as setup:
        reader, writer = await connected(setup.url)
        writer.write(b"GET /health HTTP/1.1\r\nhost: relay\r\n\r\n")
        await problem_of(reader)
        trickle = asyncio.create_task(trickled(writer, b"GET /hea"))
        assert await ended(reader) == b""
        trickle.cancel()
        writer.close()


async def test_a_slow_body_or_answer_is_not_taken_for_a_slow_header(relay_between):
    async def script(exchange):
        await exchange.start()
        await asyncio.sleep(0.3)
        await exchange.send(b"late")
        await exchange.end()

    async with relay_between(script, head_timeout_s=0.1) as setup:

        async def content():
            yield b"first"
            await asyncio.sleep(0.3)
            yield b"second"

        assert (await setup.post(content=content())).content == b"late"


async def test_a_client_that_reads_nothing_is_cut_off_and_frees_the_worker(relay_between):
    closed = asyncio.Event()

    async def script(exchange):
        await exchange.start()
        try:
            while True:
                await exchange.send(bytes(65536))
        except ConnectionError:
            closed.set()
            raise

    async with relay_between(script, unread_timeout_s=0.3) as setup:
        _, writer = await connected(setup.url)
        writer.transport.pause_reading()
        writer.write(f"{HEAD}content-length: 1\r\n\r\nx".encode())
        await asyncio.wait_for(closed.wait(), 10)
        writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + f"content-length: {MAX_BODY + 1}\r\n", 413),
        (HEAD.replace(NODE, "cd" * 32) + "content-length: 20000000\r\n", 404),
        (HEAD.replace("ohttp", "canary") + "content-length: 20000000\r\n", 415),
        (HEAD.replace("POST", "PUT") + "content-length: 20000000\r\n", 405),
    ],
)
async def test_who_writes_first_and_reads_then_still_reads_the_reason(relay_between, head, status):
    async with relay_between() as setup:
        reader, writer = await connected(setup.url)
        writer.write(head.encode() + b"\r\n")
        for _ in range(40):
            writer.write(bytes(500_000))
            await writer.drain()
        answer_head, problem = await problem_of(reader)
        assert problem["status"] == status
        assert b"connection: close" in answer_head.lower()
        assert await ended(reader) == b""
        writer.close()


async def test_an_endless_body_is_dropped_for_so_long_and_no_longer(relay_between, monkeypatch):
    monkeypatch.setattr(linger, "LINGER_BYTES", 1_000_000)
    async with relay_between() as setup:
        reader, writer = await connected(setup.url)
        writer.write((HEAD.replace("ohttp", "x") + "transfer-encoding: chunked\r\n\r\n").encode())
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(write_for_ever(writer), 10)
        writer.close()
        await ended(reader)


async def write_for_ever(writer):
    while True:
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    "changes",
    [
        {"requests_per_s": 0.0},
        {"burst": 0},
        {"connections_per_address": 0},
        {"unlimited": ("somewhere",)},
        {"unlimited": ("192.0.2.1/24",)},
    ],
)
def test_limits_that_limit_nothing_are_refused(changes):
    with pytest.raises(BadConfig):
        RelayConfig("127.0.0.1", 0, (), "http://127.0.0.1:9", **changes)
