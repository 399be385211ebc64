"""Every transcript in this folder, run against every party as a real process."""

from pathlib import Path

import pytest
from transcript import Command, Shell, commands_of

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

HERE = Path(__file__).parent
TRANSCRIPTS = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_session_goes_as_written(transcript, stack, tmp_path):
    shell = Shell(tmp_path, stack)
    for command in commands_of(transcript.read_text()):
        shell.check(command)


def test_a_transcript_that_is_wrong_is_noticed(tmp_path):
    shell = Shell(tmp_path)
    shell.check(Command("echo one; echo two", ["one", "..."]))
    shell.check(Command("echo 'a  table row'; exit 3", ["a ... row"], 3))
    for wrong in (Command("echo one", ["two"]), Command("echo one"), Command("true", [], 1)):
        with pytest.raises(AssertionError):
            shell.check(wrong)


def test_a_transcript_is_read_as_its_rules_say():
    first, second = commands_of("# why\n$ cat <<E\n> text\n> E\ntext\n$ false\n[1]\n")
    assert (first.text, first.output, first.status) == ("cat <<E\ntext\nE", ["text"], 0)
    assert (second.text, second.output, second.status) == ("false", [], 1)
