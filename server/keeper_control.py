"""The launcher's side of the keeper: a generation made, bound, opened, erased."""

from __future__ import annotations

import socket

from server.keeper_messages import (
    Binding,
    LeafRequest,
    NewGeneration,
    Packet,
    PublicKeys,
    encode_generation,
)
from server.sockets import receive_packet, send_packet


class KeeperControl:
    """The launcher's side of the keeper.

    Every method raises PeerGone when the keeper has gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def make(
        self, generation: int, x25519_id: int, xwing_id: int, *, direct: bool = False
    ) -> PublicKeys:
        """Make the keys of a generation; return their public halves."""
        order = NewGeneration(generation, x25519_id, xwing_id, direct)
        return PublicKeys.decode(self._ask(order.encode()))

    def bind(self, binding: Binding) -> None:
        """Fix the key document of a generation."""
        self._ask(binding.encode())

    def sign_leaf(self, generation: int, bundle_digest: bytes, not_after: int) -> bytes:
        """Return the generation's signed node leaf, encoded."""
        return self._ask(LeafRequest(generation, bundle_digest, not_after).encode())[1:]

    def open(self, generation: int) -> None:
        """Let capsules have contexts of this generation."""
        self._ask(encode_generation(Packet.OPEN, generation))

    def erase(self, generation: int) -> None:
        """Drop a generation's keys."""
        self._ask(encode_generation(Packet.ERASE, generation))

    def _ask(self, packet: bytes) -> bytes:
        send_packet(self._socket, packet)
        return receive_packet(self._socket)[0]
