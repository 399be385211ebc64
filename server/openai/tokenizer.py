"""Text to token ids and ids back to bytes, over the model's own tokenizer.json.

Bytes, not text, because one character may be spread over several tokens. The table of bytes is the
grammar library's, so that what a mask allows and what the detokeniser prints are the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers
from llguidance import LLTokenizer

from engine.types import MAX_EOS_IDS
from server.openai.model_files import ModelFiles, UnusableModel

_USUAL_CHARACTERS = 8  # a token has about four
_SLICE = 16 * 1024
_TOKENS_OF_A_CUT = 16  # what a word falls into where it is cut, and more


class Tokenizer:
    """The tokenizer of one model. Neither encoding nor decoding starts a thread."""

    def __init__(self, files: ModelFiles, vocab_size: int) -> None:
        path = files.folder / "tokenizer.json"
        if not path.exists():
            raise UnusableModel("the folder has no tokenizer.json")
        self._inner = tokenizers.Tokenizer.from_file(str(path))
        self._inner.no_truncation()
        self._inner.no_padding()
        self.vocab_size = vocab_size
        added = self._inner.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in added.items() if token.special}
        self.added = {token.content: i for i, token in added.items()}
        self.eos_ids = self._end_ids(files)
        self._silent = frozenset(self.special.values()) | frozenset(self.eos_ids)
        self._start_ids = self._ids_of([files.special_tokens().get("bos_token")])
        self.grammar = LLTokenizer(
            self._inner.to_str(), n_vocab=vocab_size, eos_token=list(self.eos_ids) or None
        )

    def _end_ids(self, files: ModelFiles) -> tuple[int, ...]:
        """Every id that ends an answer: the generation's (or model's), and the tokenizer's own."""
        listed = files.generation.get("eos_token_id", files.config.get("eos_token_id"))
        ids = listed if isinstance(listed, list) else [listed]
        ids = [i for i in ids if isinstance(i, int) and 0 <= i < self.vocab_size]
        own = self._ids_of([files.special_tokens().get("eos_token")])
        return tuple(dict.fromkeys([*ids, *own]))[:MAX_EOS_IDS]

    def _ids_of(self, texts: Iterable[str | None]) -> list[int]:
        ids = [self._inner.token_to_id(text) for text in texts if text]
        return [i for i in ids if i is not None]

    def surely_exceeds(self, text: str, limit: int) -> bool:
        """Whether `text` has more than `limit` tokens, found out without encoding all of it.

        Only a text of many characters a token is looked at: slice by slice, until there are more
        tokens than the cuts between slices can have brought.
        """
        if len(text) <= _USUAL_CHARACTERS * limit:
            return False
        count = 0
        for cuts, at in enumerate(range(0, len(text), _SLICE), 1):
            count += len(self.encode_rendered(text[at : at + _SLICE]))
            if count > limit + cuts * _TOKENS_OF_A_CUT:
                return True
        return False

    def encode(self, text: str) -> list[int]:
        """Encode the prompt of a plain completion, with what the tokenizer puts before a text.

        The names of special tokens are read as these tokens: who writes a whole prompt may. An
        empty prompt becomes the model's start (or end) token, for a model continues from something.
        """
        ids: list[int] = self._inner.encode(text).ids
        return ids or self._start_ids or list(self.eos_ids[:1])

    def encode_rendered(self, text: str) -> list[int]:
        """Encode a part of a rendered conversation, control tokens included."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_literally(self, text: str) -> list[int]:
        """Encode text so that no name of a special token in it becomes that token."""
        self._inner.encode_special_tokens = True
        try:
            return self.encode_rendered(text)
        finally:
            self._inner.encode_special_tokens = False

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; those of its name if it is special, none if unknown."""
        if self._inner.id_to_token(token_id) is None:
            return b""  # the model's vocabulary is padded beyond the tokenizer's
        return bytes(self.grammar.decode_bytes([token_id]))

    def text_bytes(self, token_id: int) -> bytes:
        """The bytes a token adds to an answer: none for special and end tokens."""
        return b"" if token_id in self._silent else self.token_bytes(token_id)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a prompt given in ids, special tokens left out."""
        return b"".join(map(self.text_bytes, ids)).decode(errors="replace")
