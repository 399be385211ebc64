"""Leaves: one encoding each, signed by the role that may say them."""

import hashlib
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transparency.errors import BadSignature, Malformed, TransparencyError, WrongRole
from transparency.leaf import (
    IssuerKeyLeaf,
    Leaf,
    LeafType,
    ListedNode,
    ModelLeaf,
    NodeLeaf,
    NodeListLeaf,
    PolicyLeaf,
    ReleaseLeaf,
    RoleKeys,
    WithdrawalLeaf,
    sign_leaf,
)
from wire import cbor

D = hashlib.sha256(b"digest").digest()
E = hashlib.sha256(b"another").digest()
POLICY = b'{"version":1}'
SIGNERS = {
    "release": ReleaseLeaf("0.1.0", {"simulated": D, "tdx": bytes(48)}),
    "release ": ModelLeaf("tinychat", D),
    "release  ": PolicyLeaf(hashlib.sha256(POLICY).digest(), POLICY),
    "issuer": IssuerKeyLeaf("issuer.example", b"spki", b"challenge", 10, 20),
    "receipt": NodeLeaf(D, E, 1000),
    "list": NodeListLeaf(
        7, 4200, 4800, tuple(sorted([ListedNode(D, "tinychat", 1), ListedNode(E, "other", 8)])), D
    ),
    "release   ": WithdrawalLeaf(E, "a flaw in the sampler"),
}
BODIES = [pytest.param(name.strip(), body, id=body.type) for name, body in SIGNERS.items()]


@pytest.mark.parametrize(("signer", "body"), BODIES)
def test_a_leaf_is_read_back_as_it_was_said(world, signer, body):
    data = sign_leaf(body, world.key(signer)).encode()
    leaf = Leaf.decode(data)
    assert leaf.encode() == data
    assert leaf.verify(world.roles) == body
    assert leaf.unverified_body() == body


def test_a_leafs_bytes_and_signed_message_are_those_of_the_format(world):
    leaf = sign_leaf(ModelLeaf("m", D), world.key("release"))
    body = b"\xa2\x64name\x61m\x66digest\x58\x20" + D
    assert leaf.body == body
    message = b"sottovoce leaf v1\nmodel\n" + body
    world.key("release").public_key().verify(leaf.signature, message)
    assert cbor2.loads(leaf.encode()) == {
        "type": "model",
        "body": body,
        "key": world.public("release"),
        "signature": leaf.signature,
    }


@pytest.mark.parametrize(("signer", "body"), BODIES)
def test_a_leaf_signed_by_another_role_is_refused(world, signer, body):
    others = {"release", "issuer", "list", "receipt"} - {signer}
    for other in others if signer != "receipt" else ():
        leaf = Leaf.decode(sign_leaf(body, world.key(other)).encode())
        with pytest.raises(WrongRole):
            leaf.verify(world.roles)


@pytest.mark.parametrize(("signer", "body"), BODIES)
def test_a_changed_body_signature_or_key_is_refused(world, signer, body):
    leaf = sign_leaf(body, world.key(signer))
    for changes in (
        {"body": leaf.body[:-1] + bytes([leaf.body[-1] ^ 1])},
        {"signature": bytes(64)},
    ):
        with pytest.raises(BadSignature):
            replace(leaf, **changes).verify(world.roles)
    with pytest.raises((WrongRole, BadSignature)):
        replace(leaf, key=world.public("stranger")).verify(world.roles)


def test_a_body_does_not_count_as_another_type(world):
    leaf = sign_leaf(ModelLeaf("tinychat", D), world.key("release"))
    with pytest.raises(BadSignature):
        replace(leaf, type=LeafType.POLICY).verify(world.roles)


@pytest.mark.parametrize(("signer", "body"), BODIES)
def test_truncated_and_extended_leaves_are_refused(world, signer, body):
    data = sign_leaf(body, world.key(signer)).encode()
    for cut in range(len(data)):
        with pytest.raises(Malformed):
            Leaf.decode(data[:cut])
    with pytest.raises(Malformed):
        Leaf.decode(data + b"\0")
    encoded = body.encode()
    for cut in range(len(encoded)):
        with pytest.raises(Malformed):
            type(body).decode(encoded[:cut])
    with pytest.raises(Malformed):
        type(body).decode(encoded + b"\0")


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), kind=st.sampled_from(BODIES))
def test_no_bit_of_a_leaf_can_be_changed(world, position, bit, kind):
    signer, body = kind.values
    data = bytearray(sign_leaf(body, world.key(signer)).encode())
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(TransparencyError):
        Leaf.decode(bytes(data)).verify(world.roles)


