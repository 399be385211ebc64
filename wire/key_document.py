"""The key document: what one node is, and the keys it may be spoken to with (DESIGN, section 4).

A deterministic CBOR map with text keys:

    {"version": 1,
     "key_configs": [bytes, bytes],   RFC 9458 key configs, an X-Wing and an X25519 one
     "receipt_key": bytes,            Ed25519, 32 bytes
     "tls_key": bytes / null,         SHA-256 of the direct port's SubjectPublicKeyInfo
     "model": text, "model_digest": bytes, "policy_digest": bytes,
     "device": text, "gpu_count": uint, "capacity": 1 / 2 / 4 / 8,
     "token_budget": uint,            prompt and completion tokens that one blind token pays for
     "not_before": uint, "not_after": uint}      unix seconds

A node is named by the SHA-256 of these bytes, so there is exactly one encoding of each document;
every other one is refused. A document lives for six hours at most: a stolen key is useless soon.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wire import cbor
from wire.errors import Malformed, Unsupported
from wire.hpke import Kem
from wire.key_config import KeyConfig

VERSION = 1
MAX_VALIDITY_S = 6 * 3600
CAPACITIES = (1, 2, 4, 8)
"""Few classes, so that a capacity does not single a node out (DESIGN, section 3, step 4)."""

DEFAULT_TOKEN_BUDGET = 4096
"""Tokens of the model, prompt and completion, that one blind token pays for where nothing else is
said: a chat of some length. Most requests then carry one token and so look alike."""

MAX_ENCODED = 16384
"""An X-Wing config is 1.2 kB; a document is below 2 kB. More is not a key document."""

_MAX_TIME = 2**40
_MAX_GPUS = 64
_MAX_BUDGET = 2**32
_MODEL = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
_DEVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MEMBERS = frozenset(
    {
        "version",
        "key_configs",
        "receipt_key",
        "tls_key",
        "model",
        "model_digest",
        "policy_digest",
        "device",
        "gpu_count",
        "capacity",
        "token_budget",
        "not_before",
        "not_after",
    }
)


@dataclass(frozen=True)
class KeyDocument:
    """What a node says of itself; its quote and the log say whether it is so.

    Attributes:
        key_configs: two RFC 9458 key configs with different key ids, at least one of them X-Wing.
        receipt_key: the raw Ed25519 public key (32 bytes) that signs the node's receipts.
        tls_key: SHA-256 of the direct port's SubjectPublicKeyInfo, or None without a direct port.
        model: the model's name, 1 to 200 printable ASCII characters.
        model_digest: Merkle root over the model's tensors and files, 32 bytes.
        policy_digest: SHA-256 of the engine policy, 32 bytes.
        device: the kind of device that computes: `cpu`, `cuda`.
        gpu_count: how many attested GPUs the node claims.
        capacity: the node's capacity class, one of 1, 2, 4, 8.
        token_budget: prompt and completion tokens that one blind token pays for, 1 to 2^32. In the
            document, and so in the log, it is the same for all clients of a node.
        not_before: unix seconds.
        not_after: unix seconds, at most six hours after `not_before`.

    Raises:
        Malformed: (on construction) a value of another type, length or range.
    """

    key_configs: tuple[KeyConfig, ...]
    receipt_key: bytes
    tls_key: bytes | None
    model: str
    model_digest: bytes
    policy_digest: bytes
    device: str
    gpu_count: int
    capacity: int
    not_before: int
    not_after: int
    token_budget: int = DEFAULT_TOKEN_BUDGET

    def __post_init__(self) -> None:
        _check_key_configs(self.key_configs)
        _check_bytes("receipt_key", self.receipt_key)
        if self.tls_key is not None:
            _check_bytes("tls_key", self.tls_key)
        _check_bytes("model_digest", self.model_digest)
        _check_bytes("policy_digest", self.policy_digest)
        _check_text("model", self.model, _MODEL)
        _check_text("device", self.device, _DEVICE)
        _check_integer("gpu_count", self.gpu_count, _MAX_GPUS)
        _check_integer("capacity", self.capacity, max(CAPACITIES))
        if self.capacity not in CAPACITIES:
            raise Malformed("key document: capacity is not one of the classes")
        _check_integer("token_budget", self.token_budget, _MAX_BUDGET)
        if not self.token_budget:
            raise Malformed("key document: a token that pays for nothing")
        _check_integer("not_before", self.not_before, _MAX_TIME)
        _check_integer("not_after", self.not_after, _MAX_TIME)
        if not 0 < self.not_after - self.not_before <= MAX_VALIDITY_S:
            raise Malformed("key document: validity is not positive and at most six hours")

    def encode(self) -> bytes:
        """Return the one encoding of this document."""
        return cbor.encode(
            {
                "version": VERSION,
                "key_configs": [config.encode() for config in self.key_configs],
                "receipt_key": self.receipt_key,
                "tls_key": self.tls_key,
                "model": self.model,
                "model_digest": self.model_digest,
                "policy_digest": self.policy_digest,
                "device": self.device,
                "gpu_count": self.gpu_count,
                "capacity": self.capacity,
                "token_budget": self.token_budget,
                "not_before": self.not_before,
                "not_after": self.not_after,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyDocument:
        """Decode a key document from its one encoding.

        Raises:
            Malformed: another shape, type, length, range or encoding; trailing bytes.
            Unsupported: another version, or a key config with an algorithm we do not take.
        """
        if len(data) > MAX_ENCODED:
            raise Malformed("key document: too long")
        members = cbor.decode(data)
        if not isinstance(members, dict) or members.keys() != _MEMBERS:
            raise Malformed("key document: not a map with exactly the members of the format")
        version = members.pop("version")
        _check_integer("version", version, 2**32)
        if version != VERSION:
            raise Unsupported("key document: another version")
        return cls(**members | {"key_configs": _decode_configs(members["key_configs"])})

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the encoding, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()

    @property
    def node(self) -> str:
        """The node's name: the digest in lower-case hex."""
        return self.digest.hex()


def _decode_configs(value: Any) -> tuple[KeyConfig, ...]:  # noqa: ANN401 - straight from CBOR
    if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
        raise Malformed("key document: key_configs is not a list of byte strings")
    return tuple(KeyConfig.decode(item) for item in value)


def _check_key_configs(configs: tuple[KeyConfig, ...]) -> None:
    if len(configs) != 2:
        raise Malformed("key document: not two key configs")
    if configs[0].key_id == configs[1].key_id:
        raise Malformed("key document: two key configs share a key id")
    if all(config.kem is not Kem.XWING for config in configs):
        raise Malformed("key document: no X-Wing key config")


def _check_bytes(name: str, value: Any) -> None:  # noqa: ANN401
    if type(value) is not bytes or len(value) != 32:
        raise Malformed(f"key document: {name} is not 32 bytes")


def _check_text(name: str, value: Any, pattern: re.Pattern[str]) -> None:  # noqa: ANN401
    if type(value) is not str or not pattern.fullmatch(value):
        raise Malformed(f"key document: {name} is not the text allowed there")


def _check_integer(name: str, value: Any, limit: int) -> None:  # noqa: ANN401
    # `type(...) is int` and not isinstance: CBOR's true is no number.
    if type(value) is not int or not 0 <= value <= limit:
        raise Malformed(f"key document: {name} is not an integer in range")
