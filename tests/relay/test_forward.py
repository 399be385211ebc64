import asyncio
import contextlib
import logging

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from relay import body as relay_body
from relay import forward
from relay.addresses import Limited, Places
from relay.connection import ConnectionLimits, Streaming, connection_class
from relay.errors import WrongMediaType

pytestmark = pytest.mark.anyio

NODE = "ab" * 32


async def test_a_worker_is_sent_the_body_and_three_fields_and_nothing_else(relay_between):
    async with relay_between() as setup:
        await setup.post(
            content=b"encapsulated request",
            headers={
                "content-type": "Message/OHTTP-Chunked-Req; x=y",
                "incremental": "?1",
                "user-agent": "curl/8",
                "cookie": "a=b",
                "authorization": "Bearer key",
                "forwarded": "for=192.0.2.1",
                "x-forwarded-for": "192.0.2.1",
                "via": "1.1 somebody",
                "accept-language": "de",
                "traceparent": "00-1-2-03",
            },
        )
        (exchange,) = setup.worker.exchanges
        assert (exchange.method, exchange.target) == ("POST", "/gateway")
        assert exchange.headers == [
            ("host", setup.worker.url.removeprefix("http://")),
            ("content-type", "message/ohttp-chunked-req"),
            ("incremental", "?1"),
            ("transfer-encoding", "chunked"),
        ]
        assert exchange.body == b"encapsulated request"


async def test_incremental_is_forwarded_only_when_it_says_something(relay_between):
    async with relay_between() as setup:
        await setup.post(headers={"content-type": "message/ohttp-req", "incremental": "?0"})
        assert "incremental" not in dict(setup.worker.exchanges[0].headers)


async def test_a_client_is_sent_the_listed_fields_and_nothing_else(relay_between):
    async def script(exchange):
        headers = {
            "content-type": "message/ohttp-chunked-res",
            "incremental": "?1",
            "retry-after": "7",
            "cache-control": "public, max-age=99",
            "server": "worker/1",
            "date": "Sun, 06 Nov 1994 08:49:37 GMT",
            "set-cookie": "user=1",
            "x-node": "secret",
            "transfer-encoding": "chunked",
        }
        await exchange.answer(503, headers.items(), b"encapsulated response")

    async with relay_between(script) as setup:
        response = await setup.post()
        assert response.status_code == 503
        assert dict(response.headers) == {
            "cache-control": "no-store",
            "content-type": "message/ohttp-chunked-res",
            "incremental": "?1",
            "retry-after": "7",
            "transfer-encoding": "chunked",
        }
        assert response.content == b"encapsulated response"


async def test_odd_values_of_listed_fields_are_dropped(relay_between):
    async def script(exchange):
        headers = [("content-type", "x" * 300), ("retry-after", "tomorrow"), ("incremental", "yes")]
        await exchange.answer(422, headers)

    async with relay_between(script) as setup:
        response = await setup.post()
        assert response.status_code == 422
        assert not {"content-type", "retry-after", "incremental"} & response.headers.keys()


async def test_each_piece_is_flushed_before_the_next_one_exists(relay_between):
    received = asyncio.Queue()

    async def script(exchange):
        await exchange.start(headers=[("content-type", "message/ohttp-chunked-res")])
        for piece in (b"one", b"two", b"three"):
            await exchange.send(piece)
            assert await received.get() == piece  # the client has it while the stream is open
        await exchange.end()

    async with relay_between(script) as setup, setup.stream() as response:
        pieces = []
        async for piece in response.aiter_raw():
            pieces.append(piece)
            received.put_nowait(piece)
        assert pieces == [b"one", b"two", b"three"]


async def test_a_request_body_reaches_the_worker_piece_by_piece(relay_between):
    async with relay_between() as setup:

        async def content():
            yield b"first"
            await setup.worker.body_began.wait()  # the worker has it while the body goes on
            yield b"second"

        response = await setup.post(content=content())
        assert response.status_code == 200
        assert setup.worker.exchanges[0].body == b"firstsecond"


