"""What `up` and `bench` show while they run, on a terminal and elsewhere; ports that are taken."""

import io
import json
import socket
from contextlib import closing

import pytest
from rich.console import Console
from serving import serving

from client import metrics
from sottovoce.bench.line import line
from sottovoce.bench.progress import watched
from sottovoce.bench.shown import show
from sottovoce.ports import require_free
from sottovoce.status import StatusLine, numbers, sentence
from sottovoce.up import NotReady, Up, UpOptions

WRITTEN = metrics.write({"nodes": 2, "tokens": 96, "redraws": 1}, {200: 7, 404: 1, 503: 2})


def test_the_numbers_are_those_of_the_proxy_s_metrics():
    found = numbers(WRITTEN)
    assert found == {"nodes": 2, "tokens": 96, "answers": 7, "errors": 3}
    assert sentence(found) == "2 node(s) verified, 96 tokens, 7 answers, 3 errors"
    assert "errors" not in sentence(numbers(""))


async def show_metrics(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": WRITTEN.encode()})


@pytest.fixture
def url():
    with serving(show_metrics, lifespan="off") as url:
        yield url


def looked(url, times, **kind):
    text, now = io.StringIO(), iter(range(0, 1000, 5))
    console = Console(file=text, width=100, **kind)
    with StatusLine(console, url, lambda: next(now)) as status:
        for _ in range(times):
            status.look()
    return text.getvalue()


def test_a_terminal_has_a_line_that_is_redrawn(url):
    shown = looked(url, 2, force_terminal=True)
    assert "2 node(s) verified, 96 tokens" in shown


def test_elsewhere_a_line_is_printed_when_something_changed(url):
    assert looked(url, 3) == "sottovoce: 2 node(s) verified, 96 tokens, 0 answers\n"


def test_its_own_looks_and_what_was_before_are_not_counted():
    status = StatusLine(Console(file=io.StringIO()), "http://127.0.0.1:9")
    before = {"nodes": 1, "tokens": 9, "answers": 7, "errors": 3}
    assert status._since(before)["answers"] == 0
    after = status._since({**before, "answers": 10, "errors": 4})
    assert (after["answers"], after["errors"]) == (2, 1)
    assert status._since({**before, "answers": 0})["answers"] == 0


def test_a_proxy_that_is_gone_is_said():
    assert "does not answer" in looked("http://127.0.0.1:9", 1, force_terminal=True)
    assert looked("http://127.0.0.1:9", 2) == ""


def test_between_two_looks_nobody_is_asked():
    text = io.StringIO()
    status = StatusLine(Console(file=text), "http://127.0.0.1:9", lambda: 1.0)
    status.look()
    status._show = pytest.fail
    status.look()


@pytest.fixture
def lines():
    return [line(f"sweep {name}", "ms", [1.0]) for name in ("a", "b")]


def test_a_bar_goes_with_the_cases_on_a_terminal_only(lines):
    for terminal in (True, False):
        text = io.StringIO()
        console = Console(file=text, width=120, force_terminal=terminal)
        assert list(watched(lines, console)) == lines
        assert ("sweep b" in text.getvalue()) is terminal


@pytest.fixture
def taken():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def test_the_bar_leaves_standard_output_to_programs(lines, capsys):
    show(watched(lines, Console(file=io.StringIO(), force_terminal=True)), Console(), as_json=True)
    assert [json.loads(each)["case"] for each in capsys.readouterr().out.splitlines()] == [
        "sweep a",
        "sweep b",
    ]


def test_a_port_that_is_taken_is_named(taken):
    with pytest.raises(OSError, match=f"port {taken} of 127.0.0.1 cannot be had: Address already"):
        require_free([taken])


def test_up_starts_nothing_when_a_port_is_taken(taken):
    up = Up(UpOptions(taken, 1, None, 60), Console(quiet=True))
    try:
        with pytest.raises(NotReady, match=rf"port {taken} .*choose other ports with --port-base"):
            up.start()
        assert not up.supervisor.parties
    finally:
        up.stop()
