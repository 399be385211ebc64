"""What the launcher tells the front and the zygote, and what these two tell each other.

    launcher -> zygote   {"issuer": [base64 SPKI, ...]}     before the model, and when it changes
                         {"model": {...}}                   once
                         "B" a piece of a bundle ...        with a direct port: the generation that
                         {"direct": {...}}                  it shows from now on, and its bundle
    zygote   -> launcher READY                              when the first capsules wait
    launcher -> front    {"nodes": {node hex: base64 application/ohttp-keys}, "suspect": bool},
                                                            the oldest first, whenever a generation
                                                            comes or goes; suspect: its accelerator
                                                            failed a check
    zygote   -> front    number u32, with a socket          a new idle capsule
                         DROP_IDLE                          close those that are idle: out of date
    front    -> zygote   number u32                         that capsule is taken
    zygote   <-> door    as with the front
    zygote   -> keeper   CAPSULE or DIRECT_CAPSULE, with a socket
    door     -> capsule  CONNECTION, with a client's socket
    capsule  -> door     ADMIT, answered ADMITTED or BUSY

Packets between parts of one program, on sockets nobody else has: JSON, and no versions.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wire.key_config import KeyConfig, decode_list, encode_list

READY = b"ready"
DROP_IDLE = b"drop"
CAPSULE = b"capsule"
DIRECT_CAPSULE = b"direct"
CONNECTION = b"connection"
ADMIT, ADMITTED, BUSY = b"admit", b"admitted", b"busy"
_BUNDLE = b"B"
_PIECE = 64 * 1024
CAPSULE_NUMBER = struct.Struct(">I")


@dataclass(frozen=True)
class ModelMessage:
    """The model to serve, as the engine loaded it; `digest` is the model digest."""

    name: str
    folder: Path
    max_model_len: int
    vocab_size: int
    created: int
    token_budget: int
    digest: bytes

    def encode(self) -> bytes:
        """Encode the packet."""
        members = {**vars(self), "folder": str(self.folder), "digest": self.digest.hex()}
        return json.dumps({"model": members}).encode()


@dataclass(frozen=True)
class BundlePiece:
    """The next bytes of the bundle that a DirectMessage will be about."""

    data: bytes


@dataclass(frozen=True)
class DirectMessage:
    """The generation the direct port shows: a key document's digest and a certificate (DER)."""

    key_document: bytes
    certificate: bytes


def encode_direct(message: DirectMessage, bundle: bytes) -> list[bytes]:
    """Encode what the direct port is to show: packets in their order, since a bundle is long."""
    pieces = [_BUNDLE + bundle[at : at + _PIECE] for at in range(0, len(bundle), _PIECE)]
    members = {name: value.hex() for name, value in vars(message).items()}
    return [*pieces, json.dumps({"direct": members}).encode()]


def encode_issuer(spkis: Sequence[bytes]) -> bytes:
    """Encode the issuer's token keys."""
    return json.dumps({"issuer": [base64.b64encode(spki).decode() for spki in spkis]}).encode()


def decode_for_zygote(
    packet: bytes,
) -> ModelMessage | DirectMessage | BundlePiece | tuple[bytes, ...]:
    """Decode what the launcher told the zygote; a tuple is the issuer's token keys."""
    if packet.startswith(_BUNDLE):
        return BundlePiece(packet[1:])
    members: dict[str, Any] = json.loads(packet)
    if "direct" in members:
        direct = members["direct"].items()
        return DirectMessage(**{name: bytes.fromhex(value) for name, value in direct})
    if "issuer" in members:
        return tuple(base64.b64decode(spki) for spki in members["issuer"])
    model = members["model"]
    folder, digest = Path(model["folder"]), bytes.fromhex(model["digest"])
    return ModelMessage(**{**model, "folder": folder, "digest": digest})


@dataclass(frozen=True)
class NodesMessage:
    """What a worker is to those outside.

    Attributes:
        nodes: its names, the oldest first, and the key configs of each.
        suspect: whether its accelerator failed a check.
    """

    nodes: Mapping[str, Sequence[KeyConfig]]
    suspect: bool = False

    def encode(self) -> bytes:
        """Encode the packet."""
        keys = {
            node: base64.b64encode(encode_list(configs)).decode()
            for node, configs in self.nodes.items()
        }
        return json.dumps({"nodes": keys, "suspect": self.suspect}).encode()

    @classmethod
    def decode(cls, packet: bytes) -> NodesMessage:
        """Decode what the launcher told the front."""
        told = json.loads(packet)
        nodes: dict[str, str] = told["nodes"]
        keys = {node: decode_list(base64.b64decode(text)) for node, text in nodes.items()}
        return cls(keys, told["suspect"])
