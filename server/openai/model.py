"""The served model: as its clients see it, and as the zygote has loaded it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.openai import chat_template
from server.openai.chat_template import ChatTemplate
from server.openai.model_files import ModelFiles
from server.openai.sampling import Defaults
from server.openai.tokenizer import Tokenizer
from server.openai.tool_format import ToolFormat, format_of


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

    @property
    def fingerprint(self) -> str | None:
        """The `system_fingerprint` of every answer, if the digest is known."""
        return f"fp_{self.digest.hex()[:16]}" if self.digest else None


@dataclass(frozen=True)
class LoadedModel:
    """A served model with its tokenizer, chat template (if it chats) and defaults."""

    served: ServedModel
    tokenizer: Tokenizer
    template: ChatTemplate | None
    tool_format: ToolFormat
    defaults: Defaults

    @classmethod
    def load(cls, served: ServedModel, clock: Callable[[], float]) -> LoadedModel:
        """Load what the surface needs from the model's folder.

        Raises:
            UnusableModel: the folder has no tokenizer.json, or an unreadable file.
        """
        files = ModelFiles.load(served.folder)
        template = chat_template.load(files, clock)
        return cls(
            served,
            Tokenizer(files, served.vocab_size),
            template,
            format_of(template.source if template else ""),
            Defaults.of(files),
        )
