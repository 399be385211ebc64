"""Role keys follow each other, statements are withdrawn, and neither can be hidden again."""

from dataclasses import replace

import pytest

from transparency.amendments import MAX_AMENDMENTS, KeyRotationLeaf, Role, WithdrawalLeaf
from transparency.current import CURRENT_LEAVES, Current
from transparency.errors import (
    AmendmentMissing,
    BadSignature,
    Malformed,
    WrongAmendment,
    WrongList,
    WrongRole,
)
from transparency.leaf import LeafType, ModelLeaf, ReleaseLeaf, RoleKeys, sign_leaf
from transparency.nodes_document import SeenCheckpoint
from transparency.roles import RoleHistory
from wire.merkle import leaf_hash


def rotation(world, role, old, new):
    return KeyRotationLeaf.make(role, world.public(old), world.key(new))


def listed(log, *rows, signer="list"):
    return log.document(log.add(log.list_body(*rows), signer))


@pytest.mark.parametrize("role", Role)
def test_a_role_is_handed_on_by_the_key_that_has_it(world, role):
    leaf = sign_leaf(rotation(world, role, role, "next"), world.key(role))
    body = leaf.verify(world.roles)
    history = RoleHistory(world.roles)
    history.rotate(5, body)
    assert history.at(5) == world.roles
    assert history.at(6) == history.current == replace(world.roles, **{role: world.public("next")})


def test_a_rotation_needs_both_keys(world):
    body = rotation(world, Role.RELEASE, "release", "next")
    for signer in ("issuer", "next", "stranger"):
        with pytest.raises(WrongRole):
            sign_leaf(body, world.key(signer)).verify(world.roles)
    unwilling = (
        replace(body, possession=bytes(64)),
        replace(body, key=world.public("another")),
        rotation(world, Role.LIST, "release", "next"),
        rotation(world, Role.RELEASE, "issuer", "next"),
    )
    for made in unwilling:
        forged = replace(made, role=Role.RELEASE)
        with pytest.raises(BadSignature):
            sign_leaf(forged, world.key("release")).verify(world.roles)


def test_no_key_has_a_role_twice(world):
    history = RoleHistory(world.roles)
    history.rotate(0, rotation(world, Role.RELEASE, "release", "next"))
    for back in ("release", "issuer", "next"):
        with pytest.raises(WrongRole):
            history.rotate(1, rotation(world, Role.LIST, "list", back))
    assert history.current.list == world.roles.list


def test_role_keys_are_three(world):
    with pytest.raises(Malformed):
        RoleKeys(world.public("a"), world.public("a"), world.public("b"))
    with pytest.raises(Malformed):
        RoleKeys(world.public("a"), world.public("b"), b"short")


def test_a_client_follows_rotations_from_its_trust_file(world):
    log = world.fake_log()
    log.add(ReleaseLeaf("1", {"simulated": world.seed("m")}), "release")
    log.add_rotation(Role.RELEASE, "release", "release 2")
    log.add(ReleaseLeaf("2", {"simulated": world.seed("n")}), "release 2")
    log.add_rotation(Role.RELEASE, "release 2", "release 3")
    log.add_rotation(Role.LIST, "list", "list 2")
    log.add(ReleaseLeaf("3", {"simulated": world.seed("o")}), "release 3")
    nodes = world.verify(listed(log, log.add_node("one"), signer="list 2"))
    assert [release.version for release in nodes.releases] == ["1", "2", "3"]
    assert nodes.role_keys.release == world.public("release 3")
    assert nodes.role_keys.issuer == world.roles.issuer
    assert len(nodes.seen.amendments) == 3


@pytest.mark.parametrize("signer", ["release", "release 2"])
def test_a_leaf_is_judged_by_its_place(world, signer):
    """The old key signs nothing after the rotation, the new one nothing before it."""
    log = world.fake_log()
    if signer == "release 2":
        log.add(ModelLeaf("m", world.seed("m")), signer)
    log.add_rotation(Role.RELEASE, "release", "release 2")
    if signer == "release":
        log.add(ModelLeaf("m", world.seed("m")), signer)
    with pytest.raises(WrongRole):
        world.verify(listed(log, log.add_node("one")))


def test_a_list_by_the_old_list_key_is_refused(world):
    log = world.fake_log()
    log.add_rotation(Role.LIST, "list", "list 2")
    with pytest.raises(WrongRole):
        world.verify(listed(log, log.add_node("one"), signer="list"))


def test_a_second_rotation_by_the_same_key_is_refused(world):
    log = world.fake_log()
    log.add_rotation(Role.RELEASE, "release", "release 2")
    log.add_rotation(Role.RELEASE, "release", "release 3")
    with pytest.raises(WrongRole):
        world.verify(listed(log, log.add_node("one")))


