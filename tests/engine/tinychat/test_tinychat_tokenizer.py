from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tinychat import MODEL_FOLDER
from engine.tinychat import tokenizer as bpe
from engine.tinychat.chat import CALL, CALL_END, SPECIAL_TOKENS


@pytest.fixture(scope="module")
def shipped():
    return bpe.load(MODEL_FOLDER / "tokenizer.json")


@given(text=st.text())
def test_any_text_comes_back(text, shipped):
    ids = shipped.encode(text, add_special_tokens=False).ids
    assert shipped.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["\x00\x7f", "naïve 中文 🙂\u200d", "a\r\n\tb  c ", "\U0010ffff"])
def test_rare_text_comes_back(text, shipped):
    assert shipped.decode(shipped.encode(text).ids) == text


def test_every_digit_is_a_token_of_its_own(shipped):
    assert shipped.encode("1234").tokens == ["1", "2", "3", "4"]


def test_every_byte_is_in_the_vocabulary(shipped):
    for byte in range(256):
        data = bytes([byte]).decode("latin-1")
        assert shipped.encode(data).ids


def test_the_vocabulary_is_as_large_as_stated(shipped):
    assert shipped.get_vocab_size() == bpe.VOCABULARY_SIZE


def test_role_tokens_are_special_and_tool_marks_are_not(shipped):
    for token in (*SPECIAL_TOKENS, CALL, CALL_END):
        assert shipped.encode(token).tokens == [token]
    call = shipped.encode(CALL).ids + shipped.encode(SPECIAL_TOKENS[0]).ids
    assert shipped.decode(call, skip_special_tokens=True) == CALL


def test_training_is_a_function_of_the_seed(small_tokenizer):
    assert bpe.train(7, sample=3000).to_str() == small_tokenizer.to_str()
