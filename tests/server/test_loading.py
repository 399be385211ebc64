"""Loading shows as a bar on a terminal, and as events on anything else."""

import json
import os

import pytest

from server import logs
from server.loading import bar, loading_told


@pytest.fixture
def log(request):
    """The log of this process: a terminal or a pipe. Returns what reads up to a text."""
    near, far = os.openpty() if request.param == "terminal" else os.pipe()
    before = logs.log_descriptor()
    logs.log_to(far)
    yield lambda until: _read(near, until)
    logs.log_to(before)
    os.close(near)
    os.close(far)


def _read(near: int, until: str) -> str:
    """Read up to `until`: a terminal hands out what was written to it piece by piece."""
    text = ""
    while until not in text:
        text += os.read(near, 1 << 16).decode()
    return text


@pytest.mark.parametrize("log", ["terminal"], indirect=True)
def test_a_terminal_gets_a_bar_that_is_drawn_over_and_ends_its_line(log):
    tell = loading_told()
    for percent in (3, 50, 100):
        tell(percent)
    text = log(until="\n")
    assert text.count("\r") == 4  # the terminal itself ends a line with another
    assert text.count("\n") == 1
    assert "  3 %" in text
    assert text.rstrip().endswith("100 %")
    assert "ModelLoading" not in text


@pytest.mark.parametrize("log", ["pipe"], indirect=True)
def test_a_log_gets_an_event_for_each_tenth_and_no_bar(log):
    tell = loading_told()
    for percent in range(1, 101):
        tell(percent)
    events = [json.loads(line) for line in log(until='"percent":100').splitlines()]
    assert {event["event"] for event in events} == {"ModelLoading"}
    assert [event["percent"] for event in events] == list(range(10, 101, 10))


def test_a_bar_fills_and_keeps_its_length():
    assert len({len(bar(percent).strip("\r\n")) for percent in range(101)}) == 1
    assert bar(0).count("━") == 0
    assert bar(50).count("━") == 20
    assert bar(100).count("━") == 40
