"""The keeper: the only process that has private keys, and all it will do with them.

It parses packets of fixed layout (`keeper_messages`), never a request. For the front it says
whether a request is authentic, without decrypting it, so that what is not costs no capsule. For a
capsule it decapsulates the one `enc` of that capsule's own request and hands over that one context;
later it signs one receipt, whose key document, model and time it fills in itself. For a capsule of
the direct port it signs the transcript of one TLS handshake, in the form that only a TLS 1.3 server
signs; that key never leaves it either. The launcher makes, binds, opens and erases generations of
keys.

The life of a generation:

    NEW     made      keys exist, nobody else knows them
    BIND    bound     its key document is fixed, once
    LEAF    bound     its node leaf is signed, for the log
    OPEN    open      the log has it: `enc` is decapsulated
    ERASE   gone      keys dropped, and overwritten by the allocator

Whatever is left is erased when the keeper ends. A capsule that has its context when the generation
goes may still have its receipt signed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.control import DIRECT_CAPSULE
from server.errors import PeerGone, ProtocolError
from server.keeper_messages import (
    Binding,
    CheckRequest,
    ContextRequest,
    HandshakeRequest,
    LeafRequest,
    NewGeneration,
    Packet,
    PublicKeys,
    Statement,
    decode_generation,
)
from server.sockets import receive_packet, send_packet
from server.tls_certificate import new_key, self_signed
from transparency.leaf import NodeLeaf, sign_leaf
from wire import ohttp, receipt
from wire.chunks import FINAL
from wire.errors import OpenFailed, WireError
from wire.hpke import ContextSecrets, Kem, PrivateKey, setup_recipient
from wire.tag_check import check_first
from wire.tls13_messages import to_be_signed

MINUTE_S = 60


@dataclass
class Generation:
    """The private keys of one key document, and what its receipts will say."""

    keys: dict[int, PrivateKey]
    receipt_key: Ed25519PrivateKey
    tls_key: ec.EllipticCurvePrivateKey | None = None
    binding: Binding | None = None
    opened: bool = False


@dataclass
class CapsuleState:
    """What one capsule has asked so far: nothing, its context, or its receipt as well.

    In place of a context, one of the `direct` port has its handshake signed.
    """

    direct: bool = False
    generation: Generation | None = None
    signed: bool = False


@dataclass
class Keyring:
    """The generations, and every operation on them. No input or output.

    Args:
        random: returns that many random bytes.
        clock: Unix seconds.
    """

    random: Callable[[int], bytes]
    clock: Callable[[], float]
    generations: dict[int, Generation] = field(default_factory=dict)

    def control(self, packet: bytes) -> bytes:
        """Carry out one packet from the launcher and return the answer.

        Raises:
            ProtocolError: malformed, or not its turn in the life of the generation.
        """
        kind = packet[0]
        if kind == Packet.NEW:
            return self._make(NewGeneration.decode(packet)).encode()
        if kind == Packet.BIND:
            self._bind(Binding.decode(packet))
        elif kind == Packet.LEAF:
            return bytes([Packet.SIGNED]) + self._sign_leaf(LeafRequest.decode(packet))
        elif kind == Packet.OPEN:
            self._bound(decode_generation(packet))[0].opened = True
        elif kind == Packet.ERASE:
            self._erase(decode_generation(packet))
        else:
            raise ProtocolError("a packet the keeper does not know")
        return bytes([Packet.DONE])

    def context(self, state: CapsuleState, packet: bytes) -> bytes:
        """Answer a capsule's CONTEXT: its context secrets, or why there are none.

        Raises:
            ProtocolError: malformed, or asked before.
        """
        request = ContextRequest.decode(packet)
        if state.direct or state.generation is not None:
            raise ProtocolError("a second CONTEXT, or one for the direct port")
        found = self._decapsulate(request.chunked, request.header, request.enc)
        if isinstance(found, Packet):
            return bytes([found])
        generation, binding, secrets = found
        state.generation = generation
        return bytes([Packet.CONTEXT_OK]) + binding.key_document + secrets.to_bytes()

    def handshake(self, state: CapsuleState, packet: bytes) -> bytes:
        """Answer a direct capsule's HANDSHAKE: the signature of its TLS handshake, or why none.

        Raises:
            ProtocolError: malformed, asked before, or not from the direct port.
        """
        request = HandshakeRequest.decode(packet)
        if not state.direct or state.generation is not None:
            raise ProtocolError("a second HANDSHAKE, or one that is not of the direct port")
        generation = self._direct_generation(request.key_document)
        if generation is None or generation.tls_key is None:
            return bytes([Packet.UNKNOWN_KEY])
        state.generation = generation
        signed = to_be_signed(request.transcript_hash)
        signature = generation.tls_key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return bytes([Packet.SIGNATURE]) + signature

    def check(self, packet: bytes) -> bytes:
        """Answer the front's CHECK: whether its ciphertext is authentic, or why not.

        Raises:
            ProtocolError: malformed.
        """
        request = CheckRequest.decode(packet)
        found = self._decapsulate(request.chunked, request.header, request.enc)
        if isinstance(found, Packet):
            return bytes([found])
        try:
            check_first(found[2], FINAL if request.final else b"", request.ciphertext)
        except OpenFailed:
            return bytes([Packet.BAD_ENC])
        return bytes([Packet.AUTHENTIC])

    def _decapsulate(
        self, chunked: bool, header: bytes, enc: bytes
    ) -> tuple[Generation, Binding, ContextSecrets] | Packet:
        """Return the context of an `enc` and the generation it is under, or why there is none."""
        try:
            parsed, enc, rest = ohttp.split(header + enc)
        except WireError:
            return Packet.UNKNOWN_KEY
        if rest:
            raise ProtocolError("an enc that is not of the header's KEM")
        found = self._open_generation(parsed.key_id)
        if found is None or found[0].keys[parsed.key_id].kem != parsed.kem:
            return Packet.UNKNOWN_KEY
        info = ohttp.request_info(parsed, chunked=chunked)
        try:
            opened = setup_recipient(parsed.suite, found[0].keys[parsed.key_id], enc, info)
        except WireError:
            return Packet.BAD_ENC
        return *found, opened.secrets

    def sign(self, state: CapsuleState, packet: bytes) -> bytes:
        """Answer a capsule's SIGN with its receipt.

        Raises:
            ProtocolError: malformed, no context was given, or asked before.
        """
        statement = Statement.decode(packet)
        if state.generation is None or state.generation.binding is None or state.signed:
            raise ProtocolError("a SIGN out of turn")
        state.signed = True
        binding = state.generation.binding
        signed = receipt.sign(self._receipt(statement, binding), state.generation.receipt_key)
        return bytes([Packet.RECEIPT]) + signed

    def _receipt(self, statement: Statement, binding: Binding) -> receipt.Receipt:
        return receipt.Receipt(
            key_document=binding.key_document,
            request_hash=statement.request_hash,
            response_hash=statement.response_hash,
            model_digest=binding.model_digest,
            prompt_tokens=statement.prompt_tokens,
            completion_tokens=statement.completion_tokens,
            verification=receipt.Verification(
                mode=binding.verification, checks=statement.checks, decisions=statement.decisions
            ),
            transfers=receipt.Transfers(
                mode=binding.transfers,
                sent=statement.sent,
                hits=statement.hits,
                misses=statement.misses,
            ),
            issued_at=int(self.clock()) // MINUTE_S * MINUTE_S,
        )

    def _make(self, order: NewGeneration) -> PublicKeys:
        taken = {key_id for made in self.generations.values() for key_id in made.keys}
        ids = {order.x25519_id, order.xwing_id}
        if order.generation in self.generations or len(ids) != 2 or taken & ids:
            raise ProtocolError("a generation or a key id that is in use")
        x25519 = PrivateKey.generate(Kem.X25519, self.random(32))
        xwing = PrivateKey.generate(Kem.XWING, self.random(32))
        receipt_key = Ed25519PrivateKey.from_private_bytes(self.random(32))
        keys = {order.x25519_id: x25519, order.xwing_id: xwing}
        made = Generation(keys, receipt_key)
        certificate = b""
        if order.direct:
            made.tls_key = new_key(self.random)
            certificate = self_signed(made.tls_key, self.random, int(self.clock()))
        self.generations[order.generation] = made
        public = receipt_key.public_key().public_bytes_raw()
        return PublicKeys(x25519.public_bytes, xwing.public_bytes, public, certificate)

    def _bind(self, binding: Binding) -> None:
        generation = self.generations.get(binding.generation)
        if generation is None or generation.binding is not None:
            raise ProtocolError("a BIND of no generation, or of one that is bound")
        generation.binding = binding

    def _sign_leaf(self, order: LeafRequest) -> bytes:
        generation, binding = self._bound(order.generation)
        body = NodeLeaf(binding.key_document, order.bundle_digest, order.not_after)
        return sign_leaf(body, generation.receipt_key).encode()

    def _bound(self, number: int) -> tuple[Generation, Binding]:
        generation = self.generations.get(number)
        if generation is None or generation.binding is None:
            raise ProtocolError("no such generation, or it is not bound")
        return generation, generation.binding

    def _open_generation(self, key_id: int) -> tuple[Generation, Binding] | None:
        for generation in self.generations.values():
            if generation.opened and generation.binding is not None and key_id in generation.keys:
                return generation, generation.binding
        return None

    def _direct_generation(self, key_document: bytes) -> Generation | None:
        for generation in self.generations.values():
            binding = generation.binding
            if generation.opened and binding is not None and binding.key_document == key_document:
                return generation
        return None

    def _erase(self, number: int) -> None:
        self.generations.pop(number, None)
        gc.collect()  # what still refers to the keys in a cycle goes now, and is overwritten

    def erase_all(self) -> None:
        """Drop every key there is: the keeper ends."""
        self.generations.clear()
        gc.collect()


def answer(keyring: Keyring, state: CapsuleState, packet: bytes) -> bytes:
    """Answer one packet of a capsule.

    Raises:
        ProtocolError: anything but CONTEXT, or on the direct port HANDSHAKE, once, and then SIGN
            once.
    """
    if packet[0] == Packet.HANDSHAKE:
        return keyring.handshake(state, packet)
    if packet[0] == Packet.CONTEXT:
        return keyring.context(state, packet)
    if packet[0] == Packet.SIGN:
        return keyring.sign(state, packet)
    raise ProtocolError("a packet that capsules do not send")


class Ended(BaseException):
    """SIGTERM came. Not an Exception: nothing on the way may take it for an error."""


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing interrupts the erasing
    raise Ended


class Keeper:
    """The keeper's loop: one thread, packets in, packets out.

    Args:
        control: the launcher's socket; when it ends, so does the loop.
        front: where the front asks what is authentic.
        capsules: where the zygote passes each new capsule's socket.
        keyring: what is asked.
    """

    def __init__(
        self,
        control: socket.socket,
        front: socket.socket,
        capsules: socket.socket,
        keyring: Keyring,
    ) -> None:
        self._control = control
        self._front = front
        self._capsules = capsules
        self._keyring = keyring
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Answer until the launcher's socket ends; whatever ends it, every key is erased then."""
        try:
            self._serve()
        finally:
            self._selector.close()  # and with it what it knows of capsules, their generations
            self._keyring.erase_all()

    def _serve(self) -> None:
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        self._front.setblocking(False)
        self._selector.register(self._front, selectors.EVENT_READ, self._on_front)
        self._selector.register(self._capsules, selectors.EVENT_READ, self._on_new_capsule)
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
        except PeerGone:
            return

    def _on_control(self) -> None:
        packet, _ = receive_packet(self._control)
        send_packet(self._control, self._keyring.control(packet))

    def _on_front(self) -> None:
        # One a turn: under a flood of checks, capsules and launcher are heard in between. The front
        # reads its answers as they come; should it not, or go wrong, the worker ends with it.
        try:
            packet, _ = receive_packet(self._front)
            send_packet(self._front, self._keyring.check(packet))
        except (PeerGone, ProtocolError, BlockingIOError):
            self._selector.unregister(self._front)
            self._front.close()

    def _on_new_capsule(self) -> None:
        kind, sockets = receive_packet(self._capsules, sockets=1)
        (capsule,) = sockets
        capsule.setblocking(False)
        state = CapsuleState(direct=kind == DIRECT_CAPSULE)
        self._selector.register(
            capsule, selectors.EVENT_READ, lambda: self._on_capsule(capsule, state)
        )

    def _on_capsule(self, capsule: socket.socket, state: CapsuleState) -> None:
        # A capsule parses what strangers send. Whatever it does wrong costs it its connection,
        # and a full socket buffer is wrong too: the keeper waits for nobody.
        try:
            packet, _ = receive_packet(capsule)
            send_packet(capsule, answer(self._keyring, state, packet))
        except (PeerGone, ProtocolError, BlockingIOError):
            self._selector.unregister(capsule)
            capsule.close()


def run(control: socket.socket, front: socket.socket, capsules: socket.socket) -> None:
    """Be the keeper, until the launcher's socket ends or SIGTERM comes."""
    signal.signal(signal.SIGTERM, _end)
    with contextlib.suppress(Ended):
        Keeper(control, front, capsules, Keyring(os.urandom, time.time)).serve()
