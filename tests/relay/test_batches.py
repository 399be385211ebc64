"""A relay that batches: nothing crosses but at ticks, in random order, and nothing is lost."""

import asyncio

import pytest

from relay.batches import MAX_HELD, Batches, Held

pytestmark = pytest.mark.anyio

PERIOD_S = 0.1


class Source:
    def __init__(self):
        self.paused = False

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False


async def test_whoever_waits_goes_on_at_one_tick_in_another_order():
    batches, order = Batches(PERIOD_S, shuffle=list.reverse), []

    async def cross(number):
        await asyncio.sleep(number * 0.01)
        await batches.turn()
        order.append((number, asyncio.get_running_loop().time()))

    loop = asyncio.get_running_loop()
    await asyncio.sleep(PERIOD_S - loop.time() % PERIOD_S + 0.01)  # just behind a tick
    await asyncio.gather(*(cross(number) for number in range(4)))
    assert [number for number, _ in order] == [3, 2, 1, 0]
    assert max(at for _, at in order) - min(at for _, at in order) < PERIOD_S / 2


async def test_the_order_is_random():
    batches, orders = Batches(0.001), set()
    for _ in range(30):
        order = []
        await asyncio.gather(*(self_named(batches, order, name) for name in "abc"))
        orders.add("".join(order))
    assert len(orders) > 2


async def self_named(batches, order, name):
    await batches.turn()
    order.append(name)


async def test_pieces_are_written_as_one_and_the_worker_is_held_up():
    batches, written, source = Batches(PERIOD_S), [], Source()
    with Held(batches, written.append, source) as held:
        held.write(b"a")
        held.write(bytes(MAX_HELD))
        assert source.paused
        held.pause()
        held.resume()
        assert source.paused, "too much is held, whatever the client reads"
        assert not written
        await batches.turn()
        assert written == [b"a" + bytes(MAX_HELD)]
        assert not source.paused


async def test_a_client_that_does_not_read_holds_the_worker_up():
    batches, source = Batches(0.001), Source()
    with Held(batches, lambda _: None, source) as held:
        held.pause()
        held.write(b"a")
        await batches.turn()
        assert source.paused


async def test_nothing_is_written_of_an_answer_that_was_broken_off():
    batches, written, source = Batches(0.001), [], Source()
    with Held(batches, written.append, source) as held:
        held.write(b"a")
    source.pause()
    await batches.turn()
    assert not written
    assert source.paused, "the connection may be another answer's by now"


async def test_an_answer_comes_whole_and_at_few_ticks(relay_between):
    async def streams(exchange):
        await exchange.start(headers=[("content-type", "message/ohttp-chunked-res")])
        for _ in range(12):
            await exchange.send(b"event")
            await asyncio.sleep(0.02)
        await exchange.end()

    async with relay_between(streams, batch_s=PERIOD_S) as setup, setup.stream() as response:
        arrived = [piece async for piece in response.aiter_raw()]
    assert b"".join(arrived) == b"event" * 12
    assert len(arrived) <= 6


async def test_an_answer_whose_client_went_before_its_tick_is_not_part_of_the_next(relay_between):
    numbers, answered = iter((b"of the first", b"of the second")), asyncio.Event()

    async def script(exchange):
        await exchange.answer(200, [("content-type", "message/ohttp-chunked-res")], next(numbers))
        answered.set()

    async with relay_between(script, batch_s=0.2) as setup:
        first = asyncio.create_task(setup.post())
        await answered.wait()
        await asyncio.sleep(0.02)
        first.cancel()
        await asyncio.wait([first])
        assert (await setup.post()).content == b"of the second"


async def test_a_response_that_breaks_off_is_broken_off(relay_between):
    async def breaks(exchange):
        await exchange.start(headers=[("content-type", "message/ohttp-chunked-res")])
        await exchange.send(b"event")
        await asyncio.sleep(0.02)
        exchange.writer.close()

    async with relay_between(breaks, batch_s=0.01) as setup:
        with pytest.raises(Exception, match=r"closed|complete"):
            await setup.post()
