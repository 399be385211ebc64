"""The one line an engine writes when its model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from server.errors import StartError
from wire import canonical_json
from wire.errors import Malformed


@dataclass(frozen=True)
class EngineReadyLine:
    """What the engine says of itself. `policy` is canonical JSON, `model_digest` 32 bytes."""

    model_digest: bytes
    max_model_len: int
    vocab_size: int
    policy: bytes
    max_sequences: int

    @classmethod
    def parse(cls, line: bytes) -> EngineReadyLine:
        """Parse the line; further members are passed over.

        Raises:
            StartError: it is not such a line.
        """
        try:
            members = canonical_json.decode(line)
            parsed = cls(
                model_digest=bytes.fromhex(members["model_digest"]),
                max_model_len=int(members["max_model_len"]),
                vocab_size=int(members["vocab_size"]),
                policy=str(members["policy"]).encode(),
                max_sequences=int(members["max_sequences"]),
            )
        except (Malformed, KeyError, TypeError, ValueError, OverflowError) as error:
            raise StartError("the engine's ready line cannot be read") from error
        if len(parsed.model_digest) != 32:
            raise StartError("the engine's model digest is not 32 bytes")
        return parsed
