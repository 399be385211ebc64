"""What the gateway answers in clear, and what happens when somebody goes away."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server import wallet
from tests.server.conftest import Worker, until
from wire import ohttp
from wire.errors import Truncated
from wire.hpke import Aead, Kem
from wire.key_config import KeyConfig

CHUNKED = ohttp.CHUNKED_REQUEST_TYPE


def test_only_post_with_the_media_types_of_a_request_is_taken(worker):
    body = worker.encapsulate({}).encapsulated

    assert httpx.get(f"{worker.url}/gateway", trust_env=False).status_code == 405
    assert worker.post_raw(body, "application/json").status_code == 415
    assert worker.post_raw(body, ohttp.CHUNKED_RESPONSE_TYPE).status_code == 415


def test_a_key_that_is_not_ours_is_a_problem_document(worker):
    config = wallet.config_of(worker.document)
    other = KeyConfig(200, config.kem, config.public_key, config.algorithms)
    sent = wallet.send(other, wallet.inner_request({}))

    response = worker.post_raw(sent.encapsulated, sent.media_type)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == ohttp.KEY_PROBLEM


@pytest.mark.parametrize("position", [2, 4, 6])
def test_a_suite_that_is_not_ours_is_a_problem_document(worker, position):
    body = bytearray(worker.encapsulate({}).encapsulated)
    body[position] ^= 0x40

    assert worker.post_raw(bytes(body), CHUNKED).status_code == 400


def test_the_kem_of_the_other_key_is_a_problem_document(worker):
    xwing = wallet.config_of(worker.document, Kem.XWING)
    x25519 = wallet.config_of(worker.document, Kem.X25519)
    crossed = KeyConfig(xwing.key_id, x25519.kem, x25519.public_key, x25519.algorithms)
    sent = wallet.send(crossed, wallet.inner_request({}))

    assert worker.post_raw(sent.encapsulated, sent.media_type).status_code == 400


def test_whatever_does_not_open_gets_one_and_the_same_empty_answer(worker):
    good = worker.encapsulate({}).encapsulated
    plain = worker.encapsulate({}, chunked=False).encapsulated
    zero_enc = good[:7] + bytes(1120) + good[1127:]
    x25519 = wallet.send(wallet.config_of(worker.document, Kem.X25519), b"x").encapsulated
    bodies = {
        "nothing": (b"", CHUNKED),
        "a byte": (good[:1], CHUNKED),
        "no enc": (good[:100], CHUNKED),
        "no chunk": (good[:1127], CHUNKED),
        "cut": (good[:-1], CHUNKED),
        "longer": (good + b"\0", CHUNKED),
        "bad tag": (good[:-1] + bytes([good[-1] ^ 1]), CHUNKED),
        "zero enc": (zero_enc, CHUNKED),
        "zero X25519 enc": (x25519[:7] + bytes(32) + x25519[39:], CHUNKED),
        "second chunk": (_with_a_bad_second_chunk(worker), CHUNKED),
        "plain, more than can be checked": (plain[:1127] + bytes(70_000), ohttp.REQUEST_TYPE),
        "plain sent as chunked": (plain, CHUNKED),
        "chunked sent as plain": (good, ohttp.REQUEST_TYPE),
    }
    answers = set()
    for name, (body, media_type) in bodies.items():
        response = worker.post_raw(body, media_type)
        assert (name, response.status_code, response.content) == (name, 422, b"")
        answers.add(tuple(sorted(response.headers.items())))
    assert len(answers) == 1


def _with_a_bad_second_chunk(worker: Worker) -> bytes:
    config = wallet.config_of(worker.document)
    body, _ = ohttp.encapsulate_pieces(config, (b"good",), b"bad", aead=Aead.AES_128_GCM)
    return body[:-1] + bytes([body[-1] ^ 1])


def test_a_request_in_one_piece_that_is_too_long_to_be_checked_is_served(worker):
    order = {"prompt": "x" * 100_000}
    sent = worker.encapsulate(order, chunked=False, tokens=(wallet.draw(),))
    assert sent.open(worker.post(sent).content).status == 200


def test_what_opens_nothing_takes_no_capsule(worker):
    until(lambda: len(worker.capsules()) == 2, worker=worker)
    before, good = worker.capsules(), worker.encapsulate({}).encapsulated
    for _ in range(50):
        garbage = good[:7] + os.urandom(1120) + good[1127:]
        assert worker.post_raw(garbage, CHUNKED).status_code == 422
        assert worker.post_raw(good[:-1] + b"x", CHUNKED).status_code == 422
    assert worker.capsules() == before


def test_a_flood_of_garbage_is_turned_away_and_the_pool_recovers(worker):
    key_id = wallet.config_of(worker.document).key_id
    header = ohttp.split(worker.encapsulate({}).encapsulated)[0].encode()

    def garbage(number: int) -> int:
        body = header + os.urandom(1120 + number)
        return worker.post_raw(body, CHUNKED).status_code

    with ThreadPoolExecutor(16) as executor:
        statuses = list(executor.map(garbage, range(40)))

    assert header[0] == key_id
    assert set(statuses) == {422}
    until(lambda: len(worker.capsules()) == 2, worker=worker)
    assert worker.ask({})[1].status == 200


def test_eight_equal_requests_at_once_give_one_completion(worker):
    sent = worker.encapsulate({"delay": 20}, tokens=(wallet.draw(),))
    with ThreadPoolExecutor(8) as executor:
        contents = [r.content for r in executor.map(lambda _: worker.post(sent), range(8))]

    statuses = []
    for content in contents:
        again = wallet.Sent(sent.encapsulated, _another_opener(sent), True, sent.request)
        statuses.append(again.open(content).status)
    assert sorted(statuses) == [200] + [400] * 7


def _another_opener(sent: wallet.Sent) -> ohttp.ChunkedResponseOpener:
    return ohttp.ChunkedResponseOpener(sent.opener._context, sent.opener._enc)


def test_two_relays_racing_the_same_bytes_get_one_completion_and_one_token_is_spent(worker):
    before = len(worker.neighbours.spent.rows)
    sent = worker.encapsulate({"stream": True, "delay": 10}, tokens=(wallet.draw(),))
    with httpx.Client(trust_env=False) as one, httpx.Client(trust_env=False) as other:
        barrier = threading.Barrier(2)

        def race(client: httpx.Client) -> bytes:
            barrier.wait()
            headers = {"content-type": sent.media_type}
            return client.post(
                f"{worker.url}/gateway", content=sent.encapsulated, headers=headers
            ).content

        with ThreadPoolExecutor(2) as executor:
            contents = list(executor.map(race, (one, other)))

    statuses = sorted(
        wallet.Sent(b"", _another_opener(sent), True, sent.request).open(content).status
        for content in contents
    )
    assert statuses == [200, 400]
    assert len(worker.neighbours.spent.rows) == before + 1


def test_the_same_token_twice_buys_one_completion(worker):
    token = wallet.draw()
    statuses = []
    for _ in range(2):
        sent = worker.encapsulate({}, tokens=(token,))
        statuses.append(sent.open(worker.post(sent).content).status)
    assert statuses == [200, 401]


@pytest.mark.parametrize("mode", ["down", "silent"])
def test_without_the_spent_store_nothing_is_computed_and_the_client_may_come_again(worker, mode):
    submitted = worker.journal().count("submit")
    worker.neighbours.spent.mode = mode
    token = wallet.draw()
    sent = worker.encapsulate({}, tokens=(token,))
    response = sent.open(worker.post(sent).content)

    assert response.status == 503
    assert json.loads(response.content)["error"]["code"] == "payment_unavailable"
    assert worker.journal().count("submit") == submitted
    assert len({order["spend_id"] for order in worker.neighbours.spent.orders[-2:]}) <= 2
    worker.neighbours.spent.mode = "ok"
    if mode == "down":  # a store that was silent may have spent it all the same
        sent = worker.encapsulate({}, tokens=(token,))
        assert sent.open(worker.post(sent).content).status == 200


def test_a_client_that_goes_away_takes_its_capsule_and_its_slot_with_it(worker):
    cancelled = worker.journal().count("erased cancel")
    order = {"stream": True, "delay": 30, "tokens": 400}
    sent = worker.encapsulate(order, tokens=(wallet.draw(),))
    headers = {"content-type": sent.media_type}
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream(
            "POST", f"{worker.url}/gateway", content=sent.encapsulated, headers=headers
        ) as response,
    ):
        assert next(response.iter_raw())
        until(lambda: len(worker.capsules()) == 3, worker=worker)
    until(lambda: worker.journal().count("erased cancel") == cancelled + 1, worker=worker)
    until(lambda: len(worker.capsules()) == 2, worker=worker)


def test_a_client_that_goes_away_while_nothing_is_sent_is_noticed_too(worker):
    cancelled = worker.journal().count("erased cancel")
    sent = worker.encapsulate({"delay": 990, "tokens": 9}, tokens=(wallet.draw(),))
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(
            f"{worker.url}/gateway",
            content=sent.encapsulated,
            headers={"content-type": sent.media_type},
            timeout=0.4,
            trust_env=False,
        )
    until(lambda: worker.journal().count("erased cancel") == cancelled + 1, worker=worker)


def test_a_stream_arrives_as_it_is_made(worker):
    sent = worker.encapsulate({"stream": True, "delay": 60, "tokens": 4}, tokens=(wallet.draw(),))
    headers = {"content-type": sent.media_type}
    times = []
    with httpx.stream(
        "POST",
        f"{worker.url}/gateway",
        content=sent.encapsulated,
        headers=headers,
        trust_env=False,
        timeout=30,
    ) as response:
        for data in response.iter_raw():
            times.extend(time.monotonic() for _ in sent.opener.feed(data))
        sent.opener.finish()
    assert times[-1] - times[0] > 0.12


def _receive_cut(worker: Worker, sent: wallet.Sent) -> bytes:
    """Receive an answer whose connection must be cut inside it; return what came."""
    received = []
    headers = {"content-type": sent.media_type}
    with httpx.Client(trust_env=False) as client:
        request = client.build_request(
            "POST", f"{worker.url}/gateway", content=sent.encapsulated, headers=headers
        )
        response = client.send(request, stream=True)
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(response.iter_raw())
    return b"".join(received)


def test_a_capsule_that_crashes_inside_a_stream_leaves_a_stream_that_cannot_look_complete(worker):
    order = {"stream": True, "fail": "midexit", "tokens": 5}
    sent = worker.encapsulate(order, tokens=(wallet.draw(),))
    received = _receive_cut(worker, sent)

    assert b'"id": 0' in sent.open_cut(received)
    with pytest.raises(Truncated):
        sent.opener.finish()
    worker.wait_for("CapsuleCrashed")
    assert worker.logged("CapsuleCrashed")[-1]["code"] == 3


def test_a_capsule_that_crashes_before_it_answers_is_a_503(worker):
    sent = worker.encapsulate({"fail": "exit"}, tokens=(wallet.draw(),))

    response = worker.post_raw(sent.encapsulated, sent.media_type)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_a_failure_inside_a_stream_is_said_inside_it_and_the_stream_has_no_end(worker):
    order = {"stream": True, "fail": "midstream", "prompt": "canary-midstream"}
    sent = worker.encapsulate(order, tokens=(wallet.draw(),))
    received = _receive_cut(worker, sent)

    payloads = wallet.events(sent.open_cut(received))
    assert json.loads(payloads[-1])["error"]["code"] == "internal_error"
    with pytest.raises(Truncated):
        sent.opener.finish()


@pytest.mark.parametrize("when", ["prepare", "run"])
def test_a_failure_before_the_first_byte_is_an_internal_error_without_a_word(worker, when):
    _, response = worker.ask({"fail": when, "prompt": "canary-failure"})

    assert response.status == 500
    assert json.loads(response.content)["error"]["code"] == "internal_error"
    assert b"canary" not in response.content


def test_no_prompt_reaches_the_log_whatever_happens_to_it(worker):
    prompt = "canary-Zwölfter Grüner Bär"
    for order in (
        {},
        {"fail": "stderr"},
        {"fail": "run"},
        {"fail": "prepare"},
        {"fail": "exit"},
        {"invalid": True},
    ):
        sent = worker.encapsulate({**order, "prompt": prompt}, tokens=(wallet.draw(),))
        worker.post_raw(sent.encapsulated, sent.media_type)
    until(lambda: len(worker.capsules()) == 2, worker=worker)

    text = (worker.folder / "worker.log").read_bytes()
    assert b"canary" not in text
    assert all(line.startswith(b'{"at":') for line in text.splitlines())


def test_a_full_node_says_busy_inside_the_answer(start_worker):
    with start_worker(max_requests=1) as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        long = worker.encapsulate({"held": True}, tokens=(wallet.draw(),))
        with ThreadPoolExecutor(1) as executor:
            first = executor.submit(worker.post, long)
            until(lambda: "submit" in worker.journal(), worker=worker)
            token = wallet.draw()
            sent = worker.encapsulate({}, tokens=(token,))
            response = sent.open(worker.post(sent).content)
            assert response.status == 503
            assert json.loads(response.content)["error"]["code"] == "busy"
            assert len(worker.neighbours.spent.rows) == 1
            worker.let_go()
            assert long.open(first.result().content).status == 200
