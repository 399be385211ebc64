"""Whom a client believes: one forgery for each thing the policy looks at."""

from dataclasses import replace

import pytest

from transparency import note
from transparency.errors import (
    BadCosignature,
    BadSignature,
    Malformed,
    QuorumMissing,
    Unsigned,
    WrongOrigin,
)
from transparency.note import KeyType, Note, NoteSignature, Signer
from transparency.policy import CLOCK_TOLERANCE_S, LogPolicy


@pytest.fixture
def log(world):
    log, _ = world.fleet()
    return log


def signer(world, name, kind=KeyType.COSIGNATURE):
    return Signer.from_seed(name, kind, world.seed(name))


def changed(data, **changes):
    return replace(Note.parse(data), **changes).encode()


def test_a_quorum_of_witnesses_is_believed(world, log):
    checkpoint = world.policy.verify(log.note(), world.at)
    assert (checkpoint.size, checkpoint.root) == (log.tree.size, log.tree.root())


def test_one_witness_too_few_is_not_believed(world, log):
    with pytest.raises(QuorumMissing):
        world.policy.verify(log.note(witnesses=world.witnesses[:1]), world.at)


def test_a_witness_that_cosigned_twice_counts_once(world, log):
    first, at = world.witnesses[0], world.at
    parsed = Note.parse(log.note(at - 5, witnesses=(first,)))
    again = note.cosign(parsed.text, first, at - 3)
    twice = replace(parsed, signatures=(*parsed.signatures, again)).encode()
    with pytest.raises(QuorumMissing, match="1 witnesses"):
        world.policy.verify(twice, at)


def test_unknown_witnesses_are_ignored(world, log):
    stranger = signer(world, "witness.example/stranger")
    with pytest.raises(QuorumMissing):
        world.policy.verify(log.note(witnesses=(world.witnesses[0], stranger)), world.at)
    data = log.note(witnesses=(*world.witnesses[:2], stranger))
    assert world.policy.verify(data, world.at).size == log.tree.size


def test_a_stranger_under_a_witness_name_is_ignored(world, log):
    name = world.witnesses[1].name
    impostor = Signer.from_seed(name, KeyType.COSIGNATURE, world.seed("impostor"))
    with pytest.raises(QuorumMissing):
        world.policy.verify(log.note(witnesses=(world.witnesses[0], impostor)), world.at)


def test_a_cosignature_that_does_not_verify_refuses_the_whole_note(world, log):
    parsed = Note.parse(log.note(witnesses=world.witnesses))
    bad = replace(parsed.signatures[3], signature=bytes(72))
    with pytest.raises(BadCosignature):
        world.policy.verify(
            changed(parsed.encode(), signatures=(*parsed.signatures[:3], bad)), world.at
        )


def test_an_old_cosignature_does_not_count(world, log):
    data, age = log.note(world.at), world.policy.max_cosignature_age_s
    world.policy.verify(data, world.at + age)
    with pytest.raises(QuorumMissing):
        world.policy.verify(data, world.at + age + 1)


def test_a_cosignature_from_the_future_does_not_count(world, log):
    data = log.note(world.at + CLOCK_TOLERANCE_S)
    world.policy.verify(data, world.at)
    with pytest.raises(QuorumMissing):
        world.policy.verify(data, world.at - 1)


def test_another_logs_checkpoint_is_refused(world, log):
    other = signer(world, "other.example", KeyType.ED25519)
    with pytest.raises(WrongOrigin):
        world.policy.verify(log.note(log=other), world.at)


def test_another_key_under_the_origin_is_refused(world, log):
    impostor = Signer.from_seed(world.log.name, KeyType.ED25519, world.seed("impostor"))
    with pytest.raises(Unsigned):
        world.policy.verify(log.note(log=impostor), world.at)


def test_a_note_that_the_log_did_not_sign_is_refused(world, log):
    parsed = Note.parse(log.note())
    with pytest.raises(Unsigned):
        world.policy.verify(changed(parsed.encode(), signatures=parsed.signatures[1:]), world.at)


def test_a_log_signature_that_does_not_verify_is_refused(world, log):
    parsed = Note.parse(log.note())
    key = world.log.verifier_key
    bad = NoteSignature(key.name, key.key_id, bytes(64))
    data = changed(parsed.encode(), signatures=(bad, *parsed.signatures[1:]))
    with pytest.raises(BadSignature):
        world.policy.verify(data, world.at)


def test_a_changed_root_is_refused(world, log):
    text = Note.parse(log.note()).text.replace("\n7\n", "\n6\n")
    assert "\n6\n" in text
    with pytest.raises(BadSignature):
        world.policy.verify(changed(log.note(), text=text), world.at)


@pytest.mark.parametrize("quorum", [0, -1, 4])
def test_a_policy_demands_witnesses_that_exist(world, quorum):
    with pytest.raises(Malformed):
        replace(world.policy, quorum=quorum)


def test_a_policy_with_one_witness_under_two_names_is_refused(world):
    first = world.witnesses[0]
    alias = Signer("witness.example/alias", KeyType.COSIGNATURE, first.private_key)
    keys = (str(first.verifier_key), str(alias.verifier_key))
    with pytest.raises(Malformed, match="distinct"):
        LogPolicy(world.policy.log_vkey, keys, 2)


def test_a_log_cannot_be_its_own_witness(world):
    own = Signer("witness.example/own", KeyType.COSIGNATURE, world.log.private_key)
    with pytest.raises(Malformed, match="distinct"):
        LogPolicy(world.policy.log_vkey, (str(own.verifier_key),), 1)


def test_keys_of_the_wrong_type_are_refused(world):
    log, witness = world.policy.log_vkey, world.policy.witness_vkeys[0]
    other = str(signer(world, "w", KeyType.ED25519).verifier_key)
    for keys in [(witness, (witness,)), (log, (other,)), ("", (witness,)), (log, ("",))]:
        with pytest.raises(Malformed):
            LogPolicy(*keys, 1)


def test_an_age_that_nothing_can_meet_is_refused(world):
    with pytest.raises(Malformed):
        replace(world.policy, max_cosignature_age_s=0)


def test_a_policys_origin_is_the_name_of_the_logs_key(world):
    assert world.policy.origin == world.log.name
