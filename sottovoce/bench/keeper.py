"""A real keeper, in a process of its own, with one generation of keys."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server import keeper
from server.hardening import die_with
from server.keeper_messages import Binding, NewGeneration, Packet, PublicKeys, encode_generation
from server.sockets import packet_pair, receive_packet, send_packet
from wire.hpke import Aead, Kdf, Kem
from wire.key_config import KeyConfig

_X25519_ID, _XWING_ID = 1, 2
_GENERATION = 1


@dataclass(frozen=True)
class RunningKeeper:
    """A keeper as others see it.

    `front` is the front's socket to it, `configs` are its keys.
    """

    pid: int
    front: socket.socket
    capsules: socket.socket
    configs: dict[Kem, KeyConfig]

    @contextmanager
    def new_capsule(self) -> Iterator[socket.socket]:
        """Give a new capsule's socket to the keeper, and close it in the end."""
        ours, theirs = packet_pair()
        send_packet(self.capsules, b"capsule", theirs)
        theirs.close()
        with ours:
            yield ours


@contextmanager
def running_keeper() -> Iterator[RunningKeeper]:
    """Run a keeper until the end of the context."""
    pairs = [packet_pair() for _ in range(3)]
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            for ours, _ in pairs:
                ours.close()
            keeper.run(*(theirs for _, theirs in pairs))
        finally:
            os._exit(0)
    for _, theirs in pairs:
        theirs.close()
    control, front, capsules = (ours for ours, _ in pairs)
    try:
        yield RunningKeeper(pid, front, capsules, _make_keys(control))
    finally:
        for sock in (control, front, capsules):  # the keeper ends with its launcher's socket
            sock.close()
        os.waitpid(pid, 0)


def _make_keys(control: socket.socket) -> dict[Kem, KeyConfig]:
    order = NewGeneration(_GENERATION, _X25519_ID, _XWING_ID)
    public = PublicKeys.decode(_ask(control, order.encode()))
    _ask(control, Binding(_GENERATION, bytes(32), bytes(32), "none", "none").encode())
    _ask(control, encode_generation(Packet.OPEN, _GENERATION))
    offered = ((Kdf.HKDF_SHA256, Aead.AES_128_GCM),)
    return {
        Kem.X25519: KeyConfig(_X25519_ID, Kem.X25519, public.x25519, offered),
        Kem.XWING: KeyConfig(_XWING_ID, Kem.XWING, public.xwing, offered),
    }


def _ask(control: socket.socket, packet: bytes) -> bytes:
    send_packet(control, packet)
    return receive_packet(control)[0]
