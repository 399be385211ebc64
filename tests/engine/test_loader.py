"""Which folders are served, and which are refused with what reason."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.config import EngineConfig
from engine.device import TorchDevice
from engine.errors import ConversionMismatch, ModelFiles, ModelRefused, UnsupportedModel
from engine.loader import compare_rows, load


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of a good folder, to spoil."""
    return shutil.copytree(model_folder("llama"), tmp_path / "model")


def load32(folder, **config):
    return load(EngineConfig(model=folder, dtype="float32", **config))


def edit(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_good_folder_loads(folder):
    loaded = load32(folder)
    assert (loaded.vocab_size, loaded.max_model_len, len(loaded.shapes)) == (199, 2048, 2)
    assert load32(folder, max_model_len=100).max_model_len == 100


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_incomplete_folders_are_refused(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ModelFiles):
        load32(folder)


def test_pickled_weights_are_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFiles, match="can run code"):
        load32(folder)


def test_a_missing_tensor_is_not_made_up(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFiles, match="lack tensors"):
        load32(folder)


def test_a_tensor_of_another_shape_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFiles):
        load32(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelRefused):
        load32(folder)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"vision_config": {}}, "vision_config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ({"model_type": "no_such_model"}, "no implementation of its own"),
        ({"model_type": "no_such_model", "auto_map": {"AutoConfig": "x.Y"}}, "no implementation"),
    ],
)
def test_what_does_not_fit_is_named(folder, fields, reason):
    edit(folder, **fields)
    with pytest.raises(UnsupportedModel, match=reason):
        load32(folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("falcon", "attention interface"), ("mamba", "linear_attention")],
)
def test_architectures_that_do_not_fit_are_refused(model_folder, name, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        load32(model_folder(name))


def test_context_beyond_the_models_is_refused(folder):
    with pytest.raises(ModelRefused, match="2048"):
        load32(folder, max_model_len=2049)


def test_rotation_that_depends_on_the_batch_is_kept_within_its_origin(folder):
    edit(folder, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0,
                                  "original_max_position_embeddings": 512})  # fmt: skip
    assert load32(folder).max_model_len == 512


def test_a_model_whose_conversion_is_wrong_is_refused(folder, monkeypatch):
    """The comparison itself: a forgotten scale, and a cache that is not written."""
    original = TorchDevice.step

    def scaled(self, batch):
        batch.spans[0].blocks.reverse() if batch.spans[0].start else None
        return original(self, batch)

    monkeypatch.setattr(TorchDevice, "step", scaled)
    with pytest.raises(ConversionMismatch):
        load32(folder)


def test_comparison_tolerates_single_rows_and_no_more():
    reference = torch.randn(16, 50)
    got = reference.clone()
    got[:4] = torch.randn(4, 50)
    compare_rows(got, reference, 1e-3)
    got[4] = float("nan")
    with pytest.raises(ConversionMismatch, match="69%"):
        compare_rows(got, reference, 1e-3)


def test_bf16_loads_with_packed_weights(model_folder):
    loaded = load(EngineConfig(model=model_folder("qwen2"), dtype="bfloat16"))
    kinds = {type(module).__name__ for module in loaded.computation.model.modules()}
    assert "Linear" not in kinds
    assert "Member" in kinds


def test_transformers_can_still_read_what_we_test_with(model_folder):
    config = transformers.AutoConfig.from_pretrained(model_folder("gemma2"))
    assert config.attn_logit_softcapping == 2.0
