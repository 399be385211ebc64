"""LoRA adapters: what they change is computed here by hand, the way PEFT applies them."""

import json
import math
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.config import EngineConfig
from engine.digest import model_digest
from engine.errors import ModelFiles, ModelRefused, UnsupportedModel
from engine.loader import load

RANK, ALPHA = 4, 10
TARGETS = {
    "llama": ["model.layers.{}.self_attn.q_proj", "model.layers.{}.mlp.down_proj"],
    "phi3": ["model.layers.{}.self_attn.qkv_proj", "model.layers.{}.mlp.gate_up_proj"],
    "gpt2": ["transformer.h.{}.attn.c_attn", "transformer.h.{}.mlp.c_proj"],
}
PLAIN = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}


def modules(folder, name):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    names = [target.format(layer) for target in TARGETS[name] for layer in (0, 1)]
    return model.eval(), {each: model.get_submodule(each) for each in names}


def shape_of(module):
    """Outputs and inputs; GPT-2's weights are the other way round."""
    shape = tuple(module.weight.shape)
    return shape[::-1] if type(module).__name__ == "Conv1D" else shape


@pytest.fixture
def adapter(tmp_path, model_folder):
    """A function that writes an adapter for an architecture and returns folder and matrices."""

    def make(name="llama", **fields):
        _, targets = modules(model_folder(name), name)
        torch.manual_seed(5)
        tensors = {}
        for each, module in targets.items():
            outputs, inputs = shape_of(module)
            tensors[f"base_model.model.{each}.lora_A.weight"] = torch.randn(RANK, inputs)
            tensors[f"base_model.model.{each}.lora_B.weight"] = torch.randn(outputs, RANK) / 10
        folder = tmp_path / f"{name}-adapter"
        folder.mkdir()
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, **fields}))
        return folder, tensors

    return make


def by_hand(folder, name, tensors, scale, ids):
    """Logits of the base model with x A^T B^T added to each changed layer's output."""
    model, targets = modules(folder, name)
    for each, module in targets.items():
        down = tensors[f"base_model.model.{each}.lora_A.weight"]
        up = tensors[f"base_model.model.{each}.lora_B.weight"]
        module.register_forward_hook(
            lambda _, args, out, a=down, b=up: out + scale * (args[0] @ a.T @ b.T)
        )
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def served(lab, loaded, ids):
    from engine.attention import Span  # noqa: PLC0415 - one use

    device, _ = lab.device(loaded)
    return lab.step(device, [Span([0, 1], 0, len(ids))], [ids])[0]


@pytest.mark.parametrize("name", list(TARGETS))
@pytest.mark.parametrize("rooted", [False, True])
def test_a_merged_adapter_computes_what_peft_would(name, rooted, adapter, model_folder, lab):
    folder, tensors = adapter(name, use_rslora=rooted)
    scale = ALPHA / (math.sqrt(RANK) if rooted else RANK)
    base, ids = model_folder(name), lab.prompt(25)
    loaded = load(EngineConfig(model=base, adapter=folder, dtype="float32"))
    want = by_hand(base, name, tensors, scale, ids)
    got = served(lab, loaded, ids)
    assert ((got - want).norm() / want.norm()).item() < 1e-4
    without = lab.stock(name, ids)
    assert ((got - without).norm() / without.norm()).item() > 0.01


def test_single_modules_may_have_an_alpha_of_their_own(adapter, model_folder, lab):
    folder, tensors = adapter(alpha_pattern={"mlp.down_proj": 2 * ALPHA})
    for name in tensors:
        if "down_proj.lora_B" in name:
            tensors[name] = tensors[name] * 2
    ids = lab.prompt(25)
    want = by_hand(model_folder("llama"), "llama", tensors, ALPHA / RANK, ids)
    config = EngineConfig(model=model_folder("llama"), adapter=folder, dtype="float32")
    got = served(lab, load(config), ids)
    assert ((got - want).norm() / want.norm()).item() < 1e-4


def test_an_adapter_is_part_of_the_model_digest(adapter, model_folder):
    folder, _ = adapter()
    config = EngineConfig(model=model_folder("llama"), adapter=folder, dtype="float32")
    alone = EngineConfig(model=model_folder("llama"), dtype="float32")
    loaded = load(config).digest
    assert loaded == model_digest(config) != load(alone).digest
    fields = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**fields, "lora_alpha": 11}))
    assert load(config).digest == model_digest(config) != loaded


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"peft_type": "IA3"}, "not of type LORA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"alpha_pattern": {"(q|v)_proj": 3}}, "regular expressions"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"alpha_pattern": [1]}, "no object"),
    ],
)
def test_other_adapters_are_refused(fields, reason, adapter, model_folder):
    folder, _ = adapter(**fields)
    with pytest.raises(ModelRefused, match=reason):
        load(EngineConfig(model=model_folder("llama"), adapter=folder, dtype="float32"))


def spoil_missing_config(folder):
    (folder / "adapter_config.json").unlink()


def spoil_missing_half(folder):
    change(folder, lambda tensors: tensors.pop(next(n for n in tensors if "lora_B" in n)))


def spoil_stray_tensor(folder):
    change(folder, lambda tensors: tensors.update({"base_model.model.lm_head.bias": torch.ones(3)}))


def spoil_other_base(folder):
    def rename(tensors):
        for name in list(tensors):
            tensors[name.replace("layers.1.", "layers.7.")] = tensors.pop(name)

    change(folder, rename)


def spoil_shape(folder):
    def widen(tensors):
        name = next(n for n in tensors if "q_proj.lora_A" in n)
        tensors[name] = torch.zeros(RANK, 33)

    change(folder, widen)


def spoil_nan(folder):
    def poison(tensors):
        tensors[next(iter(tensors))][0, 0] = float("nan")

    change(folder, poison)


def change(folder, edit):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("spoil", "kind", "reason"),
    [
        (spoil_missing_config, ModelFiles, "no adapter_config.json"),
        (spoil_missing_half, ModelFiles, "do not fit each other"),
        (spoil_stray_tensor, UnsupportedModel, "no LoRA matrices"),
        (spoil_other_base, ModelFiles, "another base model"),
        (spoil_shape, ModelFiles, "another base model"),
        (spoil_nan, ModelFiles, "no numbers"),
    ],
)
def test_damaged_or_foreign_adapters_are_refused(spoil, kind, reason, adapter, model_folder):
    folder, _ = adapter()
    spoil(folder)
    with pytest.raises(kind, match=reason):
        load(EngineConfig(model=model_folder("llama"), adapter=folder, dtype="float32"))


def test_an_adapter_of_a_checkpoint_that_is_converted_is_refused(adapter, model_folder, tmp_path):
    folder, _ = adapter()
    base = shutil.copytree(model_folder("mixtral"), tmp_path / "mixtral")
    with pytest.raises(UnsupportedModel, match="converts"):
        load(EngineConfig(model=base, adapter=folder, dtype="float32"))
