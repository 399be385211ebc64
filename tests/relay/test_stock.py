"""Clients that know Oblivious HTTP only: keys from the well-known place, routing by one byte."""

import asyncio
import contextlib
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import stock
from relay.errors import UnknownKey, Unreachable
from relay.stock import GATEWAY_PATH, KeyDirectory, split_collection
from relay.upstream import Document

REQUEST_TYPE = {"content-type": "message/ohttp-req"}
CHUNKED_TYPE = {"content-type": "message/ohttp-chunked-req", "incremental": "?1"}


def config(key_id, rest=b"opaque"):
    return (1 + len(rest)).to_bytes(2, "big") + bytes([key_id]) + rest


class Workers:
    """What workers answer at /ohttp-keys: bytes, or None for nothing at all."""

    def __init__(self, **answers):
        self.answers = answers

    async def get(self, url, *, limit, timeout_s):
        assert limit <= 1 << 16
        assert timeout_s < 10
        answer = self.answers[url.removesuffix("/ohttp-keys")]
        if answer is None:
            raise Unreachable
        return Document(200 if answer else 503, httpx.Headers(), answer)


async def directory_of(**answers):
    workers = Workers(**answers)
    directory = KeyDirectory(tuple(answers), workers)
    await directory.refresh()
    return workers, directory


@pytest.mark.anyio
async def test_the_collection_is_every_worker_s_configs_unread_and_in_order():
    a, b = config(1) + config(0, b""), config(16, b"x" * 1300)
    _, directory = await directory_of(a=a, b=b)
    assert directory.collection() == a + b
    assert [directory.find(bytes([key_id])) for key_id in (0, 1, 16)] == ["a", "a", "b"]


@pytest.mark.anyio
async def test_a_key_id_leads_to_one_worker_only():
    """Two workers with one id: the request can go one way only, so only one config is offered."""
    _, directory = await directory_of(a=config(1), b=config(1, b"other") + config(2))
    assert directory.collection() == config(1) + config(2)
    assert directory.find(b"\x01") == "a"


@pytest.mark.anyio
async def test_keys_that_are_no_longer_offered_still_lead_to_their_worker():
    workers, directory = await directory_of(a=config(1), b=config(16))
    workers.answers["a"] = config(2)
    await directory.refresh()
    assert directory.collection() == config(2) + config(16)
    assert directory.find(b"\x01") == "a"


@pytest.mark.anyio
@pytest.mark.parametrize("silence", [None, b"", b"\0", b"\0\0", config(3) * 2, config(3)[:-1]])
async def test_a_worker_that_offers_nothing_usable_is_left_out(silence):
    workers, directory = await directory_of(a=config(1), b=config(16))
    workers.answers["a"] = silence
    await directory.refresh()
    assert directory.collection() == config(16)
    assert directory.find(b"\x01") == "a"


@pytest.mark.anyio
async def test_without_keys_there_is_no_collection_and_no_way():
    _, directory = await directory_of(a=None)
    with pytest.raises(Unreachable):
        directory.collection()
    for beginning in (b"", b"\x01"):
        with pytest.raises(UnknownKey):
            directory.find(beginning)


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=40), max_size=6), st.data())
def test_a_collection_is_cut_exactly_or_not_at_all(rests, data):
    configs = {key_id: config(key_id, rest) for key_id, rest in rests.items()}
    whole = b"".join(configs.values())
    assert split_collection(whole) == configs
    ends = {0}
    for each in configs.values():
        ends.add(max(ends) + len(each))
    cut = data.draw(st.integers(0, len(whole)))
    found = split_collection(whole[:cut])
    assert (b"".join(found.values()) == whole[:cut]) if cut in ends else not found


@given(st.binary(max_size=60))
def test_any_bytes_are_a_collection_or_none(data):
    found = split_collection(data)
    assert not found or b"".join(found.values()) == data


