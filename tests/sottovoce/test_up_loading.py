"""`up` shows how far its workers are with loading: on a terminal, and only there."""

import io
import json

import pytest
from rich.console import Console

from sottovoce.loading import LoadingBar, loaded


def line(event, **members):
    return json.dumps({"at": 1, "event": event, **members}, separators=(",", ":")) + "\n"


@pytest.fixture
def logs(tmp_path):
    paths = [tmp_path / f"worker{index}.log" for index in range(2)]
    paths[0].write_text(line("WorkerStarting", pid=1) + line("ModelLoading", percent=70))
    paths[1].write_text(line("ModelLoading", percent=10) + line("ModelLoading", percent=30))
    return paths


def drawn(logs, **kind):
    text = io.StringIO()
    with LoadingBar(Console(file=text, **kind), logs) as bar:
        bar.look()
    return text.getvalue()


def test_the_last_event_counts_and_a_torn_line_does_not(logs):
    assert [loaded(log) for log in logs] == [70, 30]
    with logs[1].open("a") as log:
        log.write('{"event":"ModelLoading","perc')
    assert loaded(logs[1]) == 30
    logs[0].write_text(line("EngineReady", max_model_len=1, max_sequences=1))
    assert loaded(logs[0]) == 100


def test_no_log_is_no_progress(tmp_path):
    assert loaded(tmp_path / "none") == 0


def test_a_terminal_shows_the_slowest_worker(logs):
    text = drawn(logs, force_terminal=True, width=80)
    assert "loading the model" in text
    assert "30%" in text


def test_what_is_no_terminal_gets_nothing(logs):
    assert drawn(logs, force_terminal=False) == ""
