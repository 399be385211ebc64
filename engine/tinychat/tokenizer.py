"""The tokenizer: byte-level BPE of 3,072 entries, every digit by itself, any UTF-8 there and back.

Trained on the project's own dialogues. All 256 bytes are in the vocabulary, so no text is unknown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.tinychat.chat import CALL, CALL_END, SPECIAL_TOKENS, segments
from engine.tinychat.corpus import dialogues

VOCABULARY_SIZE = 3072
SAMPLE = 30_000  # dialogues; the merges no longer change much beyond
_MARKUP = (CALL, CALL_END)


def _texts(seed: int, count: int) -> Iterator[str]:
    reserved = {*SPECIAL_TOKENS, *_MARKUP}
    for dialogue in itertools.islice(dialogues(seed), count):
        for piece in segments(dialogue):
            text = piece.text
            for token in reserved:
                text = text.replace(token, "")
            if text:
                yield text


def train(seed: int, *, sample: int = SAMPLE) -> Tokenizer:
    """Train the tokenizer on `sample` dialogues of `seed`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(_MARKUP),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, sample), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _MARKUP])
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Load a tokenizer from its file."""
    return Tokenizer.from_file(str(path))