@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_leaf_or_malformed(data):
    with pytest.raises(Malformed):
        Leaf.decode(data)


def test_another_encoding_of_the_same_leaf_is_refused(world):
    leaf = sign_leaf(ModelLeaf("tinychat", D), world.key("release"))
    members = cbor2.loads(leaf.encode())
    unsorted = {name: members[name] for name in ("type", "signature", "body", "key")}
    with pytest.raises(Malformed):
        Leaf.decode(cbor2.dumps(unsorted))


@pytest.mark.parametrize(
    "members",
    [
        [],
        {},
        {"name": "m"},
        {"name": "m", "digest": D, "extra": 1},
        {"name": "", "digest": D},
        {"name": "x" * 257, "digest": D},
        {"name": "line\nbreak", "digest": D},
        {"name": b"m", "digest": D},
        {"name": "m", "digest": D[:-1]},
        {"name": "m", "digest": "text"},
    ],
)
def test_a_model_body_with_other_members_is_refused(members):
    with pytest.raises(Malformed):
        ModelLeaf.decode(cbor2.dumps(members, canonical=True))


def test_bodies_that_no_reader_would_take_are_not_signed(world):
    rows = (ListedNode(D, "m", 1), ListedNode(E, "m", 1))
    ordered = tuple(sorted(rows))
    for body in (
        ReleaseLeaf("0.1.0", {}),
        ReleaseLeaf("0.1.0", {"tdx": bytes(31)}),
        ReleaseLeaf("0.1.0", {"": D}),
        PolicyLeaf(D, POLICY),
        IssuerKeyLeaf("issuer", b"spki", b"c", 20, 20),
        IssuerKeyLeaf("issuer", b"", b"c", 10, 20),
        NodeLeaf(D, D, -1),
        NodeLeaf(D, D, True),
        NodeLeaf(D, D, 2**53),
        NodeListLeaf(1, 0, 600, ordered[::-1], D),
        NodeListLeaf(1, 0, 600, (ordered[0], ordered[0]), D),
        NodeListLeaf(1, 0, 600, (ListedNode(D, "m", 3),), D),
        NodeListLeaf(1, 0, 600, (ListedNode(D, "", 1),), D),
        NodeListLeaf(1, 0, 600, (ListedNode(D[:-1], "m", 1),), D),
        NodeListLeaf(1, 600, 0, (), D),
        PolicyLeaf(hashlib.sha256(bytes(65530)).digest(), bytes(65530)),
    ):
        with pytest.raises(Malformed):
            sign_leaf(body, world.key("release"))


def test_one_key_may_not_have_two_roles(world):
    with pytest.raises(Malformed):
        RoleKeys(world.public("a"), world.public("b"), world.public("a"))
    with pytest.raises(Malformed):
        RoleKeys(world.public("a"), world.public("b"), b"short")


def test_a_list_of_the_greatest_fleet_fits_an_entry(world):
    digests = sorted(hashlib.sha256(b"%d" % i).digest() for i in range(1024))
    rows = tuple(ListedNode(digest, "m" * 24, 8) for digest in digests)
    sign_leaf(NodeListLeaf(1, 0, 600, rows, D), world.key("list"))


@pytest.mark.parametrize("row", [[D, "m"], [D, "m", 1, 1], "row", {}])
def test_a_row_of_a_list_has_three_members(row):
    body = {"epoch": 1, "not_before": 0, "not_after": 600, "nodes": [row], "statements": D}
    with pytest.raises(Malformed):
        NodeListLeaf.decode(cbor.encode(body))


def test_a_list_has_so_many_rows_and_no_more():
    rows = [[i.to_bytes(32, "big"), "m", 1] for i in range(1025)]
    body = {"epoch": 1, "not_before": 0, "not_after": 600, "nodes": rows, "statements": D}
    with pytest.raises(Malformed, match="too many"):
        NodeListLeaf.decode(cbor.encode(body))
    assert NodeListLeaf.decode(cbor.encode(body | {"nodes": rows[:-1]}))
