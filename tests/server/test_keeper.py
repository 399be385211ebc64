"""What the keeper does, and everything it refuses."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace

import pytest

from server.errors import PeerGone, ProtocolError
from server.keeper import CapsuleState, Keeper, Keyring, answer
from server.keeper_control import KeeperControl
from server.keeper_messages import (
    MAX_CHECKED,
    Binding,
    CheckRequest,
    ContextRequest,
    LeafRequest,
    NewGeneration,
    Packet,
    PublicKeys,
    Statement,
    encode_generation,
)
from server.sockets import packet_pair, receive_packet, send_packet
from transparency.leaf import Leaf, NodeLeaf, RoleKeys
from wire import ohttp, receipt
from wire.hpke import Aead, ContextSecrets, Kdf, Kem, RecipientContext, setup_sender

NOW = 1_800_000_047
DOCUMENT, MODEL = b"D" * 32, b"M" * 32
STATEMENT = Statement(b"q" * 32, b"a" * 32, 5, 7, 11, b"d" * 32, 1, 2, 3)


def keyring_with(*generations: int) -> tuple[Keyring, dict[int, PublicKeys]]:
    keyring, keys = Keyring(os.urandom, lambda: NOW), {}
    for number in generations:
        order = NewGeneration(number, 2 * number, 2 * number + 1)
        keys[number] = PublicKeys.decode(keyring.control(order.encode()))
        keyring.control(Binding(number, DOCUMENT, MODEL, "full", "sealed").encode())
        keyring.control(encode_generation(Packet.OPEN, number))
    return keyring, keys


def context_request(
    key: bytes, key_id: int, kem: Kem = Kem.XWING, *, chunked: bool = True
) -> tuple[ContextRequest, object]:
    header = ohttp.Header(key_id, kem, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    enc, sender = setup_sender(header.suite, key, ohttp.request_info(header, chunked=chunked))
    return ContextRequest(chunked, header.encode(), enc), sender


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("kem", list(Kem))
def test_a_context_opens_what_was_sealed_to_its_enc(kem, chunked):
    keyring, keys = keyring_with(3)
    key, key_id = (keys[3].x25519, 6) if kem is Kem.X25519 else (keys[3].xwing, 7)
    request, sender = context_request(key, key_id, kem, chunked=chunked)

    packet = keyring.context(CapsuleState(), request.encode())
    assert packet[0] == Packet.CONTEXT_OK
    assert packet[1:33] == DOCUMENT
    context = RecipientContext.from_secrets(ContextSecrets.from_bytes(packet[33:]))
    assert context.open(b"", sender.seal(b"", b"hello")) == b"hello"


def test_a_second_context_is_refused():
    keyring, keys = keyring_with(0)
    state = CapsuleState()
    keyring.context(state, context_request(keys[0].xwing, 1)[0].encode())

    with pytest.raises(ProtocolError, match="second CONTEXT"):
        keyring.context(state, context_request(keys[0].xwing, 1)[0].encode())


def test_a_receipt_says_what_the_capsule_states_and_the_keeper_knows():
    keyring, keys = keyring_with(0)
    state = CapsuleState()
    keyring.context(state, context_request(keys[0].xwing, 1)[0].encode())
    packet = keyring.sign(state, STATEMENT.encode())

    signed = receipt.verify(packet[1:], keys[0].receipt)
    assert (signed.key_document, signed.model_digest) == (DOCUMENT, MODEL)
    assert (signed.request_hash, signed.response_hash) == (b"q" * 32, b"a" * 32)
    assert (signed.prompt_tokens, signed.completion_tokens) == (5, 7)
    assert signed.verification == receipt.Verification("full", 11, b"d" * 32)
    assert signed.transfers == receipt.Transfers("sealed", 1, 2, 3)
    assert signed.issued_at == NOW // 60 * 60


def test_a_receipt_is_signed_once_and_only_for_a_context():
    keyring, keys = keyring_with(0)
    state = CapsuleState()
    with pytest.raises(ProtocolError, match="out of turn"):
        keyring.sign(state, STATEMENT.encode())
    keyring.context(state, context_request(keys[0].xwing, 1)[0].encode())
    keyring.sign(state, STATEMENT.encode())
    with pytest.raises(ProtocolError, match="out of turn"):
        keyring.sign(state, STATEMENT.encode())


def test_a_key_that_is_unknown_erased_or_not_open_is_one_and_the_same_answer():
    keyring, keys = keyring_with(0, 1)
    request = context_request(keys[0].xwing, 1)[0].encode()
    keyring.control(encode_generation(Packet.ERASE, 0))
    keyring.control(NewGeneration(2, 4, 5).encode())

    for packet in (
        request,
        context_request(keys[0].xwing, 200)[0].encode(),
        context_request(keys[0].xwing, 5)[0].encode(),  # made, not open
        context_request(keys[1].x25519, 3, Kem.X25519)[0].encode(),  # the id of the X-Wing key
    ):
        assert keyring.context(CapsuleState(), packet) == bytes([Packet.UNKNOWN_KEY])


def test_a_degenerate_enc_is_refused():
    keyring, keys = keyring_with(0)
    request = context_request(keys[0].x25519, 0, Kem.X25519)[0]
    zeros = ContextRequest(request.chunked, request.header, bytes(32))

    assert keyring.context(CapsuleState(), zeros.encode()) == bytes([Packet.BAD_ENC])


@pytest.mark.parametrize(
    "packet",
    [
        bytes([99]),
        bytes([Packet.CONTEXT]),
        bytes([Packet.CONTEXT, 2]) + bytes(7 + 32),
        bytes([Packet.CONTEXT, 1]) + bytes(7 + 33),
        bytes([Packet.SIGN]) + bytes(10),
        STATEMENT.encode() + b"\0",
        bytes([Packet.CONTEXT_OK]),
        NewGeneration(7, 14, 15).encode(),
        encode_generation(Packet.ERASE, 0),
    ],
)
def test_a_capsule_can_ask_nothing_else(packet):
    keyring, _ = keyring_with(0)
    with pytest.raises(ProtocolError):
        answer(keyring, CapsuleState(), packet)
    assert 0 in keyring.generations


def test_an_enc_of_the_other_length_is_refused():
    keyring, keys = keyring_with(0)
    request = context_request(keys[0].xwing, 1)[0]
    header = ohttp.Header(0, Kem.X25519, Kdf.HKDF_SHA256, Aead.AES_128_GCM).encode()

    with pytest.raises(ProtocolError):
        keyring.context(CapsuleState(), ContextRequest(True, header, request.enc).encode())


def test_the_leaf_is_over_the_bound_document_and_signed_with_its_receipt_key():
    keyring, keys = keyring_with(0)
    packet = keyring.control(LeafRequest(0, b"B" * 32, NOW + 99).encode())

    leaf = Leaf.decode(packet[1:])
    assert leaf.key == keys[0].receipt
    body = leaf.verify(RoleKeys(b"r" * 32, b"i" * 32, b"l" * 32))
    assert body == NodeLeaf(DOCUMENT, b"B" * 32, NOW + 99)


@pytest.mark.parametrize(
    "packet",
    [
        NewGeneration(0, 90, 91).encode(),  # the number is taken
        NewGeneration(5, 0, 91).encode(),  # a key id is
        NewGeneration(5, 90, 90).encode(),  # one id for two keys
        Binding(0, b"X" * 32, MODEL, "none", "none").encode(),  # bound already
        Binding(5, DOCUMENT, MODEL, "none", "none").encode(),  # no such generation
        LeafRequest(5, b"B" * 32, 1).encode(),
        encode_generation(Packet.OPEN, 5),
        bytes([Packet.BIND]) + bytes(4 + 64) + b"\x09\x00",
        bytes([Packet.CONTEXT]),
        bytes([Packet.NEW]),
    ],
)
def test_the_launcher_cannot_do_things_out_of_order(packet):
    keyring, _ = keyring_with(0)
    with pytest.raises(ProtocolError):
        keyring.control(packet)
    assert keyring.generations[0].binding.key_document == DOCUMENT


def test_a_generation_must_be_bound_before_it_opens():
    keyring = Keyring(os.urandom, lambda: NOW)
    keyring.control(NewGeneration(0, 0, 1).encode())
    with pytest.raises(ProtocolError):
        keyring.control(encode_generation(Packet.OPEN, 0))


def test_a_capsule_in_flight_gets_its_receipt_after_its_generation_is_erased():
    keyring, keys = keyring_with(0)
    state = CapsuleState()
    keyring.context(state, context_request(keys[0].xwing, 1)[0].encode())
    keyring.control(encode_generation(Packet.ERASE, 0))

    receipt.verify(keyring.sign(state, STATEMENT.encode())[1:], keys[0].receipt)


def test_keys_come_from_fresh_randomness_of_their_own():
    drawn = []

    def random(length: int) -> bytes:
        drawn.append(os.urandom(length))
        return drawn[-1]

    Keyring(random, lambda: NOW).control(NewGeneration(0, 0, 1).encode())
    assert [len(seed) for seed in drawn] == [32, 32, 32]


# ---- what the front may ask ----


def check_request(keys: PublicKeys, *, kem: Kem = Kem.XWING, final: bool = True) -> CheckRequest:
    """A question about a request that opens, to the keys of generation 0."""
    key, key_id = (keys.x25519, 0) if kem is Kem.X25519 else (keys.xwing, 1)
    request, sender = context_request(key, key_id, kem)
    ciphertext = sender.seal(b"final" if final else b"", b"hello")
    return CheckRequest(True, final, request.header, request.enc, ciphertext)


@pytest.mark.parametrize("kem", list(Kem))
@pytest.mark.parametrize("final", [True, False])
def test_the_front_learns_whether_a_request_will_open_and_nothing_else(kem, final):
    keyring, keys = keyring_with(0)
    good = check_request(keys[0], kem=kem, final=final)
    assert keyring.check(good.encode()) == bytes([Packet.AUTHENTIC])
    for change in (
        {"ciphertext": os.urandom(40)},
        {"final": not final},
        {"chunked": False},
        {"enc": bytes(len(good.enc))},
        {"enc": os.urandom(len(good.enc))},
    ):
        assert keyring.check(replace(good, **change).encode()) == bytes([Packet.BAD_ENC])


def test_a_check_under_a_key_there_is_not_is_the_unknown_key_of_a_capsule():
    keyring, keys = keyring_with(0)
    good = check_request(keys[0])
    for first, rest in ((9, good.header[1:]), (0, good.header[1:]), (1, b"\x64\x7a\0\1\0\x09")):
        packet = replace(good, header=bytes([first]) + rest).encode()
        assert keyring.check(packet) == bytes([Packet.UNKNOWN_KEY])


@pytest.mark.parametrize(
    "change",
    [
        {"ciphertext": bytes(15)},
        {"ciphertext": bytes(MAX_CHECKED + 1)},
        {"enc": b""},
        {"header": b"\1\x64\x7b\0\1\0\1"},
    ],
)
def test_a_check_of_another_layout_is_refused(change):
    keyring, keys = keyring_with(0)
    with pytest.raises(ProtocolError):
        keyring.check(replace(check_request(keys[0]), **change).encode())


# ---- the loop ----


@pytest.fixture
def running():
    launcher, control = packet_pair()
    zygote, capsules = packet_pair()
    front, checks = packet_pair()
    front.settimeout(10)
    keeper = Keeper(control, checks, capsules, Keyring(os.urandom, lambda: NOW))
    thread = threading.Thread(target=keeper.serve)
    thread.start()
    yield KeeperControl(launcher), zygote, front
    launcher.close()
    thread.join(10)
    assert not thread.is_alive()
    zygote.close()
    front.close()


def new_capsule(zygote: socket.socket) -> socket.socket:
    ours, theirs = packet_pair()
    send_packet(zygote, b"capsule", theirs)
    theirs.close()
    ours.settimeout(10)
    return ours


def test_the_loop_serves_the_launcher_and_each_capsule_on_its_own_socket(running):
    control, zygote, _ = running
    keys = control.make(0, 0, 1)
    control.bind(Binding(0, DOCUMENT, MODEL, "none", "none"))
    control.open(0)
    capsules = [new_capsule(zygote) for _ in range(3)]
    for capsule in capsules:
        send_packet(capsule, context_request(keys.xwing, 1)[0].encode())
    for capsule in capsules:
        assert receive_packet(capsule)[0][0] == Packet.CONTEXT_OK
        send_packet(capsule, STATEMENT.encode())
        assert receive_packet(capsule)[0][0] == Packet.RECEIPT


@pytest.mark.parametrize("packet", [b"\x63", b"\x01short", STATEMENT.encode(), b"\x01" * 70000])
def test_a_capsule_that_asks_anything_else_loses_its_connection_and_nobody_else_does(
    running, packet
):
    control, zygote, _ = running
    keys = control.make(0, 0, 1)
    control.bind(Binding(0, DOCUMENT, MODEL, "none", "none"))
    control.open(0)
    bad, good = new_capsule(zygote), new_capsule(zygote)
    send_packet(bad, packet)
    with pytest.raises(PeerGone):
        receive_packet(bad)

    send_packet(good, context_request(keys.xwing, 1)[0].encode())
    assert receive_packet(good)[0][0] == Packet.CONTEXT_OK


def test_a_capsule_cannot_slip_the_keeper_a_descriptor(running):
    _, zygote, _ = running
    capsule = new_capsule(zygote)
    extra, _ = packet_pair()
    send_packet(capsule, STATEMENT.encode(), extra)
    with pytest.raises(PeerGone):
        receive_packet(capsule)


def test_the_loop_answers_the_front_in_order_and_a_flood_keeps_no_capsule_waiting(running):
    control, zygote, front = running
    keys = control.make(0, 0, 1)
    control.bind(Binding(0, DOCUMENT, MODEL, "none", "none"))
    control.open(0)
    good = check_request(keys).encode()
    garbage = good[:-1] + bytes([good[-1] ^ 1])
    for _ in range(16):
        send_packet(front, garbage)
        send_packet(front, good)
    capsule = new_capsule(zygote)
    send_packet(capsule, context_request(keys.xwing, 1)[0].encode())
    assert receive_packet(capsule)[0][0] == Packet.CONTEXT_OK
    answers = [receive_packet(front)[0][0] for _ in range(32)]
    assert answers == [Packet.BAD_ENC, Packet.AUTHENTIC] * 16


@pytest.mark.parametrize("packet", [b"\x63", NewGeneration(7, 14, 15).encode(), STATEMENT.encode()])
def test_the_front_can_ask_nothing_else_either(running, packet):
    _, _, front = running
    send_packet(front, packet)
    with pytest.raises(PeerGone):
        receive_packet(front)
