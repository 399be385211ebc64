"""`chat`, `nodes` and `wallet` against a simulated world, through a proxy and without one."""

import io
import json

import pytest
from rich.console import Console
from serving import serving
from simulator import complete, refuse
from typer.testing import CliRunner

from client.connection import CallerConnection
from client.proxy import build_app
from sottovoce.cli import main
from sottovoce.commands import chat, nodes, wallet
from sottovoce.conversation import BrokeOff, Conversation, NoModel
from sottovoce.failures import Answered
from sottovoce.sdk.attestation import Attestation
from sottovoce.sdk.profile import load_profile
from sottovoce.shown import printable, verdict
from sottovoce.way import NoProxy, way


@pytest.fixture
def proxy(profile):
    with serving(build_app(load_profile(profile)), http=CallerConnection) as url:
        yield url


@pytest.fixture
def run():
    def run(command, *arguments, given=""):
        result = CliRunner().invoke(command.app, arguments, input=given, env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_an_answer_has_its_verdict_under_it(run, proxy):
    shown = run(chat, "Who", "reads?", "--proxy", proxy).stdout
    answer, verified, *_ = shown.splitlines()
    assert answer == "sotto"
    assert "pass" in verified
    assert "SIMULATED" in shown


def test_a_base_url_as_clients_have_it_is_understood(run, proxy):
    assert run(chat, "Hello", "--proxy", f"{proxy}/v1/").stdout.startswith("sotto\n")


def test_without_a_proxy_a_profile_is_enough(run, profile):
    assert run(chat, "Hello", "--profile", str(profile)).stdout.startswith("sotto\n")


def test_a_conversation_sends_what_was_said_before(run, world, proxy):
    run(chat, "--proxy", proxy, "--system", "Be brief.", given="one\n\ntwo\n/forget\nthree\n")
    said = [json.loads(opened.request.body)["messages"] for opened in world.nodes[0].seen]
    assert [[message["content"] for message in messages] for messages in said] == [
        ["Be brief.", "one"],
        ["Be brief.", "one", "sotto", "two"],
        ["Be brief.", "three"],
    ]


def test_an_answer_that_fails_is_not_said_again(run, world, proxy):
    world.nodes[0].answers += [complete(change=lambda _: {"model_digest": bytes(32)})]
    result = run(chat, "--proxy", proxy, given="one\ntwo\n")
    assert result.exit_code == 1
    assert "not to be believed" in result.stderr
    assert "Do not rely on any of it" in result.stderr
    last = json.loads(world.nodes[0].seen[-1].request.body)["messages"]
    assert [message["content"] for message in last] == ["two"]


def test_a_program_gets_one_object_an_answer(run, proxy):
    result = run(chat, "--proxy", proxy, "--json", given="one\ntwo\n")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["content"] == second["content"] == "sotto"
    assert first["attestation"]["verification"][0]["outcome"] == "pass"


def test_every_step_is_shown_to_who_asks(run, proxy):
    shown = run(chat, "--proxy", proxy, "--steps", "Hello").stdout
    assert "log-checkpoint" in shown
    assert "log-checkpoint" in run(chat, "--proxy", proxy, given="Hello\n/steps\n").stdout


def test_the_error_of_a_refusal_is_the_worker_s(world, profile):
    with way("", profile) as client:
        conversation = Conversation(client, model=None, system=None)
        world.nodes[0].answers += [refuse(503, "payment_unavailable")]
        with pytest.raises(Answered) as refused:
            list(conversation.ask("Hello", max_tokens=3))
    assert refused.value.code == "payment_unavailable"


def test_no_model_is_said(world, profile):
    world.nodes.clear()
    with pytest.raises((NoModel, Answered)), way("", profile) as client:
        Conversation(client, model=None, system=None)


@pytest.mark.parametrize("sent", [b"data: [1]\n\n", b"data: x\n\n", b"data: {}\n\n", b""])
def test_what_is_no_proxy_is_noticed(sent):
    async def app(_scope, receive, send):
        await receive()
        begin = {"type": "http.response.start", "status": 200, "headers": []}
        await send(begin)
        await send({"type": "http.response.body", "body": sent})

    with serving(app, lifespan="off") as url, way(url, None) as client:
        with pytest.raises(BrokeOff):
            list(Conversation(client, model="m", system=None).ask("Hello"))
        with pytest.raises(NoProxy, match="no sottovoce proxy"):
            Conversation(client, model=None, system=None)


def test_an_answer_without_a_proxy_s_evidence_is_called_unverified():
    text = io.StringIO()
    verdict(None, Console(file=text))
    assert "UNVERIFIED" in text.getvalue()


def test_skipped_steps_are_shown_and_never_counted_as_passed():
    steps = [
        {"step": "quote", "outcome": "pass", "reason": "holds"},
        {"step": "gpu", "outcome": "skip", "reason": "none here"},
    ]
    found = Attestation.model_validate(
        {
            "receipt": "", "salts": {"request": "", "response": ""}, "quote": "",
            "node": "ab" * 32, "platform": "tdx", "verification": steps,
        }
    )  # fmt: skip
    text = io.StringIO()
    verdict(found, Console(file=text, width=200))
    assert "1 pass, 1 skip" in text.getvalue()
    assert "skip gpu: none here" in text.getvalue()
    assert "SIMULATED" not in text.getvalue()
    assert found.outcome == "skip"


def test_an_answer_cannot_steer_the_terminal():
    assert printable("a\x1b[31mb\x07\r\nc\td\u202e") == "a[31mb\nc\td"


def test_nodes_are_listed_with_their_verdicts(run, proxy, world):
    result = run(nodes, "--proxy", proxy)
    assert result.exit_code == 0
    assert world.nodes[0].id[:16] in result.stdout
    assert "yes" in result.stdout
    assert "log-checkpoint" in run(nodes, "--proxy", proxy, "--steps").stdout
    [line] = run(nodes, "--proxy", proxy, "--json").stdout.splitlines()
    assert json.loads(line)["verified"] is True


def test_a_refused_node_is_listed_with_the_reason(run, profile):
    strict = profile.read_text().replace('"simulated", ', "")
    profile.write_text(strict)
    result = run(nodes, "--profile", str(profile))
    assert result.exit_code == 1
    assert "refused: " in result.stdout


def test_no_list_is_an_error_with_its_reason(run, world, profile):
    world.spoil_document = lambda document: document[:-1]
    with pytest.raises(Answered, match="node list"):
        run(nodes, "--profile", str(profile))


def test_the_wallet_is_counted(run, proxy):
    run(chat, "Hello", "--proxy", proxy)  # waits for the first token
    found = json.loads(run(wallet, "--proxy", proxy, "--json").stdout)
    assert set(found) == {"tokens", "tokens_given_back", "redraws"}
    shown = run(wallet, "--proxy", proxy)
    assert "in stock" in shown.stdout


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "nonsense", "ftp://127.0.0.1"])
@pytest.mark.parametrize("command", [nodes, wallet, chat])
def test_no_proxy_is_said(run, command, address):
    with pytest.raises(NoProxy, match="no proxy answers"):
        run(command, "--proxy", address, given="Hello\n")


def test_cause_and_remedy_are_a_sentence_each(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["wallet", "--proxy", "http://127.0.0.1:9"])
    assert ended.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    cause, _, remedy = line.partition(". Start ")
    assert cause == "sottovoce wallet: no proxy answers at http://127.0.0.1:9"
    assert remedy == "one with `sottovoce up`, or say with --proxy where yours is."
