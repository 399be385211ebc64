from __future__ import annotations

import pytest

from engine.tinychat import tokenizer as bpe


@pytest.fixture(scope="session")
def small_tokenizer():
    """A tokenizer trained on few dialogues: as strict as the shipped one, made in a second."""
    return bpe.train(7, sample=3000)
