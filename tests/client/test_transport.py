"""The client against a node, a relay and a log that can lie: each lie has a named error."""

import base64
import json

import pytest
from simulator import EVENTS, Node, Sealed, complete, refuse, unverified, unverified_later

from attestation.verdict import Outcome
from client.errors import RelayError, ResponseCut, ResponseForged, VerificationFailed
from wire import bhttp, inner, padding
from wire.hpke import Kem
from wire.receipt import Verification

STREAM = b'{"messages":[],"model":"tiny","stream":true}'


def test_a_body_comes_back_verified(run):
    async def scenario(client):
        _, [payload] = await client.send()
        return client, json.loads(payload)

    client, completion = run(scenario)
    assert completion["choices"][0]["message"]["content"] == "sotto"
    attestation = completion["attestation"]
    assert base64.b64decode(attestation["quote"])
    [verdict] = client.verdicts
    assert verdict.outcome is Outcome.PASS
    assert attestation["verification"] == [step.to_json() for step in verdict.steps]
    assert len(client.wallet) == 15


def test_a_stream_comes_back_event_by_event_and_its_end_only_when_verified(run):
    async def scenario(client):
        _, payloads = await client.send(STREAM)
        return payloads

    first, last, done = run(scenario)
    assert first == EVENTS[0]
    assert json.loads(last)["attestation"]["receipt"]
    assert done == b"[DONE]"


def test_every_request_has_the_same_shape(run, world):
    """Key id, suite, length class, headers: nothing differs between two users' requests."""

    async def scenario(client):
        await client.send()
        await client.send(b'{"model":"tiny","messages":[{"role":"user","content":"longer"}]}')

    run(scenario)
    first, second = world.nodes[0].seen
    assert [name for name, _ in headers(first)] == [name for name, _ in headers(second)]
    names = {b"content-type", b"date", b"authorization", b"sottovoce-blinded"}
    assert {name for name, _ in headers(first)} == names
    assert len(first.request.blinded.messages) == len(first.request.tokens) == 1
    assert first.request.blinded != second.request.blinded
    assert first.request.date % 60 == 0
    assert first.request.tokens[0] != second.request.tokens[0]


def headers(opened):
    return bhttp.decode_request(opened.raw).headers


FORGED_CLAIMS = {
    "key_document": bytes(32),
    "request_hash": bytes(32),
    "response_hash": bytes(32),
    "model_digest": bytes(32),
    "prompt_tokens": 4,
    "completion_tokens": 1,
    "issued_at": 60,
}


@pytest.mark.parametrize("body", [b'{"model":"tiny"}', STREAM], ids=["body", "stream"])
@pytest.mark.parametrize("claim", FORGED_CLAIMS)
def test_a_receipt_with_a_wrong_claim_is_refused(run, world, claim, body):
    world.nodes[0].answers.append(complete(change=lambda _: {claim: FORGED_CLAIMS[claim]}))

    async def scenario(client):
        with pytest.raises(VerificationFailed) as failed:
            await client.send(body)
        return client, failed.value

    client, error = run(scenario)
    assert error.verdict.outcome is Outcome.FAIL
    assert client.verdicts == [error.verdict]


def test_a_receipt_of_another_key_is_refused(run, world):
    def by_another(node, opened):
        opened_by = node.name
        node.name = "stranger"
        try:
            yield from complete()(node, opened)
        finally:
            node.name = opened_by

    world.nodes[0].answers.append(by_another)
    assert failure(run) is VerificationFailed


def test_a_receipt_that_claims_more_than_was_checked_is_still_only_the_nodes_word(run, world):
    """More than the policy demands is accepted; less than the node's own policy is not."""
    more = Verification("audit", 9, bytes(32))
    world.nodes[0].answers.append(complete(change=lambda _: {"verification": more}))

    async def scenario(client):
        await client.send()
        return client.verdicts[0].outcome

    assert run(scenario) is Outcome.PASS


def failure(run, body=b'{"model":"tiny"}'):
    async def scenario(client):
        with pytest.raises(Exception) as failed:  # noqa: PT011 - the type is what is returned
            await client.send(body)
        return type(failed.value)

    return run(scenario)


def test_a_missing_receipt_is_refused(run, world):
    world.nodes[0].answers.append(complete(attest=False))
    assert failure(run) is VerificationFailed


@pytest.mark.parametrize("position", range(4))
def test_any_changed_chunk_is_refused(run, world, position):
    parts = iter(range(100))

    def flip(part):
        if next(parts) != position:
            return part
        return part[:-1] + bytes([part[-1] ^ 1])

    world.spoil_response = flip
    assert failure(run, STREAM) in {ResponseForged, ResponseCut}


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_stream_cut_anywhere_is_an_error(run, world, cut):
    world.nodes[0].answers.append(short(cut))
    assert failure(run, STREAM) is ResponseCut


def short(count):
    """End the response cleanly (as HTTP sees it) after `count` parts: the relay hides the cut."""

    def answer(node, opened):
        for index, part in enumerate(complete()(node, opened)):
            if index >= count:
                return
            yield part

    return answer


def test_a_reordered_stream_is_refused(run, world):
    def swapped(node, opened):
        head, first, second, *rest = complete()(node, opened)
        yield from (head, second, first, *rest)

    world.nodes[0].answers.append(swapped)
    assert failure(run, STREAM) is ResponseForged


def test_a_stream_sealed_as_complete_without_its_end_is_refused(run, world):
    """A worker that seals a final chunk over half an answer."""

    def half(_, opened):
        sealed = Sealed(opened, headers=((b"content-type", b"text/event-stream"),))
        yield sealed.head()
        yield sealed.content(padding.pad_event(EVENTS[0]))
        yield sealed.final()

    world.nodes[0].answers.append(half)
    assert failure(run, STREAM) is ResponseForged


