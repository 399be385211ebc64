import asyncio
import json

import httpx
import pytest

from relay import nodes
from relay.errors import UnknownNode, Unreachable
from relay.nodes import NodeDirectory
from relay.upstream import Document

pytestmark = pytest.mark.anyio

OLD, NEW, OTHER = ("01" * 32, "02" * 32, "03" * 32)


class Workers:
    """The health documents of workers, and how often each was asked for."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.was_asked = asyncio.Event()

    async def get(self, url, *, limit, timeout_s):
        assert limit < 100_000
        assert timeout_s < 10
        self.asked.append(url)
        self.was_asked.set()
        answer = self.answers[url.removesuffix("/health")]
        if answer is None:
            raise Unreachable
        body = answer if isinstance(answer, bytes) else json.dumps({"nodes": answer}).encode()
        return Document(200, httpx.Headers(), body)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


async def directory_of(clock=None, **answers):
    workers = Workers(**answers)
    directory = NodeDirectory(tuple(answers), workers, clock or Clock())
    await directory.refresh()
    return workers, directory


async def test_a_node_is_found_at_its_worker():
    workers, directory = await directory_of(a=[OLD, NEW], b=[OTHER])
    assert [await directory.find(node) for node in (OLD, NEW, OTHER)] == ["a", "a", "b"]
    assert len(directory) == 3
    assert workers.asked == ["a/health", "b/health"]


async def test_a_new_node_is_found_at_once_by_asking():
    clock = Clock()
    workers, directory = await directory_of(clock, a=[OLD])
    workers.answers["a"] = [OLD, NEW]
    clock.now += 1
    assert await directory.find(NEW) == "a"


async def test_a_node_that_left_is_unknown():
    workers, directory = await directory_of(a=[OLD])
    workers.answers["a"] = [NEW]
    await directory.refresh()
    with pytest.raises(UnknownNode):
        await directory.find(OLD)


async def test_unknown_nodes_do_not_make_the_relay_ask_without_end():
    clock = Clock()
    workers, directory = await directory_of(clock, a=[OLD])
    for _ in range(10):
        with pytest.raises(UnknownNode):
            await directory.find(OTHER)
    assert len(workers.asked) == 1
    clock.now += 1
    for _ in range(10):
        with pytest.raises(UnknownNode):
            await directory.find(OTHER)
    assert len(workers.asked) == 2


async def test_unknown_nodes_at_the_same_time_ask_once():
    clock = Clock()
    workers, directory = await directory_of(clock, a=[OLD])
    clock.now += 1
    workers.answers["a"] = [NEW]
    assert await asyncio.gather(*(directory.find(NEW) for _ in range(10))) == ["a"] * 10
    assert len(workers.asked) == 2


async def test_a_worker_that_does_not_answer_keeps_its_nodes():
    workers, directory = await directory_of(a=[OLD], b=[OTHER])
    workers.answers["a"] = None
    await directory.refresh()
    assert await directory.find(OLD) == "a"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"status": "ok"}',
        b'{"nodes": null}',
        b'{"nodes": [1]}',
        b'{"nodes": ["AB"]}',
        b'{"nodes": "%s"}' % (b"a" * 64),
        b'{"nodes": {"%s": 1}}' % (b"a" * 64),
        b"\xff",
        b"[" * 100_000,
        json.dumps({"nodes": [f"{n:064x}" for n in range(nodes.MAX_NODES + 1)]}).encode(),
    ],
)
async def test_what_is_no_health_document_changes_nothing(body):
    workers, directory = await directory_of(a=[OLD])
    workers.answers["a"] = body
    await directory.refresh()
    assert await directory.find(OLD) == "a"
    assert len(directory) == 1


async def test_polling_asks_again_and_again():
    workers, directory = await directory_of(a=[OLD], b=None)
    workers.answers["a"] = [NEW]
    polling = asyncio.create_task(directory.poll(0))
    for _ in range(2):
        workers.was_asked.clear()
        await workers.was_asked.wait()
    polling.cancel()
    assert await directory.find(NEW) == "a"


async def test_rotation_is_seen_by_the_running_relay(fakes):
    fake_worker, running_relay, config_for = fakes
    worker = fake_worker([OLD])
    polled = asyncio.Event()

    async def health(exchange):
        await answer_health(exchange)
        polled.set()

    answer_health, worker.scripts["/health"] = worker.scripts["/health"], health
    async with (
        worker.running(),
        running_relay(config_for(worker, poll_interval_s=0.01)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        worker.nodes = [NEW]
        for _ in range(3):  # the answer to the second has been read when the third comes
            polled.clear()
            await polled.wait()
        headers = {"content-type": "message/ohttp-req"}
        assert (await client.post(f"/{OLD}", headers=headers)).status_code == 404
        assert (await client.post(f"/{NEW}", headers=headers)).status_code == 200
