"""The witness: what it cosigns, and every answer with which it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from transparency import note
from transparency.errors import (
    AtAnotherSize,
    Malformed,
    StorageDamaged,
    WitnessRefusal,
)
from transparency.note import KeyType, NoteSignature, Signer, VerifierKey
from transparency.policy import LogPolicy
from transparency.witness import Witness, WitnessConfig, build_app
from transparency.witness_request import AddCheckpoint

# A log's three consecutive submissions, from the tests of filippo.io/torchwood's witness.
SIGSUM = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
SIGSUM_KEY = VerifierKey(
    SIGSUM,
    KeyType.ED25519,
    bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f"),
)
SUBMISSIONS = {
    1: f"""old 0

{SIGSUM}
1
KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

\N{EM DASH} {SIGSUM} \
UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=
""",
    3: f"""old 1
KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

{SIGSUM}
3
RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=

\N{EM DASH} {SIGSUM} \
UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=
""",
    5: f"""old 1
KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=
KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

{SIGSUM}
5
QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=

\N{EM DASH} {SIGSUM} \
UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=
""",
}


@pytest.fixture
def state(tmp_path):
    return tmp_path / "witness" / "state"


@pytest.fixture
def witness(world, state):
    return Witness(world.log.verifier_key, world.witnesses[0], state)


@pytest.fixture
def log(world):
    return world.fleet()[0]


def request(log, old, size=None, **changes):
    size = log.tree.size if size is None else size
    proof = log.tree.consistency_proof(min(old, size), size)
    members = {"old_size": old, "proof": proof, "note": log.note(size=size, witnesses=())}
    return AddCheckpoint(**{**members, **changes}).encode()


def refused(witness, body):
    with pytest.raises(WitnessRefusal) as caught:
        witness.add_checkpoint(body, 1000)
    return caught.value.status


@pytest.mark.parametrize("second", [3, 5])
def test_another_implementations_submissions_are_cosigned(world, state, second):
    witness = Witness(SIGSUM_KEY, world.witnesses[0], state)
    for size in (1, second):
        line = witness.add_checkpoint(SUBMISSIONS[size].encode(), 1000)
        text = SUBMISSIONS[size].split("\n\n")[1] + "\n"
        parsed = NoteSignature.parse(line.removesuffix("\n"))
        assert note.verify_cosignature(text, parsed, world.witnesses[0].verifier_key) == 1000
        assert witness.size == size


def test_the_slower_of_two_submissions_does_not_roll_the_witness_back(world, state):
    witness = Witness(SIGSUM_KEY, world.witnesses[0], state)
    witness.add_checkpoint(SUBMISSIONS[1].encode(), 1000)
    witness.add_checkpoint(SUBMISSIONS[5].encode(), 1000)
    with pytest.raises(AtAnotherSize) as caught:
        witness.add_checkpoint(SUBMISSIONS[3].encode(), 1000)
    assert caught.value.size == witness.size == 5


def test_a_witness_follows_a_log(world, witness, log):
    for old, size in ((0, 1), (1, 4), (4, 4), (4, 7)):
        line = witness.add_checkpoint(request(log, old, size), world.at)
        text = log.note(size=size, witnesses=()).decode().split("\n\n")[0] + "\n"
        parsed = NoteSignature.parse(line.removesuffix("\n"))
        key = world.witnesses[0].verifier_key
        assert note.verify_cosignature(text, parsed, key) == world.at


def test_a_witness_remembers_through_a_restart(world, witness, state, log):
    witness.add_checkpoint(request(log, 0, 4), world.at)
    again = Witness(world.log.verifier_key, world.witnesses[0], state)
    assert again.size == 4
    assert refused(again, request(log, 0, 3)) == 409
    again.add_checkpoint(request(log, 4), world.at)


def test_a_checkpoint_from_another_size_is_answered_with_the_size(witness, log):
    with pytest.raises(AtAnotherSize) as caught:
        witness.add_checkpoint(request(log, 3), 1000)
    assert (caught.value.status, caught.value.size, str(caught.value)) == (409, 0, "0\n")


def test_another_root_for_the_same_size_is_refused(world, witness, log):
    fork = world.fake_log()
    rows = [fork.add_node(name) for name in ("a", "b", "c", "d", "e", "f")]
    fork.add_list(*rows)
    witness.add_checkpoint(request(log, 0), world.at)
    with pytest.raises(WitnessRefusal) as caught:
        witness.add_checkpoint(request(fork, 7), world.at)
    assert caught.value.status == 409
    assert not isinstance(caught.value, AtAnotherSize)


def test_a_fork_is_refused(world, witness, log):
    witness.add_checkpoint(request(log, 0, 4), world.at)
    fork = world.fake_log()
    for name in "abcdefg":
        fork.add_node(name)
    assert refused(witness, request(fork, 4)) == 422
    assert witness.size == 4


@pytest.mark.parametrize("proof", [(), (bytes(32),), (bytes(32),) * 3, (bytes(32),) * 63])
def test_a_proof_that_does_not_verify_is_refused(world, witness, log, proof):
    witness.add_checkpoint(request(log, 0, 4), world.at)
    assert refused(witness, request(log, 4, proof=proof)) == 422


def test_a_proof_where_none_is_needed_is_refused(witness, log):
    assert refused(witness, request(log, 0, proof=(bytes(32),))) == 422


def test_an_old_size_above_the_checkpoints_is_refused(witness, log):
    assert refused(witness, request(log, 8, 7, proof=())) == 400


def test_another_log_is_refused(witness, log):
    other = Signer.from_seed("other.example", KeyType.ED25519, bytes(32))
    assert refused(witness, request(log, 0, note=log.note(log=other))) == 404


def test_a_checkpoint_that_its_log_did_not_sign_is_refused(world, witness, log):
    impostor = Signer.from_seed(world.log.name, KeyType.ED25519, bytes(32))
    assert refused(witness, request(log, 0, note=log.note(log=impostor))) == 403
    signed = log.note(witnesses=()).replace(b"\n7\n", b"\n6\n")
    assert refused(witness, request(log, 0, note=signed)) == 403


@given(data=st.binary(max_size=200))
def test_any_other_bytes_are_a_bad_request(data):
    with pytest.raises(Malformed):
        AddCheckpoint.parse(data)


def test_other_spellings_of_a_request_are_refused(witness, log):
    body = request(log, 0)
    for changed in (
        body[:-1],
        body + b"\n",
        body.replace(b"old 0", b"old 00"),
        body.replace(b"old 0", b"old -1"),
        body.replace(b"old 0", b"Old 0"),
        body.replace(b"old 0\n", b""),
        body.replace(b"old 0\n", b"old 0\nAAAA\n"),
        body.replace(b"\n\n", b"\r\n\r\n", 1),
        "old \u0660\n\n".encode() + body.partition(b"\n\n")[2],
        request(log, 0, proof=(bytes(32),) * 64),
        body + bytes(1 << 18),
    ):
        assert refused(witness, changed) == 400


def test_a_damaged_state_is_not_taken_for_none(world, state):
    state.parent.mkdir()
    state.write_bytes(b"nonsense")
    with pytest.raises(StorageDamaged):
        Witness(world.log.verifier_key, world.witnesses[0], state)


@pytest.fixture
def service(world, state, tmp_path):
    seed = tmp_path / "seed"
    seed.write_text(world.seed("witness 0").hex() + "\n")
    seed.chmod(0o600)
    config = WitnessConfig("witness.example/w0", str(world.log.verifier_key), seed, state)
    return TestClient(build_app(config, clock=lambda: world.at))


def test_over_http_a_cosigned_note_satisfies_a_client(world, service, log):
    response = service.post("/add-checkpoint", content=request(log, 0))
    assert (response.status_code, response.text[0]) == (200, "\N{EM DASH}")
    policy = LogPolicy(world.policy.log_vkey, world.policy.witness_vkeys[:1], 1)
    policy.verify(log.note(witnesses=()) + response.content, world.at)
    health = service.get("/health").json()
    assert health == {"status": "ok", "size": 7, "key": world.policy.witness_vkeys[0]}


def test_over_http_refusals_have_the_specifications_form(service, log):
    response = service.post("/add-checkpoint", content=request(log, 3))
    assert (response.status_code, response.text) == (409, "0\n")
    assert response.headers["content-type"] == "text/x.tlog.size"
    assert service.post("/add-checkpoint", content=b"nonsense").status_code == 400
    assert service.post("/add-checkpoint", content=bytes(1 << 20)).status_code == 413
    assert service.get("/add-checkpoint").status_code == 405


def test_a_witness_remembers_one_note_and_no_more(world, witness, state, log):
    witness.add_checkpoint(request(log, 0), world.at)
    assert state.read_bytes() == log.note(witnesses=())
    assert list(state.parent.iterdir()) == [state]