def test_busy_is_drawn_again_twice_and_then_told(run, world):
    world.nodes[0].answers += [refuse(503, "busy")] * 3

    async def scenario(client):
        answer, [payload] = await client.send()
        return answer.status, json.loads(payload)["error"]["code"], client.transport.redraws

    assert run(scenario) == (503, "busy", 2)
    assert len({opened.request.tokens for opened in world.nodes[0].seen}) == 1


def test_a_signed_failure_is_shown_and_drawn_again_with_other_tokens(run, world):
    world.nodes[0].answers.append(unverified())

    async def scenario(client):
        answer, _ = await client.send()
        return answer.status, client.verdicts, client.transport.redraws

    status, verdicts, redraws = run(scenario)
    assert (status, redraws) == (200, 1)
    failed, passed = verdicts
    assert failed.outcome is Outcome.FAIL
    assert failed.steps[-1].step == "computation"
    assert "did not verify" in failed.steps[-1].reason
    assert passed.outcome is Outcome.PASS
    first, second = world.nodes[0].seen
    assert not set(first.request.tokens) & set(second.request.tokens)


def test_a_signed_failure_within_a_stream_is_its_last_event(run, world):
    world.nodes[0].answers.append(unverified_later())

    async def scenario(client):
        _, payloads = await client.send(STREAM)
        return payloads, client.verdicts, client.transport.redraws

    payloads, [verdict], redraws = run(scenario)
    assert json.loads(payloads[-1])["error"]["code"] == "verification_failed"
    assert "receipt" in json.loads(payloads[-1])["attestation"]
    assert b"[DONE]" not in payloads
    assert verdict.outcome is Outcome.FAIL
    assert verdict.steps[-1].step == "computation"
    assert redraws == 0  # what came before was read already


def test_a_forged_failure_within_a_stream_is_not_believed(run, world):
    world.nodes[0].answers.append(unverified_later(change=lambda _: {"response_hash": bytes(32)}))

    async def scenario(client):
        await client.send(STREAM)

    with pytest.raises(VerificationFailed):
        run(scenario)


def test_signed_failures_are_drawn_again_twice_and_then_told(run, world):
    world.nodes[0].answers += [unverified()] * 3

    async def scenario(client):
        answer, [payload] = await client.send()
        return answer.status, json.loads(payload)["error"]["code"], client.verdicts

    status, code, verdicts = run(scenario)
    assert (status, code) == (503, "verification_failed")
    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAIL] * 3


@pytest.mark.parametrize(
    "answer",
    [
        unverified(attest=False),
        unverified(change=lambda _: {"response_hash": bytes(32)}),
        unverified(change=lambda _: {"request_hash": bytes(32)}),
    ],
    ids=["unsigned", "of another response", "of another request"],
)
def test_a_failure_that_is_not_signed_for_permits_no_other_try(run, world, answer):
    world.nodes[0].answers.append(answer)

    async def scenario(client):
        with pytest.raises(VerificationFailed):
            await client.send()
        return client.transport.redraws

    assert run(scenario) == 0
    assert len(world.nodes[0].seen) == 1


def test_busy_once_is_not_noticed(run, world):
    world.nodes[0].answers.append(refuse(503, "busy"))

    async def scenario(client):
        answer, _ = await client.send()
        return answer.status

    assert run(scenario) == 200


def test_another_503_is_the_answer(run, world):
    world.nodes[0].answers.append(refuse(503, "payment_unavailable"))

    async def scenario(client):
        answer, _ = await client.send()
        return answer.status

    assert run(scenario) == 503
    assert len(world.nodes[0].seen) == 1


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503, 504])
def test_an_answer_in_clear_ends_the_request_and_keeps_the_node(run, world, status):
    world.nodes += [Node("second"), Node("third")]
    world.relay_status = status

    async def scenario(client):
        nodes = (await client.directory.current()).nodes
        with pytest.raises(RelayError) as failed:
            await client.send()
        [(kept, _)] = client.transport._kept.values()
        world.relay_status = 200
        client.transport._uniform = lambda: 0.0 if kept != nodes[0].key_document.node else 0.999
        answer, _ = await client.send()
        return failed.value.status, kept, answer.node.key_document.node

    told, kept, drawn = run(scenario)
    assert told == status
    assert kept == drawn


def test_a_wrong_clock_is_corrected_once_at_the_same_node(run, world):
    stamp = inner.http_date(1_790_000_000)
    problem = refuse(400, "#date", ((b"date", stamp),))
    world.nodes[0].answers.append(problem)

    async def scenario(client):
        answer, _ = await client.send()
        return answer.status

    assert run(scenario) == 200
    first, second = world.nodes[0].seen
    assert second.request.date == 1_790_000_000
    assert first.request.tokens == second.request.tokens


def test_more_tokens_are_sent_when_the_worker_says_how_many(run, world):
    needs = refuse(401, "more_tokens", ((inner.TOKENS_NEEDED_FIELD, b"4"),))
    world.nodes[0].answers.append(needs)

    async def scenario(client):
        answer, _ = await client.send()
        return answer.status

    assert run(scenario) == 200
    first, second = world.nodes[0].seen
    assert len(second.request.tokens) == 4
    assert second.request.tokens[:1] == first.request.tokens


def test_only_xwing_is_ever_used(run, world):
    async def scenario(client):
        await client.send()

    run(scenario)
    [opened] = world.nodes[0].seen
    assert opened.suite.kem is Kem.XWING
