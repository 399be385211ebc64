"""One made-up generation of keys, taken through everything a keeper does, and dropped.

A confined keeper cannot open files (`server.sandbox`): whatever a library imports or loads when it
is first used must have been used before. None of these keys ever leaves this page.
"""

from __future__ import annotations

import os
import time

from server.keeper import CapsuleState, Keyring
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
    encode_generation,
)
from wire import ohttp
from wire.hpke import Aead, Kdf, Kem, setup_sender

_ZEROS = bytes(32)
_IDS = {Kem.X25519: 0, Kem.XWING: 1}


def rehearse() -> None:
    """Make keys, bind, sign, open, check, and erase them."""
    keyring = Keyring(os.urandom, time.time)
    order = NewGeneration(0, _IDS[Kem.X25519], _IDS[Kem.XWING], direct=True)
    public = PublicKeys.decode(keyring.control(order.encode()))
    keyring.control(Binding(0, _ZEROS, _ZEROS, "none", "none").encode())
    keyring.control(LeafRequest(0, _ZEROS, 0).encode())
    keyring.control(encode_generation(Packet.OPEN, 0))
    for kem, key in ((Kem.X25519, public.x25519), (Kem.XWING, public.xwing)):
        _ask(keyring, kem, key)
    keyring.handshake(CapsuleState(direct=True), HandshakeRequest(_ZEROS, _ZEROS).encode())
    keyring.control(encode_generation(Packet.ERASE, 0))


def _ask(keyring: Keyring, kem: Kem, key: bytes) -> None:
    header = ohttp.Header(_IDS[kem], kem, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    enc, _ = setup_sender(header.suite, key, ohttp.request_info(header, chunked=True))
    state = CapsuleState()
    keyring.check(CheckRequest(True, True, header.encode(), enc, _ZEROS).encode())
    keyring.context(state, ContextRequest(True, header.encode(), enc).encode())
    keyring.sign(state, Statement(_ZEROS, _ZEROS, 0, 0, 0, _ZEROS, 0, 0, 0).encode())
