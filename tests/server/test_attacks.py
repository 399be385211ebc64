"""The order of a worker's checks, against people who want it to be another.

    open > parse > date > mark > admit > verify > validate > count > spend

Each test puts bytes to a real worker, all its roles as processes.
"""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server import wallet
from tests.server.conftest import Worker, until
from wire import bhttp, ohttp

CHUNKED, PLAIN = ohttp.CHUNKED_REQUEST_TYPE, ohttp.REQUEST_TYPE
ENC_END = ohttp.HEADER_LENGTH + 1120


def touched(worker: Worker) -> tuple[int, int]:
    """What may change once a request is spent and computed, and not before."""
    return len(worker.neighbours.spent.orders), len(worker.journal())


def answer_to(worker: Worker, sent: wallet.Sent) -> bhttp.Response:
    return sent.open(worker.post(sent).content)


def forged() -> Any:
    good = wallet.draw()
    return type(good)(os.urandom(32), good.challenge_digest, good.key_id, good.signature)


# Which of two faults is answered: each request has two, of neighbouring checks.


def outcome(worker: Worker, request: bhttp.Request) -> str:
    return named(answer_to(worker, wallet.send(wallet.config_of(worker.document), request)))


def outcomes(worker: Worker, request: bhttp.Request) -> list[str]:
    """What the same bytes are answered when they come, and when they come again."""
    sent = wallet.send(wallet.config_of(worker.document), request)
    again = ohttp.ChunkedResponseOpener(sent.opener._context, sent.opener._enc)
    first = answer_to(worker, sent)
    sent.opener = again
    return [named(first), named(answer_to(worker, sent))]


def named(response: bhttp.Response) -> str:
    fields = dict(response.headers)
    if response.status == 200:
        return "computed"
    if fields[b"content-type"] == b"application/problem+json":
        return "date" if b"date" in fields else "replay"
    return str(json.loads(response.content)["error"]["code"])


def request(order: Any = None, *, tokens: Any = (), date: int | None = None) -> bhttp.Request:
    return wallet.inner_request(order or {}, tokens=tokens, date=date)


def elsewhere(made: bhttp.Request) -> bhttp.Request:
    return bhttp.Request(**{**vars(made), "authority": b"example.com"})


LONG_AGO = 1_000_000_000


def test_of_two_faults_the_earlier_check_answers(worker):
    spent = wallet.draw()
    assert outcome(worker, request(tokens=(spent,))) == "computed"
    before = touched(worker)
    # What was marked would be a replay the second time.
    assert outcomes(worker, elsewhere(request(date=LONG_AGO))) == ["malformed_request"] * 2
    assert outcomes(worker, request(date=LONG_AGO, tokens=(forged(),))) == ["date"] * 2
    invalid = {"invalid": True}
    assert outcome(worker, request(invalid, tokens=(forged(),))) == "token_required"
    assert outcome(worker, request({"invalid": True, "price": 4}, tokens=(spent,))) == "bad_value"
    assert outcome(worker, request({"price": 4}, tokens=(spent,))) == "more_tokens_required"
    assert touched(worker) == before  # until here no store is asked, nothing computed
    assert outcome(worker, request(tokens=(spent,))) == "token_required"
    assert touched(worker)[1] == before[1]


def test_bytes_seen_before_are_a_replay_whatever_else_is_wrong_with_them(worker):
    """Their token is spent by now, too; but the replay is found first, and the store not asked."""
    sent = worker.encapsulate({}, tokens=(wallet.draw(),))
    again = ohttp.ChunkedResponseOpener(sent.opener._context, sent.opener._enc)
    assert answer_to(worker, sent).status == 200
    before = touched(worker)
    sent.opener = again
    assert answer_to(worker, sent).status == 400
    assert touched(worker) == before


# A relay that burns its victim's `enc`.


def burners(victim: wallet.Sent) -> list[tuple[bytes, str]]:
    """Requests with the victim's header and `enc` that anybody who saw them can make."""
    whole = victim.encapsulated
    begun, rest = whole[:ENC_END], whole[ENC_END:]
    other_aead = whole[:6] + b"\x02" + whole[7:]
    return [
        (begun, CHUNKED),
        (begun + os.urandom(len(rest)), CHUNKED),
        (begun + os.urandom(len(rest)), PLAIN),
        (begun + rest[:-1], CHUNKED),
        (begun + rest[:-1] + bytes([rest[-1] ^ 1]), CHUNKED),
        (whole + b"\0", CHUNKED),
        (whole, PLAIN),
        (other_aead, CHUNKED),
    ]


