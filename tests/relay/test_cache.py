import asyncio

import httpx
import pytest

from relay import cache as relay_cache
from relay.cache import LogCache
from relay.errors import TimedOut, UnknownPath, Unreachable
from relay.upstream import Document

pytestmark = pytest.mark.anyio


class Log:
    """A log that answers from a dictionary when it is let, and counts."""

    def __init__(self, cache_control="max-age=10", **headers):
        self.headers = {"cache-control": cache_control, "content-type": "text/plain", **headers}
        self.status = 200
        self.body = b"document"
        self.fetched = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get(self, url, **_):
        self.fetched.append(url)
        self.asked.set()
        await self.may_answer.wait()
        if self.status == 0:
            raise Unreachable
        return Document(self.status, httpx.Headers(self.headers), self.body)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def cache_of(log, clock=None):
    return LogCache("http://log", log, clock or Clock())


async def test_a_document_is_fetched_once_while_it_is_fresh():
    log, clock = Log(), Clock()
    cache = cache_of(log, clock)
    entry, seconds = await cache.get("/checkpoint")
    assert (entry.body, entry.content_type, seconds) == (b"document", "text/plain", 10)
    clock.now += 9.5
    assert (await cache.get("/checkpoint"))[1] == 0
    assert log.fetched == ["http://log/checkpoint"]


async def test_a_document_is_never_served_beyond_its_age():
    log, clock = Log(), Clock()
    cache = cache_of(log, clock)
    await cache.get("/checkpoint")
    clock.now += 10
    log.body = b"newer"
    assert (await cache.get("/checkpoint"))[0].body == b"newer"
    clock.now += 10
    log.status = 0
    with pytest.raises(Unreachable):
        await cache.get("/checkpoint")


@pytest.mark.parametrize(
    ("cache_control", "age", "seconds"),
    [
        ("max-age=31536000, immutable", "", relay_cache.MAX_AGE_S),
        ("public,max-age=5", "", 5),
        ("max-age=30", "25", 5),
        ("max-age=30", "40", 0),
        ("max-age=30", "9" * 5000, 30),
        ("Max-Age=7", "", 7),
        ("", "", 0),
        ("no-store, max-age=5", "", 0),
        ("no-cache, max-age=5", "", 0),
        ("private, max-age=5", "", 0),
        ("s-max-age=5", "", 0),
        ("max-age=-5", "", 0),
    ],
)
async def test_the_log_decides_how_long_up_to_a_minute(cache_control, age, seconds):
    log = Log(cache_control, age=age)
    cache = cache_of(log)
    assert (await cache.get("/nodes"))[1] == seconds
    await cache.get("/nodes")
    assert len(log.fetched) == (1 if seconds else 2)


async def test_the_time_of_the_fetch_counts_as_age():
    log, clock = Log(), Clock()
    log.may_answer.clear()
    asking = asyncio.create_task(cache_of(log, clock).get("/nodes"))
    await log.asked.wait()
    clock.now += 4
    log.may_answer.set()
    assert (await asking)[1] == 6


async def test_clients_at_the_same_time_share_one_fetch_even_when_one_leaves():
    log = Log()
    log.may_answer.clear()
    cache = cache_of(log)
    asking = [asyncio.create_task(cache.get("/nodes")) for _ in range(5)]
    await log.asked.wait()
    asking.pop(0).cancel()
    log.may_answer.set()
    assert {entry.body for entry, _ in await asyncio.gather(*asking)} == {b"document"}
    assert len(log.fetched) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(404, UnknownPath), (500, Unreachable), (0, Unreachable)]
)
async def test_failures_are_not_kept(status, error):
    log = Log()
    cache = cache_of(log)
    log.status = status
    with pytest.raises(error):
        await cache.get("/tile/0/000")
    log.status = 200
    assert (await cache.get("/tile/0/000"))[0].body == b"document"


async def test_a_log_that_hangs_is_a_timeout(monkeypatch):
    monkeypatch.setattr(relay_cache, "_FETCH_TIMEOUT_S", 0.01)
    log = Log()
    log.may_answer.clear()
    with pytest.raises(TimedOut):
        await cache_of(log).get("/nodes")


async def test_memory_is_bounded_and_the_longest_unused_goes_first(monkeypatch):
    monkeypatch.setattr(relay_cache, "MAX_CACHE", 20)
    log = Log()
    cache = cache_of(log)
    for path in ("/checkpoint", "/nodes", "/checkpoint", "/tile/0/000"):
        await cache.get(path)
    assert cache._size == 16
    assert list(cache._entries) == ["/checkpoint", "/tile/0/000"]
    log.body = b"longer than all of it"
    await cache.get("/nodes")
    assert cache._size == 0


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/000",
        "/tile/entries/x001/234.p/7",
        "/tile/63/x001/x002/003",
    ],
)
async def test_documents_of_a_log_are_fetched(path):
    log = Log()
    await cache_of(log).get(path)
    assert log.fetched == ["http://log" + path]


@pytest.mark.parametrize(
    "path",
    [
        "/tile/",
        "/tile/64/000",
        "/tile/0/0",
        "/tile/0/../../add",
        "/tile/0/000.p/",
        "/tile/0/000\n",
        "/add",
        "/",
        "/checkpoint/",
        "/nodes?x",
    ],
)
async def test_nothing_else_is(path):
    log = Log()
    with pytest.raises(UnknownPath):
        await cache_of(log).get(path)
    assert log.fetched == []


async def test_the_log_sees_the_relay_and_not_the_client(fakes):
    fake_worker, running_relay, config_for = fakes

    async def nodes_document(exchange):
        headers = [("content-type", "application/json"), ("cache-control", "max-age=5"), ("x", "y")]
        await exchange.answer(200, headers, b"{}")

    log = fake_worker()
    log.scripts["/nodes"] = nodes_document
    async with (
        log.running(),
        running_relay(config_for(log=log)) as url,
        httpx.AsyncClient(headers={"cookie": "a=b"}) as client,
    ):
        answers = [await client.get(f"{url}/nodes?client={n}") for n in range(3)]
        missing = await client.get(f"{url}/tile/0/000")
        posted = await client.post(f"{url}/checkpoint")
    assert [answer.content for answer in answers] == [b"{}"] * 3
    assert answers[0].headers["content-type"] == "application/json"
    assert answers[0].headers["cache-control"].startswith("public, max-age=")
    assert "x" not in answers[0].headers
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert posted.status_code == 404
    assert [exchange.target for exchange in log.exchanges] == ["/nodes", "/tile/0/000"]
    host = log.url.removeprefix("http://")
    assert log.exchanges[0].headers == [("host", host)]


async def test_a_log_out_of_reach_is_a_503(fakes):
    _, running_relay, config_for = fakes
    async with running_relay(config_for()) as url, httpx.AsyncClient() as client:
        response = await client.get(f"{url}/checkpoint")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
