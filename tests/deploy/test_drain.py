"""The runbook's way to drain a worker: without the log it leaves the list, and goes on serving."""

from contextlib import ExitStack

import httpx
import pytest
from path_stack import Stack
from tap import Tap

from sottovoce.local import LOG, PROXY, WORKER

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300), pytest.mark.xdist_group("path")]


@pytest.fixture
def stack_and_ways(monkeypatch):
    """Two workers, of which the second reaches the log by a way of its own."""
    stack = Stack(workers=2)
    log = stack.local.url(LOG)
    ways = ExitStack()
    way = ways.enter_context(Tap(stack.local.port(LOG)))
    start = stack.supervisor.start

    def start_by_the_way(name, *words):
        changed = (way.url if name == "worker1" and word == log else word for word in words)
        start(name, *changed)

    monkeypatch.setattr(stack.supervisor, "start", start_by_the_way)
    try:
        stack.up.start()
        stack.until(stack.settled)
        yield stack, ways
    finally:
        stack.up.stop()
        ways.close()


def listed(stack):
    shown = httpx.get(f"{stack.local.url(PROXY)}/verification", trust_env=False).json()
    return {node["node"] for node in shown["nodes"]}


def health(stack, index):
    return httpx.get(f"{stack.local.url(WORKER + index)}/health", trust_env=False)


def test_a_worker_without_the_log_leaves_the_list_and_serves_on(stack_and_ways):
    stack, ways = stack_and_ways
    of_second = set(health(stack, 1).json()["nodes"])
    stack.until(lambda: of_second & listed(stack))
    ways.close()
    stack.until(lambda: not of_second & listed(stack))
    assert listed(stack) & set(health(stack, 0).json()["nodes"])
    still = health(stack, 1)
    assert still.status_code == 200  # who drew it before is answered
    assert of_second <= set(still.json()["nodes"])
    assert stack.chat().status_code == 200