def test_an_enc_cannot_be_burnt_by_who_cannot_seal_under_it(worker):
    """A request is marked only after it has opened, so what does not open marks nothing."""
    victim = worker.encapsulate({}, tokens=(wallet.draw(),))
    before = touched(worker)
    for body, media_type in burners(victim):
        assert worker.post_raw(body, media_type).status_code == 422
    assert touched(worker) == before
    assert answer_to(worker, victim).status == 200


def test_burning_while_the_victim_s_request_is_on_its_way_does_not_help_either(worker):
    victim = worker.encapsulate({"delay": 20}, tokens=(wallet.draw(),))
    with ThreadPoolExecutor(8) as executor:
        burning = [executor.submit(worker.post_raw, *each) for each in burners(victim)]
        served = answer_to(worker, victim)
        assert {each.result().status_code for each in burning} == {422}
    assert served.status == 200


# A flood of what does not open.


def test_under_a_flood_of_garbage_honest_requests_are_served_and_only_they_are_marked(
    start_worker,
):
    with start_worker(max_marks=4) as worker:
        worker.wait_for("WorkerReady")
        until(worker.serves, worker=worker)
        _flood(worker)
        assert worker.ask({})[1].status == 503, "and the four have filled the replay set"


def _flood(worker: Worker) -> None:
    header = worker.encapsulate({}).encapsulated[: ohttp.HEADER_LENGTH]
    over = threading.Event()
    statuses: list[int] = []

    def flood() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not over.is_set():
                garbage = header + os.urandom(1120 + 600)
                sent = client.post(
                    f"{worker.url}/gateway", content=garbage, headers={"content-type": CHUNKED}
                )
                statuses.append(sent.status_code)

    before = touched(worker)
    with ThreadPoolExecutor(6) as executor:
        for _ in range(6):
            executor.submit(flood)
        try:
            until(lambda: len(statuses) > 20, worker=worker)
            served = [worker.ask({})[1].status for _ in range(4)]
            until(lambda: len(statuses) > 100, worker=worker)
        finally:
            over.set()
    assert served == [200] * 4
    assert set(statuses) == {422}
    assert touched(worker)[0] - before[0] == 4
    until(lambda: len(worker.capsules()) == 2, worker=worker)


# A token shown more than once.


def test_a_token_under_eight_encapsulations_at_once_buys_one_completion(worker):
    rows, submitted = len(worker.neighbours.spent.rows), worker.journal().count("submit")
    token = wallet.draw()
    sent = [worker.encapsulate({}, tokens=(token,)) for _ in range(8)]
    with ThreadPoolExecutor(8) as executor:
        statuses = sorted(executor.map(lambda each: answer_to(worker, each).status, sent))
    assert statuses == [200] + [401] * 7
    assert len(worker.neighbours.spent.rows) == rows + 1
    assert worker.journal().count("submit") == submitted + 1


def test_a_spent_token_among_good_ones_spends_none_of_them(worker):
    spent, *good = (wallet.draw() for _ in range(4))
    assert outcome(worker, request(tokens=(spent,))) == "computed"
    mixed = request({"price": 4}, tokens=(*good, spent))
    assert outcome(worker, mixed) == "token_required"
    assert outcome(worker, request({"price": 2}, tokens=good[:2])) == "computed"


@pytest.mark.parametrize(
    "order",
    [{"invalid": True}, {"price": 4}, {"fail": "prepare"}],
    ids=lambda order: next(iter(order)),
)
def test_a_token_of_a_request_that_was_refused_before_spend_is_still_good(worker, order):
    token = wallet.draw()
    assert outcome(worker, request(order, tokens=(token,))) != "computed"
    assert outcome(worker, request(tokens=(token,))) == "computed"


def test_a_busy_node_takes_no_token_and_marks_the_bytes(start_worker):
    """Mark comes before admit: a relay cannot keep a refused request for a quieter hour."""
    with start_worker(max_requests=1) as worker:
        worker.wait_for("WorkerReady")
        long = worker.encapsulate({"held": True}, tokens=(wallet.draw(),))
        token = wallet.draw()
        refused = worker.encapsulate({}, tokens=(token,))
        again = ohttp.ChunkedResponseOpener(refused.opener._context, refused.opener._enc)
        with ThreadPoolExecutor(1) as executor:
            first = executor.submit(worker.post, long)
            until(lambda: "submit" in worker.journal(), worker=worker)
            assert answer_to(worker, refused).status == 503
            worker.let_go()
            first.result()
        until(lambda: len(worker.capsules()) == 2, worker=worker)
        refused.opener = again
        assert answer_to(worker, refused).status == 400
        assert outcome(worker, request(tokens=(token,))) == "computed"


def test_a_clock_that_is_off_costs_no_token(worker):
    token = wallet.draw()
    assert outcome(worker, request(tokens=(token,), date=LONG_AGO)) == "date"
    assert outcome(worker, request(tokens=(token,))) == "computed"
