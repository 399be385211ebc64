"""An error says in one sentence what is wrong, and in one what to do: in the API and the shell."""

import re
import socket

import httpx
import pytest
from simulator import World
from troubles import TROUBLES

import client.errors
from client.errors import ClientError, RequestRefused
from client.remedies import REMEDIES, explain, sentence
from sottovoce.cli import main

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "canary-4417"}]}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=list(TROUBLES))
def test_the_api_says_cause_and_remedy(trouble, tmp_path, monkeypatch):
    with trouble.proxy(tmp_path, monkeypatch) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, trust_env=False, timeout=30)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (trouble.status, trouble.code)
    assert trouble.cause in error["message"]
    assert error["message"].endswith(f". {REMEDIES[trouble.code]}.")
    assert "canary" not in answer.text


@pytest.fixture
def start(tmp_path, capsys):
    """Start `sottovoce proxy` and return what it says when it does not run."""
    trust, key = tmp_path / "trust.toml", tmp_path / "key"
    trust.write_text(World().trust_text())
    key.write_text("account")

    def start(*options):
        ways = ["--relay", "http://127.0.0.1:1", "--issuer", "http://127.0.0.1:2"]
        files = ["--trust", str(trust), "--account-key", str(key), "--state", str(tmp_path / "s")]
        with pytest.raises(SystemExit) as ended:
            main(["proxy", *ways, *files, *options])
        assert ended.value.code == 1
        return re.sub(r"\s+", " ", capsys.readouterr().err)

    return start


def test_a_taken_port_is_said_in_the_shell(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = start("--accept", "simulated", "--port", port)
    assert f"another process listens at 127.0.0.1 port {port}. Stop what" in said


def test_simulated_nodes_without_permission_are_said_in_the_shell(start):
    said = start()
    assert "every node of this log is simulated" in said
    assert "--accept simulated" in said


def test_every_error_of_the_client_has_a_remedy_or_is_about_the_request_itself():
    codes = {
        kind.code
        for kind in vars(client.errors).values()
        if isinstance(kind, type) and issubclass(kind, ClientError)
    }
    assert codes - set(REMEDIES) == {ClientError.code, RequestRefused.code}


def test_remedies_are_one_sentence_each():
    for remedy in REMEDIES.values():
        assert remedy[0].isupper()
        assert not remedy.endswith(".")
        assert ". " not in remedy


def test_where_there_is_no_remedy_the_cause_stands_alone():
    assert explain(RequestRefused("a number is missing")) == "a number is missing"
    assert sentence("gone.", "port_taken").startswith("gone. Stop")
