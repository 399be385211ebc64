"""What the log counts as current: statements by age, nodes by evidence and by sign of life."""

import hashlib

import pytest

from transparency.admission import Admitted
from transparency.current import CURRENT_LEAVES, Current
from transparency.errors import AdmissionRefused
from transparency.leaf import LeafType, ModelLeaf

DIGEST = hashlib.sha256(b"key document").digest()
NODE = Admitted(DIGEST, bytes(32), "model", 1, not_after=10_000)


@pytest.fixture
def current():
    current = Current()
    current.admit(NODE, 1_000)
    return current


def test_a_node_that_adds_its_leaf_again_stays_listed(current):
    current.renew(DIGEST, 1_600)
    assert current.rows(2_400, renewed_since=1_200) == (NODE.row,)


def test_a_node_that_died_falls_out_of_the_list(current):
    assert current.rows(2_400, renewed_since=1_001) == ()


def test_a_node_falls_out_when_its_key_document_runs_out(current):
    assert current.rows(10_001, renewed_since=0) == ()
    current.forget(10_000)
    current.renew(DIGEST, 10_001)
    assert current.rows(0, renewed_since=0) == ()


def test_renewal_admits_nobody():
    current = Current()
    current.renew(DIGEST, 1_000)
    assert current.rows(0, renewed_since=0) == ()


def test_only_the_newest_statements_of_a_kind_are_current():
    current = Current()
    models = [ModelLeaf(f"m{i}", bytes(32)) for i in range(CURRENT_LEAVES[LeafType.MODEL] + 3)]
    for index, body in enumerate(models):
        current.add(index, body, bytes([index]))
    assert current.current_statements(0) == tuple(models[3:])


def test_a_list_has_room_for_so_many_nodes():
    current = Current()
    digests = [hashlib.sha256(b"%d" % i).digest() for i in range(251)]
    nodes = [Admitted(digest, bytes(32), "m" * 200, 1, not_after=10_000) for digest in digests]
    for node in nodes[:-1]:
        current.check_room(node)
        current.admit(node, 0)
    with pytest.raises(AdmissionRefused, match="room"):
        current.check_room(nodes[-1])
    current.check_room(nodes[0])  # it has its place already