@pytest.mark.parametrize("pieces", [[], [b"one", b"two"]])
async def test_a_cut_upstream_is_a_cut_downstream(relay_between, pieces):
    async def script(exchange):
        await exchange.start(headers=[("content-type", "message/ohttp-chunked-res")])
        for piece in pieces:
            await exchange.send(piece)
        exchange.writer.close()

    received = []
    async with relay_between(script) as setup, setup.stream() as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            received += [piece async for piece in response.aiter_raw()]


async def test_a_worker_that_falls_silent_is_cut_off(relay_between):
    async def script(exchange):
        await exchange.start()
        await exchange.send(b"one")
        await exchange.gone()

    async with relay_between(script, worker_timeout_s=0.05) as setup, setup.stream() as response:
        with pytest.raises(httpx.RemoteProtocolError):
            _ = [piece async for piece in response.aiter_raw()]


async def test_a_client_that_hangs_up_closes_the_upstream_at_once(relay_between):
    closed = asyncio.Event()

    async def script(exchange):
        await exchange.start()
        await exchange.send(b"one")
        await exchange.gone()
        closed.set()

    async with relay_between(script) as setup:
        async with setup.stream() as response:
            assert await anext(response.aiter_raw()) == b"one"
        await closed.wait()


async def test_a_client_that_hangs_up_before_the_answer_closes_the_upstream_too(relay_between):
    asked, closed = asyncio.Event(), asyncio.Event()

    async def script(exchange):
        asked.set()
        await exchange.gone()
        closed.set()

    async with relay_between(script) as setup:
        request = asyncio.create_task(setup.post())
        await asked.wait()
        request.cancel()
        await closed.wait()


async def raw_request(url, head, body=b""):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"POST /{NODE} HTTP/1.1", "host: relay", "content-type: message/ohttp-req", *head]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    return reader, writer


async def test_a_client_that_hangs_up_in_its_body_cuts_the_request_off(relay_between):
    async with relay_between() as setup:
        _, writer = await raw_request(setup.url, ["content-length: 100"], b"half")
        writer.close()
        await setup.worker.cut_off.wait()
        assert setup.worker.exchanges == []


async def test_a_slow_body_is_a_408(relay_between):
    async with relay_between(body_timeout_s=0.05) as setup:
        reader, writer = await raw_request(setup.url, ["content-length: 100"], b"half")
        response = await reader.read()
        writer.close()
        assert response.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in response
        await setup.worker.cut_off.wait()
        assert setup.worker.exchanges == []


async def test_a_body_declared_too_large_is_a_413_before_it_is_read(relay_between):
    async with relay_between() as setup:
        length = relay_body.MAX_BODY + 1
        reader, writer = await raw_request(setup.url, [f"content-length: {length}"])
        response = await reader.read()
        writer.close()
        assert response.startswith(b"HTTP/1.1 413 ")
        assert setup.worker.exchanges == []


async def test_a_body_that_grows_too_large_is_a_413(relay_between, monkeypatch):
    monkeypatch.setattr(relay_body, "MAX_BODY", 10)
    async with relay_between() as setup:
        reader, writer = await raw_request(
            setup.url, ["transfer-encoding: chunked"], b"8\r\n01234567\r\n8\r\n01234567\r\n"
        )
        response = await reader.read()
        writer.close()
        assert response.startswith(b"HTTP/1.1 413 ")
        assert setup.worker.exchanges == []


async def test_the_largest_padded_request_passes(relay_between):
    async with relay_between() as setup:
        content = bytes(16 * 1024 * 1024 + 1127 + 20 * 1025)
        assert (await setup.post(content=content)).status_code == 200
        assert len(setup.worker.exchanges[0].body) == len(content)


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/json"}, {"content-type": "message/ohttp-res"}]
)
async def test_another_media_type_is_a_415(relay_between, headers):
    async with relay_between() as setup:
        response = await setup.post(headers=headers)
        assert response.status_code == 415
        assert setup.worker.exchanges == []


