"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.connection import EngineConnection
from engine.types import VerificationCounts
from server.openai import counts
from server.openai.model import ServedModel
from server.openai.outputs import Body, Output, Usage
from server.openai.payloads import encode
from server.openai.plan import JSON_HEAD

Json = dict[str, Any]


def model_object(model: ServedModel) -> Json:
    """The served model as OpenAI describes one, and the length of its context."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "sottovoce",
        "max_model_len": model.max_model_len,
    }


class DocumentPlan:
    """The plan of an answer that is known already: nothing is computed, one token is due."""

    tokens_needed = 1
    streamed = False

    def __init__(self, document: Json) -> None:
        self._document = document

    def run(
        self,
        engine: EngineConnection,  # noqa: ARG002 - Plan's signature
        rng_seed: Callable[[], int],  # noqa: ARG002
        now: int,  # noqa: ARG002
    ) -> Iterator[Output]:
        """Yield the document."""
        yield JSON_HEAD
        yield Body(encode(self._document, last=True))

    def usage(self) -> Usage:
        """No token of the model was used."""
        return Usage(0, 0)

    def tokens_used(self) -> int:
        """The one token that every request uses."""
        return 1

    def counts(self) -> VerificationCounts:
        """Nothing was computed."""
        return counts.combine(())
