"""`sottovoce log audit` and its sisters: exit status, human words, one JSON object."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.config import EngineConfig
from engine.digest import model_digest
from engine.policy import engine_policy
from server.upstream_policy import upstream_digest, upstream_policy
from sottovoce import audit
from sottovoce.commands import log as command
from sottovoce.keys import write_seed
from sottovoce.publish import model_leaf, policy_leaf, rotation_leaf, withdrawal_leaf
from tests.transparency.conftest import AT, POLICY, ROLES, FakeLog, key
from tests.transparency.test_monitor import files_of
from transparency.leaf import Role, sign_leaf
from transparency.policy_text import parse_policy

MODEL = Path(__file__).parents[2] / "engine" / "tinychat" / "model"


@pytest.fixture
def trust(tmp_path):
    path = tmp_path / "trust.toml"
    witnesses = "".join(f'[[log.witnesses]]\nkey = "{vkey}"\n' for vkey in POLICY.witness_vkeys)
    path.write_text(
        f'[log]\norigin = "{POLICY.origin}"\nkey = "{POLICY.log_vkey}"\nquorum = 2\n{witnesses}'
        f'[roles]\nrelease = "{ROLES.release.hex()}"\nissuer = "{ROLES.issuer.hex()}"\n'
        f'list = "{ROLES.list.hex()}"\n[platforms]\n[issuer]\nname = "issuer.example"\n'
    )
    return path


@pytest.fixture
def honest():
    log = FakeLog()
    log.add_statements()
    row = log.add_node("one")
    log.add_list(row)
    return log, row


@pytest.fixture
def run(trust, tmp_path, monkeypatch):
    """Run `sottovoce log audit` over these files."""
    monkeypatch.setattr(audit.time, "time", lambda: AT)

    def run(files, *options):
        monkeypatch.setattr(audit, "http_fetch", lambda *_: files.get)
        arguments = ["audit", "--log", "http://log.example", "--trust", str(trust)]
        return CliRunner().invoke(
            command.app, [*arguments, "--state", str(tmp_path / "state"), *options]
        )

    return run


def test_an_honest_log_passes(run, honest):
    log, _ = honest
    result = run(files_of(log, log.document(5)))
    assert result.exit_code == 0
    assert "pass" in result.output
    assert "checked" in result.output


def test_the_report_is_one_json_object(run, honest):
    result = run(files_of(honest[0]), "--json")
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert (report["log"], report["size"], report["findings"]) == (POLICY.origin, 6, [])
    assert report["root"] == honest[0].tree.root().hex()


def test_two_lists_are_a_finding_whose_proof_others_can_check(run, honest, trust, tmp_path):
    log, row = honest
    log.add_list(row, log.add_node("two"))
    result = run(files_of(log))
    assert result.exit_code == 1
    assert "two_lists" in result.output
    assert "Publish the proof" in result.output
    assert json.loads(run(files_of(log), "--json").output)["findings"][0]["code"] == "two_lists"
    [proof] = (tmp_path / "state").glob("proof-*.json")
    arguments = ["check-proof", str(proof), "--trust", str(trust)]
    checked = CliRunner().invoke(command.app, arguments)
    assert checked.exit_code == 0
    assert "signed 2 node lists" in checked.output
    trust.write_text(trust.read_text().replace(ROLES.list.hex(), "ab" * 32))
    assert CliRunner().invoke(command.app, arguments).exit_code == 1
    later = [*arguments, "--list-key", ROLES.list.hex()]
    assert CliRunner().invoke(command.app, later).exit_code == 0
    proof.write_bytes(b"{}")
    assert CliRunner().invoke(command.app, arguments).exit_code == 1


@pytest.mark.parametrize(("options", "expected"), [((), "not audited"), (("--json",), "error")])
def test_a_checkpoint_without_a_quorum_is_not_audited(run, honest, options, expected):
    files = files_of(honest[0]) | {"checkpoint": honest[0].note(witnesses=())}
    result = run(files, *options)
    assert result.exit_code == 1
    assert expected in result.output
    assert "quorum_missing" in result.output


def test_the_policy_is_printed_for_other_tools(trust):
    result = CliRunner().invoke(command.app, ["policy", "--trust", str(trust)])
    assert parse_policy(result.output) == POLICY


def test_a_role_is_handed_on_by_two_seed_files(tmp_path):
    old, new = tmp_path / "old.seed", tmp_path / "new.seed"
    write_seed(new)
    old.write_text(key("release").private_bytes_raw().hex() + "\n")
    leaf = sign_leaf(rotation_leaf(Role.RELEASE, old, new), key("release"))
    assert leaf.verify(ROLES).role is Role.RELEASE


def test_a_withdrawal_names_a_leaf_hash():
    assert withdrawal_leaf("ab" * 32, "a flaw").leaf_hash == b"\xab" * 32
    for text in ("ab", "x"):
        with pytest.raises(ValueError, match=r"\w"):
            withdrawal_leaf(text, "a flaw")


@pytest.fixture
def published(monkeypatch):
    """Call `sottovoce log publish`; return the result and the leaves that would be signed."""
    leaves = []
    monkeypatch.setattr(command, "_publish", lambda _log, _key, leaf: leaves.append(leaf))

    def call(*arguments):
        words = ["publish", *arguments, "--log", "l", "--key", "k"]
        return CliRunner().invoke(command.app, words), leaves

    return call


def test_what_a_worker_of_ranks_or_with_another_engine_needs_in_the_log(published):
    folder = str(MODEL)
    published("policy", folder, "--tensor-parallel", "2", "--verification", "none")
    published("policy", folder, "--verification", "full")
    published("policy", folder, "--upstream-kind", "vllm")
    _, leaves = published("model", folder, "--name", "m", "--upstream-kind", "vllm")
    assert leaves == [
        policy_leaf(engine_policy(EngineConfig(MODEL, tensor_parallel=2))),
        policy_leaf(engine_policy(EngineConfig(MODEL, verification="full"))),
        policy_leaf(upstream_policy("vllm", "cpu")),
        model_leaf("m", upstream_digest(MODEL, "vllm")),
    ]


def test_model_and_policy_are_those_of_a_worker_with_the_same_options(published):
    folder = str(MODEL)
    on_device = "--device", "cuda", "--verification", "none"
    published("policy", folder, *on_device, "--kv-truncation", "--speculation", "draft")
    published("model", folder, "--name", "m", "--weights", "int8")
    _, leaves = published("model", folder, "--name", "m", "--draft", folder)
    draft = {"speculation": "draft", "draft": MODEL}
    on_gpu = EngineConfig(MODEL, device="cuda", kv_truncation=True, **draft)
    assert leaves == [
        policy_leaf(engine_policy(on_gpu)),
        model_leaf("m", model_digest(EngineConfig(MODEL, weights="int8"))),
        model_leaf("m", model_digest(EngineConfig(MODEL, **draft))),
    ]


def test_an_unknown_kind_of_engine_is_not_published(published):
    result, leaves = published("policy", "f", "--upstream-kind", "llama")
    assert result.exit_code == 2
    assert not leaves


def test_a_release_is_published_by_what_its_nodes_measure(published):
    measured = "--measurement", f"tpm={'ab' * 32}", "--measurement", f"snp={'cd' * 48}"
    result, [leaf] = published("release", *measured)
    assert not result.exit_code
    assert leaf.measurements == {"tpm": b"\xab" * 32, "snp": b"\xcd" * 48}


@pytest.mark.parametrize(
    "measurements",
    [
        ["tpm"],
        ["tpm=xy"],
        ["tpm=ab"],
        [f"other={'ab' * 32}"],
        [f"tpm={'ab' * 32}", f"tpm={'cd' * 32}"],
    ],
)
def test_what_is_no_measurement_is_not_published(published, measurements):
    words = [word for text in measurements for word in ("--measurement", text)]
    result, leaves = published("release", *words)
    assert result.exit_code == 2
    assert not leaves
