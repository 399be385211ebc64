"""Which folders are served, and which are refused with what reason."""

import json
import os
import random
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.attention import Span
from engine.checkpoint import Checkpoint
from engine.config import EngineConfig
from engine.device import TorchDevice
from engine.digest import model_digest
from engine.errors import ConversionMismatch, ModelFiles, ModelRefused, UnsupportedModel
from engine.loader import Loading, compare_rows, load
from engine.skeleton import Places


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


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def write(folder, tensors, name="model.safetensors"):
    save_file(tensors, folder / name, {"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    tensors = tensors_of(folder)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    write(folder, tensors)
    with pytest.raises(ModelFiles, match="no numbers"):
        load32(folder)


def test_weights_beyond_the_computed_type_are_refused(folder):
    tensors = tensors_of(folder)
    tensors["model.norm.weight"][0] = torch.finfo(torch.float32).max
    write(folder, tensors)
    with pytest.raises(ModelFiles, match="too large"):
        load(EngineConfig(model=folder))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float64, torch.bool])
def test_weights_of_other_types_are_refused(folder, dtype):
    tensors = tensors_of(folder)
    name = "model.layers.0.self_attn.k_proj.weight"
    tensors[name] = tensors[name].to(dtype)
    write(folder, tensors)
    with pytest.raises(ModelFiles, match="is stored as"):
        load32(folder)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_files_that_end_anywhere_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFiles, match="safetensors"):
        load32(folder)


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_byte_is_refused_or_shows_in_the_digest(folder, seed):
    honest = load32(folder).digest
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    # Half of them in the header, which is a small part of the file.
    at = rng.randrange(2000 if seed % 2 else len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        loaded = load32(folder)
    except ModelRefused:
        return
    assert loaded.digest != honest


def test_a_file_that_shrinks_while_it_is_read_is_refused(folder, monkeypatch):
    original = Places.fill

    def shrink(self, *args, **kwargs):
        os.truncate(folder / "model.safetensors", 9000)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Places, "fill", shrink)
    with pytest.raises(ModelFiles, match="ends before"):
        load32(folder)


TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 198}}, "added_tokens": []}


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        ({**TOKENIZER, "added_tokens": [{"id": 199, "content": "<x>"}]}, "up to 199"),
        ({"model": {"type": "BPE", "vocab": {"a": 5000}}}, "up to 5000"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.0]] * 200}}, "up to 199"),
        ({"model": {}}, "not a tokenizer"),
        ({"model": {"vocab": {"a": "b"}}}, "not a tokenizer"),
        ([], "not a JSON object"),
    ],
)
def test_a_tokenizer_that_does_not_match_is_refused(folder, tokenizer, reason):
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    load32(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelFiles, match=reason):
        load32(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
def test_configurations_that_are_no_objects_are_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFiles, match=r"config\.json"):
        load32(folder)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mixtral", "gpt_neox"])
def test_what_is_loaded_has_the_digest_of_the_folder(name, model_folder):
    config = EngineConfig(model=model_folder(name), dtype="float32")
    assert load(config).digest == model_digest(config)


def test_shards_are_loaded_as_one(folder, lab):
    honest = load32(folder)
    tensors = tensors_of(folder)
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[:9], "model-2-of-2.safetensors": names[9:]}
    for file, part in parts.items():
        write(folder, {name: tensors[name] for name in part}, file)
    (folder / "model.safetensors").unlink()
    listed = {name: file for file, part in parts.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    ids = lab.prompt(20)
    outputs = [
        lab.step(lab.device(loaded)[0], [Span([0, 1], 0, 20)], [ids])[0]
        for loaded in (honest, load32(folder))
    ]
    assert torch.equal(*outputs)
    index.write_text(json.dumps({"weight_map": {**listed, "x": "../other.safetensors"}}))
    with pytest.raises(ModelFiles, match="not in the folder"):
        load32(folder)
    index.unlink()
    write(folder, {names[0]: tensors[names[0]]}, "model-3.safetensors")
    with pytest.raises(ModelFiles, match="one name"):
        load32(folder)


def test_progress_rises_to_the_end(folder):
    seen = []
    load(EngineConfig(model=folder, dtype="float32"), seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == 100
    assert len(seen) > 3


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3", "gpt2"])
def test_every_tensor_is_read_once_and_layer_by_layer(name, model_folder, monkeypatch):
    """Whether the weights are streamed: the second layer's are read after the first's were used."""
    events = []
    read, forward = Checkpoint.read, Loading._after_layer
    monkeypatch.setattr(
        Checkpoint, "read", lambda self, name: (events.append(name), read(self, name))[1]
    )
    monkeypatch.setattr(
        Loading,
        "_after_layer",
        lambda self, *rest: (events.append("left a layer"), forward(self, *rest))[1],
    )
    load(EngineConfig(model=model_folder(name), dtype="float32"))
    names = [event for event in events if event != "left a layer"]
    assert len(names) == len(set(names))
    first = events.index("left a layer")
    assert not any(".1." in event for event in events[:first])
    assert any(".1." in event for event in events[first:])