@contextlib.asynccontextmanager
async def stock_relay(fakes, **changes):
    """A relay of two workers with the key ids 1 and 16, and a client."""
    fake_worker, running_relay, config_for = fakes
    workers = [fake_worker(nodes=()) for _ in range(2)]
    for worker, key_id in zip(workers, (1, 16), strict=True):
        worker.scripts["/ohttp-keys"] = offering(key_id)
    async with (
        workers[0].running(),
        workers[1].running(),
        running_relay(config_for(*workers, **({"stock_ohttp": True} | changes))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        for worker in workers:
            worker.exchanges.clear()  # who asked for the keys
        yield client, workers


def offering(key_id):
    async def script(exchange):
        await exchange.answer(200, [("content-type", stock.KEYS_TYPE)], config(key_id))

    return script


@pytest.mark.anyio
async def test_the_keys_are_where_rfc_9540_says(fakes):
    async with stock_relay(fakes) as (client, _):
        answer = await client.get(GATEWAY_PATH, headers={"accept": "application/ohttp-keys"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/ohttp-keys"
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert answer.content == config(1) + config(16)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/ohttp", GATEWAY_PATH])
@pytest.mark.parametrize("headers", [REQUEST_TYPE, CHUNKED_TYPE])
async def test_a_request_goes_where_its_first_byte_says_with_the_fields_of_any_other(
    fakes, path, headers
):
    async with stock_relay(fakes) as (client, workers):
        for key_id in (16, 1, 16):
            await client.post(path, content=bytes([key_id]) + b"rest", headers=headers)
    assert [len(worker.exchanges) for worker in workers] == [1, 2]
    for worker, key_id in zip(workers, (1, 16), strict=True):
        for exchange in worker.exchanges:
            assert (exchange.target, exchange.body) == ("/gateway", bytes([key_id]) + b"rest")
            names = {name for name, _ in exchange.headers}
            assert names == {"host", "transfer-encoding"} | headers.keys()


@pytest.mark.anyio
async def test_a_body_that_comes_piece_by_piece_goes_on_whole(fakes):
    async def pieces():
        for piece in (b"", b"\x10", b"re", b"st"):
            yield piece
            await asyncio.sleep(0)

    async with stock_relay(fakes) as (client, workers):
        await client.post("/ohttp", content=pieces(), headers=CHUNKED_TYPE)
    assert [exchange.body for exchange in workers[1].exchanges] == [b"\x10rest"]


@pytest.mark.anyio
async def test_a_key_that_nobody_has_is_the_problem_that_makes_clients_renew_theirs(fakes):
    async with stock_relay(fakes) as (client, workers):
        answer = await client.post("/ohttp", content=b"\x05rest", headers=REQUEST_TYPE)
        wrong_type = await client.post("/ohttp", content=b"\x01rest")
        wrong_method = await client.put("/ohttp", content=b"\x01rest", headers=REQUEST_TYPE)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    kind = "https://iana.org/assignments/http-problem-types#ohttp-key"
    assert json.loads(answer.content)["type"] == kind
    assert (wrong_type.status_code, wrong_method.status_code) == (415, 405)
    assert not any(worker.exchanges for worker in workers)


@pytest.mark.anyio
async def test_a_body_of_nothing_is_refused_by_a_worker_like_any_that_is_too_short(fakes):
    async with stock_relay(fakes) as (client, workers):
        await client.post("/ohttp", content=b"", headers=REQUEST_TYPE)
    assert [exchange.body for worker in workers for exchange in worker.exchanges] == [b""]


@pytest.mark.anyio
async def test_a_body_that_never_begins_is_given_up(fakes):
    async def nothing():
        await asyncio.sleep(5)
        yield b""

    async with stock_relay(fakes, body_timeout_s=0.2) as (client, _):
        answer = await client.post("/ohttp", content=nothing(), headers=REQUEST_TYPE)
    assert answer.status_code == 408


@pytest.mark.anyio
async def test_without_the_flag_there_is_nothing_of_it(fakes):
    async with stock_relay(fakes, stock_ohttp=False) as (client, workers):
        answers = [
            await client.get(GATEWAY_PATH),
            await client.post(GATEWAY_PATH, content=b"\x01rest", headers=REQUEST_TYPE),
            await client.post("/ohttp", content=b"\x01rest", headers=REQUEST_TYPE),
        ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert not any(worker.exchanges for worker in workers)
