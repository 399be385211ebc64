"""The nodes document: what it proves, and one forgery for each thing its verifier looks at."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transparency.errors import (
    BadCosignature,
    BadSignature,
    ConsistencyMissing,
    Inconsistent,
    Malformed,
    NotIncluded,
    QuorumMissing,
    RolledBack,
    StaleEpoch,
    TransparencyError,
    TwoLists,
    WrongBundle,
    WrongList,
    WrongOrigin,
    WrongRole,
)
from transparency.leaf import Leaf, ListedNode, ModelLeaf, NodeListLeaf, sign_leaf
from transparency.nodes_document import ConsistencyProof, NodesDocument, SeenCheckpoint
from transparency.note import KeyType, Signer


@pytest.fixture
def fleet(world):
    return world.fleet()


@pytest.fixture(scope="module")
def honest(world):
    log, index = world.fleet()
    return log.document(index).encode()


def next_epoch(world, log, **changes):
    """The document of the epoch after the present one, and a time within it."""
    log.earlier = [*log.earlier, log.tree.size]
    rows = NodeListLeaf.decode(Leaf.decode(log.entries[-1]).body).nodes
    index = log.add_list(*rows, epoch=world.epoch + 1)
    return log.document(index, **changes), world.at + world.epoch_seconds


def test_an_honest_document_is_believed(world, honest):
    nodes = world.verify(honest)
    assert (nodes.epoch, nodes.not_before) == (world.epoch, world.start)
    assert nodes.not_after == world.start + world.epoch_seconds
    digests = sorted([world.seed("one"), world.seed("two")])
    assert [row.key_document_digest for row in nodes.nodes] == digests
    assert {row.model for row in nodes.nodes} == {"tinychat"}
    assert nodes.bundles[world.seed("one").hex()] == b"bundle of one"
    assert nodes.receipt_keys[world.seed("two")] == world.public("receipt two")
    assert nodes.node_leaves[world.seed("one")].not_after == world.start + 7200
    assert [release.version for release in nodes.releases] == ["0.1.0"]
    assert [model.name for model in nodes.models] == ["tinychat"]
    assert [policy.policy for policy in nodes.policies] == [b'{"version":1}']
    assert [key.issuer_name for key in nodes.issuer_keys] == ["issuer.example"]
    assert nodes.checkpoint.size == 7


def test_the_same_document_is_believed_again(world, honest):
    seen = world.verify(honest).seen
    assert world.verify(honest, SeenCheckpoint.decode(seen.encode())).seen == seen


def test_the_next_epochs_document_continues_the_last(world, fleet):
    log, index = fleet
    seen = world.verify(log.document(index)).seen
    document, at = next_epoch(world, log, checkpoint=b"")
    document = replace(document, checkpoint=log.note(at - 5))
    nodes = world.verify(document, seen, at)
    assert nodes.epoch == world.epoch + 1
    assert nodes.seen != seen


def test_a_stale_list_is_refused(world, honest):
    world.verify(honest, at=world.start + world.epoch_seconds - 1)
    for at in (world.start + world.epoch_seconds, world.start - 1):
        with pytest.raises(StaleEpoch):
            world.verify(honest, at=at)


def test_a_list_published_ahead_is_not_yet_believed(world, fleet):
    document, at = next_epoch(world, fleet[0])
    with pytest.raises(StaleEpoch):
        world.verify(document, at=at - world.epoch_seconds)


def test_two_lists_for_one_epoch_are_told_apart_and_convict(world, fleet):
    log, index = fleet
    seen = world.verify(log.document(index)).seen
    log.earlier = [log.tree.size]
    second = log.add_list(ListedNode(world.seed("one"), "tinychat", 8))
    leaves = tuple(log.proven(i) for i in (0, 1, 2, 3, 4))
    bundles = {world.seed("one").hex(): b"bundle of one"}
    document = log.document(second, leaves=leaves, bundles=bundles)
    world.verify(document)
    with pytest.raises(TwoLists) as caught:
        world.verify(document, seen)
    assert (caught.value.first, caught.value.second) == (log.entries[index], log.entries[second])


def test_a_rolled_back_log_is_refused_with_both_checkpoints(world, fleet):
    log, index = fleet
    old = log.document(index)
    document, at = next_epoch(world, log)
    seen = world.verify(document, at=at).seen
    with pytest.raises(RolledBack) as caught:
        world.verify(replace(old, checkpoint=log.note(size=7)), seen)
    assert caught.value.older == seen.checkpoint
    assert caught.value.newer == log.note(size=7)


def test_a_forked_log_is_refused_with_both_checkpoints(world, fleet):
    log, index = fleet
    seen = world.verify(log.document(index)).seen
    fork = world.fake_log()
    fork.add(ModelLeaf("another", world.seed("model")), "release")
    fork.add_statements()
    rows = [fork.add_node("one"), fork.add_node("two")]
    fork.earlier = [7]
    document = fork.document(fork.add_list(*rows))
    world.verify(document)
    with pytest.raises(Inconsistent) as caught:
        world.verify(document, seen)
    assert caught.value.older == seen.checkpoint
    assert caught.value.newer == document.checkpoint
    assert caught.value.proof == document.consistency[0].proof


def test_another_tree_of_the_same_size_is_refused(world, fleet):
    log, index = fleet
    seen = world.verify(log.document(index)).seen
    fork = world.fake_log()
    fork.add_statements()
    rows = [fork.add_node("one"), fork.add_node("three")]
    document = fork.document(fork.add_list(*rows))
    with pytest.raises(Inconsistent):
        world.verify(document, seen)


def test_a_client_that_was_away_too_long_brings_its_own_proof(world, fleet):
    log, index = fleet
    seen = world.verify(log.document(index)).seen
    document, at = next_epoch(world, log, consistency=())
    with pytest.raises(ConsistencyMissing) as caught:
        world.verify(document, seen, at)
    assert (caught.value.old_size, caught.value.new_size) == (7, 8)
    world.verify(document, seen, at, bridge=log.tree.consistency_proof(7, 8))
    with pytest.raises(Inconsistent):
        world.verify(document, seen, at, bridge=())


def test_a_wrong_consistency_proof_is_refused(world, fleet):
    log, index = fleet
    seen = world.verify(log.document(index)).seen
    document, at = next_epoch(world, log)
    wrong = ConsistencyProof(7, (*document.consistency[0].proof[:-1], bytes(32)))
    with pytest.raises(Inconsistent):
        world.verify(replace(document, consistency=(wrong,)), seen, at)


def test_the_checkpoint_last_seen_must_be_of_the_same_log(world, fleet):
    log, index = fleet
    other = Signer.from_seed("other.example", KeyType.ED25519, bytes(32))
    seen = SeenCheckpoint(log.note(log=other), log.entries[index])
    with pytest.raises(Malformed):
        world.verify(log.document(index), seen)


def test_the_checkpoint_must_satisfy_the_policy(world, fleet):
    log, index = fleet
    other = Signer.from_seed("other.example", KeyType.ED25519, bytes(32))
    for checkpoint, error in (
        (log.note(witnesses=world.witnesses[:1]), QuorumMissing),
        (log.note(world.at + 3600), QuorumMissing),
        (log.note(world.at - 90_000), QuorumMissing),
        (log.note(log=other), WrongOrigin),
        (_spoil_last_signature(log.note()), BadCosignature),
    ):
        with pytest.raises(error):
            world.verify(log.document(index, checkpoint=checkpoint))


def _spoil_last_signature(note):
    return note[:-7] + (b"B" if note[-7:-6] == b"A" else b"A") + note[-6:]


def test_a_leaf_that_is_not_in_the_tree_is_refused(world, fleet):
    log, index = fleet
    document = log.document(index)
    other = sign_leaf(ModelLeaf("another", world.seed("model")), world.key("release")).encode()
    forged = replace(document.leaves[1], leaf=other)
    with pytest.raises(NotIncluded):
        world.verify(replace(document, leaves=(document.leaves[0], forged, *document.leaves[2:])))
    with pytest.raises(NotIncluded):
        world.verify(replace(document, node_list=replace(document.node_list, index=5)))
    with pytest.raises(NotIncluded):
        world.verify(replace(document, node_list=replace(document.node_list, proof=())))


def test_a_leaf_of_the_wrong_role_is_refused_though_it_is_in_the_tree(world):
    log = world.fake_log()
    log.add(ModelLeaf("tinychat", world.seed("model")), "issuer")
    index = log.add_list()
    with pytest.raises(WrongRole):
        world.verify(log.document(index))


def test_a_list_of_the_wrong_role_is_refused(world):
    log = world.fake_log()
    index = log.add_list(signer="release")
    with pytest.raises(WrongRole):
        world.verify(log.document(index))


def test_a_leaf_with_a_bad_signature_is_refused_though_it_is_in_the_tree(world):
    log = world.fake_log()
    leaf = sign_leaf(ModelLeaf("tinychat", world.seed("model")), world.key("release"))
    log.add_leaf(replace(leaf, signature=bytes(64)))
    index = log.add_list()
    with pytest.raises(BadSignature):
        world.verify(log.document(index))


def test_a_swapped_bundle_is_refused(world, fleet):
    log, index = fleet
    one, two = world.seed("one").hex(), world.seed("two").hex()
    for bundles in (
        {one: b"bundle of two", two: b"bundle of one"},
        {one: b"bundle of one", two: b"bundle of two "},
        {one: b"", two: b"bundle of two"},
    ):
        with pytest.raises(WrongBundle):
            world.verify(log.document(index, bundles=bundles))


def test_missing_and_further_bundles_are_refused(world, fleet):
    log, index = fleet
    one = world.seed("one").hex()
    for bundles in ({}, {one: b"bundle of one"}, {**log.bundles, "00" * 32: b""}):
        with pytest.raises(WrongList):
            world.verify(log.document(index, bundles=bundles))


def test_a_listed_node_without_its_leaf_is_refused(world, fleet):
    log, index = fleet
    document = log.document(index)
    with pytest.raises(WrongList):
        world.verify(replace(document, leaves=document.leaves[:-1]))


def test_a_node_that_is_not_listed_is_refused(world, fleet):
    log, _ = fleet
    index = log.add_list(ListedNode(world.seed("one"), "tinychat", 1))
    with pytest.raises(WrongList):
        world.verify(log.document(index))


def test_two_leaves_for_one_node_are_refused(world):
    log = world.fake_log()
    row = log.add_node("one")
    log.add_node("one", bundle=b"another bundle")
    with pytest.raises(WrongList):
        world.verify(log.document(log.add_list(row)))


def test_a_node_that_runs_out_within_the_epoch_is_refused(world):
    end = world.start + world.epoch_seconds
    for not_after, error in ((end, None), (end - 1, WrongList)):
        log = world.fake_log()
        index = log.add_list(log.add_node("one", not_after))
        if error is None:
            world.verify(log.document(index))
        else:
            with pytest.raises(error):
                world.verify(log.document(index))


def test_a_list_that_is_not_valid_for_exactly_its_epoch_is_refused(world):
    for shift in ((0, 1), (-1, 0)):
        log = world.fake_log()
        start, end = world.start + shift[0], world.start + world.epoch_seconds + shift[1]
        index = log.add(NodeListLeaf(world.epoch, start, end, (), log.statements()), "list")
        with pytest.raises(WrongList):
            world.verify(log.document(index))


def test_a_second_list_or_another_leaf_in_the_lists_place_is_refused(world, fleet):
    log, index = fleet
    document = log.document(index)
    with pytest.raises(WrongList):
        world.verify(replace(document, leaves=(*document.leaves, document.node_list)))
    with pytest.raises(WrongList):
        world.verify(replace(document, node_list=document.leaves[0]))


def test_an_issuer_key_out_of_its_time_is_not_handed_out(world):
    log = world.fake_log()
    log.add_statements()
    index = log.add_list()
    assert world.verify(log.document(index)).issuer_keys
    late = log.add_list(epoch=world.epoch + 144)
    at = world.start + 144 * world.epoch_seconds
    document = log.document(late, checkpoint=log.note(at))
    assert world.verify(document, at=at).issuer_keys == ()


def test_the_document_has_one_encoding(honest):
    members = json.loads(honest)
    for other in (
        honest + b"\n",
        json.dumps(members).encode(),
        json.dumps({**members, "extra": 1}, separators=(",", ":"), sort_keys=True).encode(),
        honest.replace(b'"index":6', b'"index":6.0'),
        honest.replace(b'"consistency":[]', b'"consistency":{}'),
        b'{"checkpoint":"",' + honest[1:],
    ):
        with pytest.raises(Malformed):
            NodesDocument.decode(other)


def test_leaves_and_sizes_come_in_ascending_order(fleet):
    log, index = fleet
    document = log.document(index)
    for changes in (
        {"leaves": document.leaves[::-1]},
        {"leaves": (document.leaves[0], *document.leaves)},
        {"consistency": (ConsistencyProof(5, ()), ConsistencyProof(4, ()))},
    ):
        with pytest.raises(Malformed):
            NodesDocument.decode(replace(document, **changes).encode())


@given(cut=st.integers(0, 100_000))
def test_no_truncated_document_is_accepted(world, honest, cut):
    with pytest.raises(Malformed):
        world.verify(honest[: cut % len(honest)])


@given(position=st.integers(0, 100_000), bit=st.integers(0, 7))
def test_no_bit_of_a_document_can_be_changed(world, honest, position, bit):
    data = bytearray(honest)
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(TransparencyError):
        world.verify(bytes(data))


@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_document_or_malformed(data):
    with pytest.raises(Malformed):
        NodesDocument.decode(data)
    with pytest.raises(Malformed):
        SeenCheckpoint.decode(data)


def test_a_remembered_checkpoint_must_hold_a_list(fleet):
    log, _ = fleet
    with pytest.raises(Malformed):
        SeenCheckpoint.decode(SeenCheckpoint(log.note(), log.entries[0]).encode())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"index":0', f'"index":{2**53}', 1),
        lambda text: text.replace('"index":0', '"index":-1', 1),
        lambda text: text.replace('"index":0', '"index":true', 1),
        lambda text: text.replace('{"bundles"', '{"bundles":{},"bundles"', 1),
        lambda text: text.replace('"index":0', '"index":0,"index":0', 1),
    ],
)
def test_numbers_out_of_range_and_members_named_twice_are_malformed(honest, spoil):
    text = honest.decode() if isinstance(honest, bytes) else honest.encode().decode()
    spoiled = spoil(text)
    assert spoiled != text
    with pytest.raises(Malformed):
        NodesDocument.decode(spoiled.encode())


def test_a_document_of_more_than_64_mib_is_refused_unread():
    with pytest.raises(Malformed, match="64"):
        NodesDocument.decode(bytes((64 << 20) + 1))


def test_a_remembered_checkpoint_is_text(fleet):
    seen = SeenCheckpoint(fleet[0].note(), fleet[0].entries[-1]).encode()
    with pytest.raises(Malformed):
        SeenCheckpoint.decode(seen.replace(b'"checkpoint":"', b'"checkpoint":"\\ud800'))
