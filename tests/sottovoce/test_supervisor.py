"""The supervisor: starts again what died, ever more slowly, and leaves nothing behind."""

import signal
import subprocess
import sys
import time

import pytest

from sottovoce import supervisor as module
from sottovoce.supervisor import Supervisor


@pytest.fixture
def deaths():
    return []


@pytest.fixture
def supervisor(tmp_path, deaths, monkeypatch):
    monkeypatch.setattr(module, "RESTART_PAUSE_S", 0.05)
    supervisor = Supervisor(tmp_path, lambda party, code: deaths.append((party.name, code)))
    yield supervisor
    supervisor.stop()


@pytest.fixture
def sleeping(monkeypatch):
    """Let a party be a program that only sleeps, whatever its arguments."""

    class Sleeping(subprocess.Popen):
        def __init__(self, command, **options):
            assert command[1:3] == ["-m", "sottovoce"]
            program = "import time; print('words', flush=True); time.sleep(60)"
            super().__init__([sys.executable, "-c", program], **options)

    monkeypatch.setattr(module.subprocess, "Popen", Sleeping)


def until(supervisor, condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        supervisor.look()
        time.sleep(0.01)


@pytest.mark.usefixtures("sleeping")
def test_a_party_that_died_is_started_again_and_its_death_told(supervisor, deaths):
    supervisor.start("party", "argument")
    first = supervisor.parties["party"].process
    first.kill()
    until(supervisor, lambda: supervisor.parties["party"].process not in (None, first))
    assert deaths == [("party", -signal.SIGKILL)]


@pytest.mark.usefixtures("sleeping")
def test_pauses_grow_with_deaths_in_a_row(supervisor):
    supervisor.start("party")
    party = supervisor.parties["party"]
    pauses = []
    for _ in range(3):
        until(supervisor, lambda: party.process is not None)
        party.process.kill()
        until(supervisor, lambda: party.process is None)
        pauses.append(party.restart_at - time.monotonic())
    assert pauses[0] < pauses[1] < pauses[2]


@pytest.mark.usefixtures("sleeping")
def test_stop_ends_everybody(supervisor):
    for name in ("one", "two"):
        supervisor.start(name)
    processes = [party.process for party in supervisor.parties.values()]
    supervisor.stop()
    assert all(process.poll() is not None for process in processes)


@pytest.mark.usefixtures("sleeping")
def test_the_last_words_of_a_party_can_be_read(supervisor):
    supervisor.start("party")
    until(supervisor, lambda: "words" in supervisor.parties["party"].last_words())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_either_signal_ends_a_program_that_a_shell_put_in_its_background(number):
    program = (
        "import time; from sottovoce.supervisor import interrupt_on_terminate as listen\n"
        "listen()\n"
        "try: print('listening', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: print('cleaned up')"
    )
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "listening\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "cleaned up\n"
    assert process.returncode == 0
