"""What the documents tell a person to do is done: commands, programs; and what they list is whole.

Blocks marked `console` are transcripts and are executed; so is each `python` program, and each
`curl` of an indented block that asks the local proxy. Every other `sottovoce` line names a command
and options that exist.
"""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import surface
import typer.main
from transcript import Shell, commands_of

from attestation.errors import Code
from client.trust import _TrustFile
from sottovoce.cli import COMMANDS
from sottovoce.sdk.profile import _Profile

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CLI = (ROOT / "docs" / "cli.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def blocks(language):
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for document in DOCUMENTS:
        found = pattern.findall(document.read_text())
        if found:
            yield pytest.param(found, id=document.name)


def indented():
    """Each indented command of the documents, its continued lines joined."""
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for command in re.findall(r"^ {4}((?:sottovoce|curl) (?:.*\\\n)*.*)", text, re.MULTILINE):
            joined = re.sub(r"\\\n\s*", "", command)
            yield pytest.param(joined, id=f"{document.name}:{joined[:40]}")


@pytest.fixture
def shell(stack, tmp_path):
    return Shell(tmp_path, stack)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("stack")
@pytest.mark.parametrize("transcripts", blocks("console"))
def test_a_transcript_in_a_document_goes_as_written(transcripts, shell):
    for transcript in transcripts:
        for command in commands_of(transcript):
            shell.check(command)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("stack")
@pytest.mark.parametrize("programs", blocks("python"))
def test_a_program_in_a_document_runs(programs, shell, tmp_path):
    for program in programs:
        (tmp_path / "program.py").write_text(shell.translate(program))
        status, printed = shell.run("python program.py")
        assert status == 0, printed
        assert printed.strip()


PROXY_ASKED = [each for each in indented() if "curl -N http://127.0.0.1:8080" in each.values[0]]


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("stack")
@pytest.mark.parametrize("command", PROXY_ASKED)
def test_a_curl_in_a_document_gets_its_answer(command, shell):
    status, printed = shell.run(command)
    assert status == 0
    assert "data: [DONE]" in printed


def runnable():
    """Every command that can be run, as words, with its options."""
    for name in COMMANDS:
        command = typer.main.get_command(import_module(f"sottovoce.commands.{name}").app)
        for words, options in surface.options(command):
            yield (name, *words), options


OPTIONS = dict(runnable())


OURS = [each for each in indented() if each.values[0].startswith("sottovoce ")]


@pytest.mark.parametrize("command", OURS)
def test_a_command_in_a_document_is_one_that_exists(command):
    words = shlex.split(command.partition("#")[0].replace("|", " | "))
    asked = words[1 : words.index("|") if "|" in words else None]
    known = [each for each in OPTIONS if tuple(asked[: len(each)]) == each]
    assert known, command
    for option in (word.partition("=")[0] for word in asked if word.startswith("--")):
        assert option in OPTIONS[max(known, key=len)], option


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_a_command_and_its_options_are_documented(words):
    section = f"{CLI}\n## ".partition(f"## sottovoce {' '.join(words)}\n")[2].partition("\n## ")[0]
    assert section, "no section"
    for option in OPTIONS[words]:
        assert f"`{option}`" in section, option


def test_no_command_is_documented_that_is_gone():
    documented = re.findall(r"^## sottovoce (.*)$", CLI, re.MULTILINE)
    assert {tuple(each.split()) for each in documented} == set(OPTIONS)


def test_every_error_code_is_documented_and_no_other():
    section = REFERENCE.partition("## Error codes")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == surface.error_codes()


def test_every_verification_code_is_documented():
    section = REFERENCE.partition("## Verification codes")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z][a-z0-9-]+)`", section))
    assert {code.value for code in Code} <= documented


@pytest.mark.parametrize("party", surface.endpoints())
def test_every_endpoint_is_documented_and_no_other(party):
    section = REFERENCE.partition(f"### {party}\n")[2].partition("\n##")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    assert documented == surface.endpoints()[party]


def settings(model, prefix=""):
    for name, field in model.model_fields.items():
        inner = field.annotation
        if hasattr(inner, "model_fields"):
            yield from settings(inner, f"{prefix}{name}.")
        else:
            yield prefix + (field.alias or name)


@pytest.mark.parametrize("setting", [*settings(_TrustFile), *settings(_Profile)])
def test_every_setting_of_a_file_is_documented(setting):
    assert f"`{setting}`" in REFERENCE


def test_every_variable_of_the_environment_is_documented():
    pattern = re.compile(r'envvar="(\w+)"|environ(?:\.get\(|\[)"(\w+)"')
    for folder in ("sottovoce", "client", "server", "relay", "issuer", "transparency"):
        for path in (ROOT / folder).rglob("*.py"):
            for found in pattern.findall(path.read_text()):
                assert f"`{''.join(found)}`" in REFERENCE, path