@pytest.mark.parametrize("node", ["cd" * 32, "AB" * 32, "ab" * 31, "ab" * 33, "relay", "%2e%2e"])
async def test_an_unknown_node_is_a_404(relay_between, node):
    async with relay_between() as setup:
        response = await setup.post(node=node)
        assert response.status_code == 404
        assert setup.worker.exchanges == []


async def test_a_refusal_is_the_same_problem_document_for_everybody(relay_between):
    async with relay_between() as setup:
        answers = [
            await setup.post(node="cd" * 32, headers={"content-type": "message/ohttp-req", **more})
            for more in ({}, {"user-agent": "curl/8", "cookie": "a=b"})
        ]
        first, second = [(answer.headers, answer.json()) for answer in answers]
        assert first == second
        assert first[1] == {"type": "about:blank", "title": "Not Found", "status": 404}
        assert first[0]["content-type"] == "application/problem+json"
        assert first[0]["cache-control"] == "no-store"
        assert not {"server", "date"} & first[0].keys()


async def test_a_worker_that_hangs_up_without_an_answer_is_a_503_and_not_asked_again(relay_between):
    async def script(exchange):
        exchange.writer.close()

    async with relay_between(script) as setup:
        response = await setup.post()
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert len(setup.worker.exchanges) == 1


async def test_a_worker_that_stopped_listening_is_a_503_with_retry_after(fakes):
    fake_worker, running_relay, config_for = fakes
    worker = fake_worker()
    async with contextlib.AsyncExitStack() as relay:
        async with worker.running():
            url = await relay.enter_async_context(running_relay(config_for(worker)))
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{url}/{NODE}", content=b"x", headers={"content-type": "message/ohttp-req"}
            )
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"


async def test_a_worker_that_does_not_answer_in_time_is_a_504(relay_between):
    async with relay_between(lambda each: each.gone(), worker_timeout_s=0.05) as setup:
        response = await setup.post()
        assert response.status_code == 504
        assert len(setup.worker.exchanges) == 1


async def test_no_log_line_knows_the_client_the_node_or_a_field(relay_between, caplog):
    async def script(exchange):
        await exchange.start()
        exchange.writer.close()

    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error", "relay")]
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "httpx")  # this test's own client
    async with relay_between(script) as setup:
        for logger in loggers:
            logger.setLevel(logging.INFO)
            logger.addHandler(caplog.handler)
        try:
            with pytest.raises(httpx.RemoteProtocolError):
                await setup.post(
                    headers={"content-type": "message/ohttp-req", "x-canary": "canary"}
                )
            await setup.post(node="canary")
            await setup.post(headers={"content-type": "canary"})
            reader, writer = await raw_request(setup.url, ["bad header: canary"])
            await reader.read()
            writer.close()
        finally:
            for logger in loggers:
                logger.removeHandler(caplog.handler)
    assert caplog.records  # the cut response is logged, without detail
    for record in caplog.records:
        text = record.getMessage() + str(record.exc_text)
        for secret in ("127.0.0.1", NODE, "canary", "ohttp"):
            assert secret not in text


async def test_a_client_that_reads_slowly_holds_up_the_worker():
    class Source:
        def __init__(self):
            self.calls = []

        def pause(self):
            self.calls.append("pause")

        def resume(self):
            self.calls.append("resume")

    limits = ConnectionLimits(60, 60, Limited(()), Places(1))
    config = uvicorn.Config(print, http=connection_class(limits), log_config=None)
    connection = connection_class(limits)(config, ServerState(), {})
    connection.connection_made(asyncio.Transport())
    source, streaming = Source(), Streaming(connection, "1.1")
    streaming.follow(source)
    connection.pause_writing()
    connection.resume_writing()
    streaming.follow(None)
    connection.pause_writing()
    connection.connection_lost(ConnectionError())
    assert source.calls == ["pause", "resume"]


def test_forwarded_headers_are_the_whole_list():
    headers = [(b"content-type", b"message/ohttp-req"), (b"incremental", b"?1"), (b"x", b"y")]
    assert forward.forwarded_headers(headers) == {
        "content-type": "message/ohttp-req",
        "incremental": "?1",
    }
    with pytest.raises(WrongMediaType):
        forward.forwarded_headers([])