@pytest.mark.parametrize("amendment", ["rotation", "withdrawal"])
def test_an_amendment_that_was_seen_cannot_be_hidden(world, amendment):
    log, _ = world.fleet()
    if amendment == "rotation":
        index = log.add_rotation(Role.ISSUER, "issuer", "issuer 2")
    else:
        index = log.add(WithdrawalLeaf(leaf_hash(b"old"), "a flaw"), "release")
    row = log.add_node("three")
    document = listed(log, row)
    nodes = [leaf for leaf in document.leaves if leaf.index not in (4, 5)]
    bundles = {row.node: log.bundles[row.node]}
    document = replace(document, leaves=tuple(nodes), bundles=bundles)
    seen = world.verify(document).seen
    assert SeenCheckpoint.decode(seen.encode()) == seen
    hidden = replace(document, leaves=tuple(leaf for leaf in nodes if leaf.index != index))
    with pytest.raises(WrongList):
        world.verify(hidden, replace(seen, amendments=()))
    # Even under a list that commits to the document without it.
    lying = world.fake_log()
    lying.add_statements()
    log.add(
        replace(log.list_body(row, epoch=world.epoch + 1), statements=lying.statements()), "list"
    )
    lie = log.document(len(log.entries) - 1)
    leaves = [leaf for leaf in lie.leaves if leaf.index not in (4, 5, index)]
    lie = replace(lie, leaves=tuple(leaves), bundles=bundles)
    later = world.at + world.epoch_seconds
    assert world.verify(lie, None, later)
    old = replace(seen, checkpoint=log.note())
    with pytest.raises(AmendmentMissing) as error:
        world.verify(lie, old, later)
    assert error.value.amendment == seen.amendments[0]
    assert error.value.node_list == log.entries[-1]


def test_a_list_commits_to_its_statements(world):
    log, index = world.fleet()
    document = log.document(index)
    for without in (0, 1, 2, 3):
        leaves = tuple(leaf for leaf in document.leaves if leaf.index != without)
        with pytest.raises(WrongList, match="commits"):
            world.verify(replace(document, leaves=leaves))
    log.add(ModelLeaf("another", world.seed("m")), "release")
    with pytest.raises(WrongList, match="commits"):
        world.verify(log.document(index))


def test_a_withdrawn_statement_is_not_shown(world):
    log = world.fake_log()
    log.add_statements()
    log.add(WithdrawalLeaf(leaf_hash(log.entries[0]), "a flaw"), "release")
    with pytest.raises(WrongList, match="withdrawn"):
        world.verify(listed(log, log.add_node("one")))


def current_of(world, *bodies):
    current = Current()
    for index, body in enumerate(bodies):
        current.add(index, body, world.seed(f"leaf {index}"))
    return current


def test_a_withdrawal_leaves_a_gap(world):
    newest = CURRENT_LEAVES[LeafType.POLICY]
    releases = [ReleaseLeaf(str(i), {"tdx": bytes(48)}) for i in range(newest + 1)]
    current = current_of(world, *releases, WithdrawalLeaf(world.seed("leaf 5"), "a flaw"))
    assert current.statements(newest + 1, 0) == list(range(1, newest + 1))
    shown = current.statements(newest + 2, 0)
    assert shown == [i for i in range(1, newest + 2) if i != 5]
    assert current.current_statements(0) == tuple(
        release for i, release in enumerate(releases) if i not in (0, 5)
    )


def test_a_withdrawal_withdraws_something_that_stands(world):
    release = ReleaseLeaf("1", {"tdx": bytes(48)})
    key = rotation(world, Role.ISSUER, "issuer", "issuer 2")
    current = current_of(world, release, key)
    current.check_amendment(WithdrawalLeaf(world.seed("leaf 0"), "a flaw"))
    for target in ("leaf 1", "nothing"):
        with pytest.raises(WrongAmendment):
            current.check_amendment(WithdrawalLeaf(world.seed(target), "a flaw"))
    current.add(2, WithdrawalLeaf(world.seed("leaf 0"), "a flaw"), world.seed("leaf 2"))
    with pytest.raises(WrongAmendment):
        current.check_amendment(WithdrawalLeaf(world.seed("leaf 0"), "again"))


def test_a_log_takes_so_many_amendments_and_no_more(world):
    key = rotation(world, Role.ISSUER, "issuer", "issuer 2")
    current = current_of(world, *[key] * MAX_AMENDMENTS)
    with pytest.raises(WrongAmendment, match="room"):
        current.check_amendment(key)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "log"},
        {"key": bytes(31)},
        {"possession": bytes(63)},
    ],
)
def test_a_rotation_in_another_form_is_malformed(world, change):
    body = rotation(world, Role.ISSUER, "issuer", "issuer 2")
    with pytest.raises(Malformed):
        KeyRotationLeaf.decode(replace(body, **change).encode())
