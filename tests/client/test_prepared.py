"""Encapsulations made ahead are each for one request, and only to nodes that are listed."""

import pytest

from client.prepared import EACH, PreparedStock


def nodes_of(run):
    async def scenario(client):
        return (await client.directory.current()).nodes

    return run(scenario)


def test_each_is_given_out_once(run):
    [node, *_] = nodes_of(run)
    stock = PreparedStock()
    while stock.fill([node]):
        pass
    taken = [stock.take(node) for _ in range(EACH + 2)]
    sent = [prepared.encapsulate(b"request")[0] for prepared in taken]
    assert len({encapsulated[7 : 7 + 1120] for encapsulated in sent}) == EACH + 2


def test_an_encapsulation_is_for_one_request(run):
    [node, *_] = nodes_of(run)
    prepared = PreparedStock().take(node)
    prepared.encapsulate(b"request")
    with pytest.raises(ValueError, match="one request"):
        prepared.encapsulate(b"another")


def test_nothing_is_kept_for_a_node_that_is_gone(run):
    [node, *_] = nodes_of(run)
    stock = PreparedStock()
    assert stock.fill([node])
    assert not stock.fill([])
    assert stock._ready == {}


def test_requests_use_what_was_prepared(run):
    async def scenario(client):
        await client.directory.current()
        while client.transport._prepared.fill(client.directory.known.nodes):
            pass
        before = [len(ready) for ready in client.transport._prepared._ready.values()]
        answer, _ = await client.send()
        after = [len(ready) for ready in client.transport._prepared._ready.values()]
        return answer.status, sum(before) - sum(after)

    assert run(scenario) == (200, 1)
