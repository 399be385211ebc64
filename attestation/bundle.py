"""The bundle: all evidence about one node, the same bytes for every client.

A JSON collection of conceptual messages (CMW, RFC 9999): each member is
`[media type, base64url without padding, indicator]`, the indicator saying what the message is.

    {"__cmwc_t": TYPE,
     "key-document":   [..., ..., 4],    deterministic CBOR (`wire.key_document`)
     "quote":          [..., ..., 4],    the platform's own bytes; the media type names the platform
     "gpu.0", "gpu.1":  [..., ..., 4],   GPU reports, in the order of the report data
     "event-log":      [..., ..., 4],
     "collateral":     [..., ..., 2],    endorsements: certificates, revocation lists
     "engine-policy":  [..., ..., 1]}    in full: a reference value for the digest that binds it

An empty part is left out. The text is canonical JSON and has one form only. The log's proofs
travel beside the bundle: they change with every checkpoint, the bundle does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from attestation import base64url
from attestation.errors import MalformedEvidence
from wire import canonical_json
from wire.errors import Malformed

COLLECTION_TYPE = "tag:sottovoce.invalid,2026:node-bundle-v1"
MEDIA_TYPE = "application/cmw+json"
MAX_ENCODED = 1 << 20
"""TDX with eight GPUs and its event log is about 0.2 MB; ten nodes' bundles must fit a document."""

MAX_GPU_REPORTS = 64
_EVIDENCE, _ENDORSEMENT, _REFERENCE_VALUE = 4, 2, 1
_KEY_DOCUMENT_TYPE = "application/vnd.sottovoce.key-document+cbor"
_QUOTE_TYPE = "application/vnd.sottovoce.quote."
_OCTETS = "application/octet-stream"
_JSON = "application/json"
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Bundle:
    """The evidence about one node, decoded but not yet appraised.

    Attributes:
        key_document: the encoded key document.
        platform: which platform made the quote: `simulated`, `tdx`, ...
        quote: the platform's own bytes.
        engine_policy: the engine policy, canonical JSON.
        collateral: what the chains need to be checked offline, an encoded
            `attestation.collateral.Collateral`; empty if nothing.
        gpu_reports: one report for each GPU, in the order they are hashed in.
        event_log: the platform's event log; empty if none.
    """

    key_document: bytes
    platform: str
    quote: bytes
    engine_policy: bytes
    collateral: bytes = b""
    gpu_reports: tuple[bytes, ...] = ()
    event_log: bytes = b""

    def encode(self) -> bytes:
        """Return the one encoding of this bundle."""
        members: dict[str, Any] = {
            "__cmwc_t": COLLECTION_TYPE,
            "key-document": _record(_KEY_DOCUMENT_TYPE, self.key_document, _EVIDENCE),
            "quote": _record(_QUOTE_TYPE + self.platform, self.quote, _EVIDENCE),
            "engine-policy": _record(_JSON, self.engine_policy, _REFERENCE_VALUE),
        }
        for index, report in enumerate(self.gpu_reports):
            members[f"gpu.{index}"] = _record(_OCTETS, report, _EVIDENCE)
        if self.collateral:
            members["collateral"] = _record(_JSON, self.collateral, _ENDORSEMENT)
        if self.event_log:
            members["event-log"] = _record(_OCTETS, self.event_log, _EVIDENCE)
        return canonical_json.encode(members)

    @classmethod
    def decode(cls, data: bytes) -> Bundle:
        """Decode a bundle from its one encoding. What it holds is not looked into.

        Raises:
            MalformedEvidence: another shape, member, media type or encoding; too long.
        """
        if len(data) > MAX_ENCODED:
            raise MalformedEvidence("bundle: too long")
        try:
            members = canonical_json.decode(data)
        except Malformed as error:
            raise MalformedEvidence("bundle: not JSON") from error
        if not isinstance(members, dict):
            raise MalformedEvidence("bundle: not a collection")
        bundle = cls(
            key_document=_content(members, "key-document"),
            platform=_platform(members),
            quote=_content(members, "quote"),
            engine_policy=_content(members, "engine-policy"),
            collateral=_content(members, "collateral", optional=True),
            gpu_reports=_gpu_reports(members),
            event_log=_content(members, "event-log", optional=True),
        )
        if bundle.encode() != data:
            # One comparison refuses further members, other types and indicators, gaps in the GPU
            # reports, base64 with stray bits, white space and another order of members.
            raise MalformedEvidence("bundle: not its one encoding")
        return bundle


def _record(media_type: str, content: bytes, indicator: int) -> list[Any]:
    return [media_type, base64url.encode(content), indicator]


def _content(members: dict[str, Any], label: str, *, optional: bool = False) -> bytes:
    match members.get(label):
        case [str(), str(value), int()]:
            try:
                return base64url.decode(value)
            except ValueError as error:
                raise MalformedEvidence(f"bundle: {label} is not base64url") from error
        case None if optional:
            return b""
    raise MalformedEvidence(f"bundle: {label} is missing or not a record")


def _platform(members: dict[str, Any]) -> str:
    match members.get("quote"):
        case [str(media_type), _, _] if _PLATFORM.fullmatch(media_type.removeprefix(_QUOTE_TYPE)):
            return media_type.removeprefix(_QUOTE_TYPE)
    raise MalformedEvidence("bundle: the quote names no platform")


def _gpu_reports(members: dict[str, Any]) -> tuple[bytes, ...]:
    count = sum(label.startswith("gpu.") for label in members)
    if count > MAX_GPU_REPORTS:
        raise MalformedEvidence("bundle: too many GPU reports")
    return tuple(_content(members, f"gpu.{index}") for index in range(count))
