"""A whole worker, asked as a relay asks it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from server.metrics import STATUSES
from tests.server import wallet
from tests.server.conftest import until
from tests.server.fake_parts import ESCAPES
from wire import ohttp
from wire.hpke import Kem
from wire.padding import EVENT_SIZE, RESPONSE_CLASSES


def test_a_completion_comes_back_with_a_receipt_that_checks(worker):
    sent, response = worker.ask({"tokens": 4, "prompt": "hello"})

    assert response.status == 200
    answer = json.loads(response.content)
    assert answer["ids"] == [0, 1, 2, 3]
    receipt = sent.check([response.content], worker.document.receipt_key)
    assert receipt.key_document == worker.document.digest
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (2, 4)
    assert (receipt.verification.mode, receipt.verification.checks) == ("audit", 4)
    assert receipt.transfers.mode == "none"
    assert receipt.issued_at % 60 == 0
    assert answer["attestation"]["platform"] == "simulated"


def test_a_stream_comes_event_by_event_with_a_receipt_in_its_last_payload(worker):
    sent, response = worker.ask({"tokens": 3, "stream": True, "prompt": "hello"})

    payloads = wallet.events(response.content)
    assert payloads[-1] == b"[DONE]"
    assert [json.loads(payload).get("id") for payload in payloads[:3]] == [0, 1, 2]
    sent.check(payloads, worker.document.receipt_key)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_not_chunked_is_answered_whole(worker, stream):
    sent, response = worker.ask({"stream": stream}, chunked=False)

    assert response.status == 200
    payloads = wallet.events(response.content) if stream else [response.content]
    sent.check(payloads, worker.document.receipt_key)


def test_health_names_the_node(worker):
    health = httpx.get(f"{worker.url}/health", trust_env=False).json()

    assert health == {"status": "ok", "nodes": [worker.document.node]}


def test_the_key_document_offers_xwing_first_and_ends_within_six_hours(worker):
    document = worker.document

    assert [config.kem for config in document.key_configs] == [Kem.XWING, Kem.X25519]
    assert document.not_after - document.not_before <= 6 * 3600
    assert document.capacity == 1
    assert document.tls_key is None


def test_both_kems_are_served(worker):
    for kem in Kem:
        config = wallet.config_of(worker.document, kem)
        sent = wallet.send(config, wallet.inner_request({}, tokens=(wallet.draw(),)))
        assert sent.open(worker.post(sent).content).status == 200


def test_a_capsule_holds_its_three_sockets_its_slot_and_nothing_else(worker):
    order = {"stream": True, "delay": 100, "tokens": 20}
    sent = worker.encapsulate(order, tokens=(wallet.draw(),))
    headers = {"content-type": sent.media_type}
    with (
        httpx.Client(trust_env=False) as client,
        client.stream(
            "POST", f"{worker.url}/gateway", content=sent.encapsulated, headers=headers
        ) as response,
    ):
        assert next(response.iter_raw())
        held = [_descriptors(pid) for pid in worker.capsules()]
        (busy,) = (names for names in held if any("memfd" in name for name in names))
    kinds = [name.split(":")[0] for name in busy]
    assert {kind: kinds.count(kind) for kind in kinds if kind != "/memfd"} == {
        "/dev/null": 3,
        "socket": 3,
    }


def test_a_capsule_can_do_nothing_but_talk_to_its_three_sockets(worker):
    _, response = worker.ask({"show": "escapes"})

    assert response.status == 200
    assert json.loads(response.content)["shown"] == []


def test_the_escapes_that_are_tried_in_a_capsule_are_real_ones():
    # Or their failure in a capsule would prove nothing. (Some need powers a test may not have.)
    harmless = ("read a file", "list a folder", "make a socket", "make a pipe", "start a thread")
    for name in harmless:
        ESCAPES[name]()


def test_a_capsule_is_not_dumpable_and_gains_no_powers(worker):
    promised = ("NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1")

    def confined() -> bool:
        """Whether the whole pool is; one that was forked this moment is about to be."""
        try:
            statuses = [Path(f"/proc/{pid}/status").read_text() for pid in worker.capsules()]
        except (FileNotFoundError, ProcessLookupError):
            return False  # it ended meanwhile
        return len(statuses) >= 2 and all(line in each for each in statuses for line in promised)

    until(confined, worker=worker)


def test_every_role_is_protected_and_has_no_descriptor_of_another(worker):
    until(lambda: len(worker.capsules()) == 2, worker=worker)
    for role, sockets in (("keeper", 3 + 2), ("zygote", 4), ("engine", 1 + 2)):
        until(lambda role=role, sockets=sockets: _sockets(worker.pid(role)) == sockets)
    for role in ("keeper", "front", "zygote", "engine"):
        status = Path(f"/proc/{worker.pid(role)}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        if role in {"keeper", "front"}:  # an engine that is not fake is confined as well
            assert "Seccomp:\t2" in status
        limits = Path(f"/proc/{worker.pid(role)}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)


def _sockets(pid: int) -> int:
    return sum(name.startswith("socket:") for name in _descriptors(pid))


def _descriptors(pid: int) -> list[str]:
    """What a process holds open; nothing, if it has ended or ends meanwhile."""
    try:
        return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    except PermissionError:
        pytest.skip("the roles cannot be looked into without root")


def test_metrics_are_aggregates_from_one_list(worker):
    worker.ask({"prompt": "canary-prompt"})
    lines = [line for line in worker.metrics().splitlines() if not line.startswith("#")]

    names = {re.split(r"[{ ]", line)[0] for line in lines}
    assert names <= {
        f"sottovoce_{name}"
        for name in (
            "requests_total",
            "responses_cut_total",
            "marks_total",
            "admissions_total",
            "spends_total",
            "capsules_in_use",
            "requests_admitted",
            "refunds_total",
        )
    }
    labels = set(re.findall(r"{(.*?)}", "".join(lines)))
    assert labels <= {
        *(f'status="{status}"' for status in STATUSES),
        *(f'marking="{name}"' for name in ("replayed", "full")),
        *(f'admission="{name}"' for name in ("busy",)),
        *(f'spending="{name}"' for name in ("spent", "unavailable")),
        'outcome="refused"',
    }


@pytest.mark.parametrize("order", [{}, {"prompt": "x" * 900}, {"tokens": 40}])
def test_an_answer_that_is_not_streamed_has_the_size_of_its_class(worker, order):
    sent = worker.encapsulate(order, tokens=(wallet.draw(),))
    response = worker.post(sent)

    clear = sent.open_cut(response.content) + sent.opener.finish()
    assert len(clear) in RESPONSE_CLASSES
    assert len(clear) == 4096


def test_every_event_of_a_stream_has_one_size_on_the_wire(worker):
    sent = worker.encapsulate({"stream": True, "tokens": 5}, tokens=(wallet.draw(),))
    content = worker.post(sent).content

    chunks = sent.opener.feed(content)
    head, *events, last, done = chunks
    assert {len(chunk) for chunk in (*events, done)} == {EVENT_SIZE + 2}
    assert len(last) == 4096 + 2
    assert len(head) < 64


def test_the_media_type_and_incremental_of_the_answer_follow_the_request(worker):
    for chunked, media_type, incremental in (
        (True, ohttp.CHUNKED_RESPONSE_TYPE, "?1"),
        (False, ohttp.RESPONSE_TYPE, None),
    ):
        response = worker.post(worker.encapsulate({}, chunked=chunked))
        assert response.headers["content-type"] == media_type
        assert response.headers.get("incremental") == incremental
        assert "server" not in response.headers
        assert "date" not in response.headers
