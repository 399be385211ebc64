"""The proxy's way to the relay, against a server that does as it is told."""

import asyncio
import contextlib
import ssl

import httpx
import pytest

from client.http1 import Http1Transport

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def run(scenario, *answers, timeout=5.0):
    """Run `scenario(client, connections)` against a server that gives the answers in turn.

    An answer is the pieces that are written, each after the one before it has gone; None ends the
    connection.
    """
    left, connections = list(answers), []

    async def serve(reader, writer):
        connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while left:
                await reader.readuntil(b"\r\n\r\n")
                for piece in left.pop(0):
                    if piece is None:
                        writer.close()
                        return
                    writer.write(piece)
                    await asyncio.sleep(0.01)
            await reader.read()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = Http1Transport(ssl.create_default_context())
        async with (
            server,
            httpx.AsyncClient(
                transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=timeout
            ) as client,
        ):
            return await scenario(client, connections)

    return asyncio.run(main())


async def get(client, _):
    return (await client.get("/")).content


def test_pieces_arrive_as_they_are_written():
    async def scenario(client, _):
        async with client.stream("GET", "/") as response:
            return [piece async for piece in response.aiter_raw()]

    pieces = [b"1\r\na\r\n", b"2\r\nbc\r\n", b"0\r\n\r\n"]
    assert run(scenario, [HEAD, *pieces]) == [b"a", b"bc"]


def test_a_connection_whose_response_was_read_whole_is_used_again():
    async def scenario(client, connections):
        contents = [await get(client, connections) for _ in range(2)]
        return contents, len(connections)

    answer = [HEAD + b"1\r\na\r\n0\r\n\r\n"]
    assert run(scenario, answer, answer) == ([b"a", b"a"], 1)


def test_a_response_that_came_whole_and_was_not_read_is_not_part_of_the_next():
    async def scenario(client, connections):
        async with client.stream("GET", "/"):
            pass  # who looks at the status only
        return await get(client, connections), len(connections)

    answers = [[HEAD + b"5\r\nfirst\r\n0\r\n\r\n"], [HEAD + b"6\r\nsecond\r\n0\r\n\r\n"]]
    assert run(scenario, *answers) == (b"second", 1)


def test_a_response_left_early_closes_its_connection():
    async def scenario(client, connections):
        async with client.stream("GET", "/") as response:
            await anext(response.aiter_raw())
        first = await get(client, connections)
        return first, len(connections)

    answers = [[HEAD + b"1\r\na\r\n", b"1\r\nb\r\n"], [HEAD + b"1\r\nc\r\n0\r\n\r\n"]]
    assert run(scenario, *answers) == (b"c", 2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([None], httpx.RemoteProtocolError),
        ([HEAD + b"5\r\nab", None], httpx.RemoteProtocolError),
        ([HEAD + b"1\r\na\r\n", None], httpx.RemoteProtocolError),
        ([b"SSH-2.0-x\r\n\r\n"], httpx.RemoteProtocolError),
        ([HEAD + b"nonsense\r\n"], httpx.RemoteProtocolError),
    ],
)
def test_what_is_no_whole_response_is_an_error(answer, error):
    with pytest.raises(error):
        run(get, answer)


@pytest.mark.parametrize("answer", [[], [HEAD + b"1\r\na\r\n"]])
def test_silence_is_a_timeout(answer):
    with pytest.raises(httpx.ReadTimeout):
        run(get, answer, timeout=0.1)


def test_nobody_there_is_a_connect_error():
    async def scenario(client, _):
        await client.get("http://127.0.0.1:1/")

    with pytest.raises(httpx.ConnectError):
        run(scenario)
