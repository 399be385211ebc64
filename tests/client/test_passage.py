"""What is noted of a request's way: draws, sizes, tokens, the receipt; and never what was said."""

import json

import pytest
from simulator import Node, complete, refuse

from client.errors import RelayError, VerificationFailed
from client.passage import SHOWN, Passage

BODY = b'{"model":"tiny","messages":[{"role":"user","content":"canary-1187"}]}'


async def send(client, passage):
    answer = await client.transport.send(
        b"/v1/chat/completions", BODY, model="tiny", on_verdict=passage.judge, passage=passage
    )
    return b"".join([payload async for payload in answer.payloads])


def test_a_way_is_noted_from_draw_to_receipt(world, run):
    passage = Passage()
    run(lambda client: send(client, passage))
    noted = passage.to_json()
    [draw], [carriage] = noted["draws"], noted["relay"]
    assert (draw["node"], draw["out_of"], draw["share"]) == (world.nodes[0].id, 1, 1.0)
    assert not draw["kept"]
    assert "simulated" in draw["weaknesses"]
    assert carriage["path"] == f"/{world.nodes[0].id}"
    assert carriage["sent"] > 4096
    assert carriage["received"] > 0 < carriage["pieces"]
    assert len(carriage["beginning"]) == 2 * SHOWN
    assert noted["outcome"] == "pass"
    assert (noted["receipt"]["prompt_tokens"], noted["receipt"]["completion_tokens"]) == (3, 2)
    assert "canary" not in json.dumps(noted)


def test_a_busy_node_is_a_draw_more(world, run):
    world.nodes.append(Node("other"))
    for node in world.nodes:
        node.answers.append(refuse(503, "busy"))
    passage = Passage()
    run(lambda client: send(client, passage))
    assert len(passage.draws) == len(passage.carried) > 1
    assert {draw.out_of for draw in passage.draws} == {2}


def test_a_kept_node_is_not_called_drawn(world, run):
    first, second = Passage(), Passage()

    async def twice(client):
        world.relay_status = 503
        with pytest.raises(RelayError):
            await send(client, first)
        world.relay_status = 200
        await send(client, second)

    run(twice)
    assert [draw.kept for draw in (*first.draws, *second.draws)] == [False, True]
    assert first.carried[0].received == 0, "what fails in clear brings no ciphertext"
    assert first.to_json()["outcome"] is None


def test_a_receipt_that_does_not_hold_is_not_shown(world, run):
    world.nodes[0].answers.append(complete(change=lambda _: {"model_digest": bytes(32)}))
    passage = Passage()

    async def fails(client):
        with pytest.raises(VerificationFailed):
            await send(client, passage)

    run(fails)
    assert passage.to_json()["outcome"] == "fail"
    assert passage.to_json()["receipt"] is None
