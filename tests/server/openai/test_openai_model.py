"""What is read from a model's folder."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers

from server.openai.application import Application
from server.openai.model_files import ModelFiles, UnusableModel
from server.openai.sampling import Defaults
from server.openai.tokenizer import Tokenizer as OurTokenizer

from .conftest import TEMPLATE, served, write_folder


def test_a_folder_needs_a_tokenizer(tmp_path):
    with pytest.raises(UnusableModel, match="no tokenizer"):
        Application(served(tmp_path, 400))


@pytest.mark.parametrize("text", ["{", "[]", "\ufffd"])
def test_configuration_must_be_json_objects(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnusableModel, match="JSON"):
        ModelFiles.load(tmp_path)


def test_a_template_must_be_a_template(tmp_path, tokenizer, vocab_size):
    folder = write_folder(tmp_path / "m", tokenizer, "{% if %}")
    with pytest.raises(UnusableModel, match="template"):
        Application(served(folder, vocab_size))


def test_end_ids_come_from_all_who_name_them(tmp_path, tokenizer, vocab_size):
    folder = write_folder(tmp_path / "m", tokenizer, TEMPLATE, eos_token_id=[2, 10**6, "x"])
    end = tokenizer.token_to_id("<|end|>")
    assert OurTokenizer(ModelFiles.load(folder), vocab_size).eos_ids == (2, end)
    (folder / "generation_config.json").unlink()
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 0}))
    assert OurTokenizer(ModelFiles.load(folder), vocab_size).eos_ids == (0, end)


def test_the_models_own_defaults_apply_where_a_request_is_silent(make_server, tmp_path, tokenizer):
    generation = {"temperature": 0.5, "top_k": 20, "top_p": 0.75, "repetition_penalty": 1.25}
    server = make_server(write_folder(tmp_path / "m", tokenizer, TEMPLATE, **generation))
    params = server.chat("x").engine.requests[0].params
    assert (params.temperature, params.top_k, params.top_p) == (0.5, 20, 0.75)
    assert params.repetition_penalty == 1.25
    params = server.chat("x", temperature=0, top_k=-1, top_p=1).engine.requests[0].params
    assert (params.temperature, params.top_k, params.top_p) == (0, 0, 1)


def test_a_model_to_be_read_greedily_is(tmp_path, tokenizer):
    folder = write_folder(tmp_path / "m", tokenizer, TEMPLATE, do_sample=False)
    assert Defaults.of(ModelFiles.load(folder)).temperature == 0


def test_ids_without_a_token_have_no_bytes(folder, vocab_size):
    tokenizer = OurTokenizer(ModelFiles.load(folder), vocab_size)
    assert tokenizer.token_bytes(vocab_size - 1) == b""


def test_pieces_of_sentencepiece_models_are_bytes_too(tmp_path):
    pieces = ["<unk>", "</s>", "<0xE2>", "<0x82>", "<0xAC>", "▁", "▁The", "▁f", "ox", "a"]
    inner = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [], byte_fallback=True, unk_token="<unk>")
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.add_special_tokens(["</s>"])
    folder = write_folder(tmp_path / "m", inner, None)
    tokenizer = OurTokenizer(ModelFiles.load(folder), 16)
    shown = b"".join(map(tokenizer.text_bytes, (6, 7, 8, 2, 3, 4, 1)))
    assert shown.decode() == " The fox€"
