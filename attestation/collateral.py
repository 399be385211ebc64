"""Collateral: what a verifier needs beside the evidence, so that it can judge offline.

Certificates, revocation lists, a vendor's statements about its firmware. A part has a name, by
which the one verifier that uses it finds it:

    intel-dcap                         quote collateral, JSON as `dcap-qvl` has it
    amd-chain                          VCEK or VLEK, ASK or ASVK, ARK: PEM, one after the other
    amd-crl                            the ARK's revocation list, DER
    nvidia.0-chain, nvidia.0-ocsp      of the GPU whose report is `gpu.0`, and so on
    rim.0, rim-ocsp.0                  reference measurements (XML), which several GPUs may share
    tpm-...                            of a TPM or a cloud's virtual one

Inside a bundle the parts are one canonical JSON object `{name: base64url without padding}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from attestation import base64url
from attestation.errors import MalformedEvidence
from wire import canonical_json
from wire.errors import Malformed

MAX_PARTS = 512
"""Two parts for each of the most GPUs a bundle may hold, and room for everything else."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True)
class Collateral:
    """The parts of one bundle's collateral, by name. None of them is looked into.

    Raises:
        ValueError: (on construction) a name that is none, an empty part, or too many parts.
    """

    parts: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, part in self.parts.items():
            if not _NAME.fullmatch(name) or not part:
                raise ValueError("a part of the collateral has no proper name or nothing in it")
        if len(self.parts) > MAX_PARTS:
            raise ValueError("too many parts of collateral")
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    def encode(self) -> bytes:
        """Return the one encoding; of no parts, nothing."""
        if not self.parts:
            return b""
        return canonical_json.encode(
            {name: base64url.encode(part) for name, part in self.parts.items()}
        )

    @classmethod
    def decode(cls, data: bytes) -> Collateral:
        """Decode collateral from its one encoding.

        Raises:
            MalformedEvidence: not an object of named base64url parts, or not its one encoding.
        """
        if not data:
            return cls()
        try:
            members = canonical_json.decode(data)
            if not isinstance(members, dict) or len(members) > MAX_PARTS:
                raise MalformedEvidence("collateral: not an object of a few parts")
            collateral = cls({name: base64url.decode(text) for name, text in members.items()})
        except (Malformed, ValueError) as error:
            raise MalformedEvidence("collateral: not named parts in base64url") from error
        if collateral.encode() != data:
            raise MalformedEvidence("collateral: not its one encoding")
        return collateral

    def unused(self, names: frozenset[str]) -> frozenset[str]:
        """Return the names of the parts that are not among `names`."""
        return frozenset(self.parts) - names
