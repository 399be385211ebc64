"""The JSON of answers: what every payload of one answer shares, and the place of the receipt."""

from __future__ import annotations

import json
import secrets
import string
from dataclasses import dataclass
from typing import Any

from server.openai.outputs import Usage

Json = dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

_NAME, _SAME_NAME = b'"attestation":', b'"\\u0061ttestation":'

_ALPHABET = string.ascii_letters + string.digits


def random_id(prefix: str, length: int = 24) -> str:
    """A fresh identifier; it names an answer or a call and protects nothing."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def encode(payload: Json, *, last: bool = False, depth: int = 1) -> bytes:
    """Encode a payload; the last one of an answer ends with the place of its receipt.

    `depth` 2 puts it at the end of the payload's last member, an object that is not empty.
    """
    encoded = _ENCODER.encode(payload).encode()
    if not last:
        return encoded
    # A client's own schema may have a member of that name; spelled otherwise it is the same JSON.
    encoded = encoded.replace(_NAME, _SAME_NAME)
    return encoded[:-depth] + b"," + _NAME + b"null" + b"}" * depth


def usage_members(usage: Usage) -> Json:
    """Token counts as OpenAI writes them. Nothing is ever cached from one request to another."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(frozen=True)
class Frame:
    """What all payloads of one answer have in common."""

    id: str
    created: int
    model: str
    fingerprint: str | None

    def write(self, object_: str, choices: list[Json], **further: Any) -> Json:  # noqa: ANN401 - JSON
        """A payload around `choices`."""
        return {
            "id": self.id,
            "object": object_,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **further,
        }

    def chunks(self, object_: str, **further: Any) -> ChunkWriter:  # noqa: ANN401 - JSON
        """What writes the chunks of a stream: `encode(write(object_, [entry], **further))`."""
        before = _ENCODER.encode({**self.write(object_, []), "choices": 0})
        after = _ENCODER.encode(further)
        return ChunkWriter(before.removesuffix("0}") + "[", "]," + after[1:] if further else "]}")


@dataclass(frozen=True)
class ChunkWriter:
    """All but one entry of `choices` is the same in every chunk of a stream, and written once."""

    before: str
    after: str

    def encode(self, entry: Json) -> bytes:
        """Encode the chunk of one entry."""
        return (self.before + _ENCODER.encode(entry) + self.after).encode()
