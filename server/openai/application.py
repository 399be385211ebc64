"""The application a capsule asks: bytes of a request in, a plan out.

Built once in the zygote, where it loads tokenizer, chat template and grammar tables, and used once
in each capsule forked from it. It starts no thread, imports no torch and holds no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from server.openai.outputs import Plan


@dataclass(frozen=True)
class ServedModel:
    """The model of this worker as its clients see it.

    `token_budget` is what one token pays for: prompt tokens plus the most completion tokens the
    request allows. `digest` is the model digest; its prefix is the `system_fingerprint`.
    """

    name: str
    folder: Path
    max_model_len: int
    vocab_size: int
    created: int
    token_budget: int
    digest: bytes = b""


class Application:
    """The OpenAI endpoints over one served model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def prepare(self, method: bytes, path: bytes, body: bytes) -> Plan:
        """Parse, validate, render and tokenise a request; does no engine work.

        Raises:
            ApiError: the request is refused. No text of it quotes the request.
        """
        raise NotImplementedError
