"""The compiled decoder against transformers' own: logits, prompts in pieces, paging, windows."""

import dataclasses

import pytest
import torch
import transformers

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput
from engine.errors import ModelRefused
from engine.kv_cache import KVPool
from engine.loader import load
from engine.native import library
from engine.native import model as native
from engine.native.device import NativeDevice
from engine.native.families import FAMILIES

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

VOCAB = 331
_SHAPE = {
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
    "head_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.08,
}
_WINDOWS = {
    "sliding_window": 100,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_SPECIAL = {
    "cohere2": _WINDOWS,
    "exaone4": _WINDOWS,
    "gemma2": {**_WINDOWS, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 32},
    "gemma3_text": {**_WINDOWS, "query_pre_attn_scalar": 32},
    "gpt_neox": {"num_key_value_heads": 6},
    "granite": {
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4,
        "attention_multiplier": 0.1,
        "logits_scaling": 4.0,
    },
    "phi": {"num_key_value_heads": 6},
    "mistral": {"sliding_window": 100},
    "qwen3": {"head_dim": 64},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "llama": {
        "num_key_value_heads": 6,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    },
}  # fmt: skip
NAMES = [
    "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm4",
    "gpt_neox", "granite", "helium", "llama", "mistral", "nemotron", "olmo2", "phi", "phi3",
    "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm", "starcoder2",
]  # fmt: skip
BLOCK = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def make(name, **fields):
        key = (name, repr(sorted(fields.items())))
        if key not in made:
            torch.manual_seed(7)
            values = {**_SHAPE, **_SPECIAL.get(name, {}), **fields}
            config = transformers.CONFIG_MAPPING[name](**values)
            model = transformers.AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
            made[key] = tmp_path_factory.mktemp(name)
            model.to(torch.bfloat16).save_pretrained(made[key])
        return made[key]

    return make


def stock(folder, ids, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        return model(input_ids=ids[None], use_cache=False).logits[0].float()


def device_of(folder, *, blocks=80, max_rows=1200, **config):
    loaded = load(EngineConfig(model=folder, **config))
    pool = KVPool(
        loaded.shapes, blocks=blocks, block_size=BLOCK, dtype=loaded.dtype, device=loaded.device
    )
    return loaded.computation.on(pool, max_rows=max_rows, max_logit_rows=max_rows), pool


def run(device, spans, ids):
    rows = torch.cat(
        [each[span.start : span.context] for each, span in zip(ids, spans, strict=True)]
    )
    output = device.step(StepInput(rows, spans, range(len(rows)))).logits.clone()
    device.finish_step()
    return output.split([span.length for span in spans])


def error(got, reference):
    return ((got - reference).norm() / reference.norm()).item()


def prompt(length, seed=3):
    return torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def test_every_family_is_tested():
    models = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    tested = {models[transformers.CONFIG_MAPPING[name]].__name__ for name in NAMES}
    assert tested == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {}) for name in NAMES),
        ("stablelm", {"use_parallel_residual": True, "use_qkv_bias": True}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("llama", {"mlp_bias": True, "attention_bias": True}),
        ("gemma3_text", {"rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        }}),
    ],
)  # fmt: skip
def test_logits_are_closer_to_the_truth_than_the_stock_models(name, fields, folder):
    ids = prompt(1100)
    made = folder(name, **fields)
    truth = stock(made, ids, torch.float32)
    noise = error(stock(made, ids, torch.bfloat16), truth)
    device, _ = device_of(made)
    assert isinstance(device, NativeDevice)
    blocks = list(range(40, 5, -1))  # in no order that could be a run
    parts = []
    for start, stop in [(0, 700), (700, 733), (733, 749), (749, 752), *((n, n + 1) for n in range(752, 760)), (760, 1100)]:  # fmt: skip  # noqa: E501
        parts += run(device, [Span(blocks, start, stop - start)], [ids])
    assert error(torch.cat(parts), truth) < noise


@pytest.mark.parametrize("name", ["qwen2", "mistral", "gemma2", "phi3", "glm4", "starcoder2"])
def test_int8_stays_within_its_noise(name, folder):
    device, _ = device_of(folder(name), weights="int8")
    ids = prompt(300)
    got = torch.cat(
        [
            *run(device, [Span(list(range(10)), 0, 280)], [ids]),
            *run(device, [Span(list(range(10)), 280, 12)], [ids]),
            *run(device, [Span(list(range(10)), 292, 5)], [ids]),
            *run(device, [Span(list(range(10)), 297, 3)], [ids]),
        ]
    )
    truth = stock(folder(name), ids, torch.float32)
    assert error(got, truth) < 0.08


def test_sequences_of_one_step_do_not_meet(folder):
    device, _ = device_of(folder("qwen2"))
    many = [prompt(length, seed=length) for length in (40, 1, 100, 33, 17, 64)]
    blocks = [list(range(10 * i, 10 * i + 10)) for i in range(len(many))]
    alone = []
    for ids, own in zip(many, blocks, strict=True):
        alone += run(device, [Span(own, 0, len(ids))], [ids])
    spans = [Span(own, 0, len(ids)) for ids, own in zip(many, blocks, strict=True)]
    together = run(device, spans, many)
    for first, second in zip(alone, together, strict=True):
        assert error(first, second) < 0.02
    longer = [torch.cat([ids, prompt(1)]) for ids in many]
    steps = [Span(own, len(ids), 1) for ids, own in zip(many, blocks, strict=True)]
    decoded = torch.cat(run(device, steps, longer))
    single = torch.cat(
        [run(device, [step], [ids])[0] for step, ids in zip(steps, longer, strict=True)]
    )
    assert error(decoded, single) < 0.02


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_a_row_alone_sees_what_it_sees_in_a_chunk(name, folder):
    """Beyond the keys whose scores are held at once, too."""
    device, _ = device_of(folder(name))
    ids, blocks = prompt(2300), list(range(78, 5, -1))
    for start, stop in ((0, 1000), (1000, 2000), (2000, 2290)):
        run(device, [Span(blocks, start, stop - start)], [ids])
    (chunk,) = run(device, [Span(blocks, 2290, 10)], [ids])
    alone = [run(device, [Span(blocks, at, 1)], [ids])[0] for at in range(2290, 2300)]
    assert error(torch.cat(alone), chunk) < 0.02


def test_nothing_beyond_the_context_is_seen(folder):
    """Keys and values of later positions, and of other sequences, may be anything finite."""
    device, pool = device_of(folder("llama"))
    ids = prompt(50)
    (honest,) = run(device, [Span([3, 4], 0, 50)], [ids])
    for tensor in (*pool.keys, *pool.values):
        tensor[: 3 * BLOCK] = 1e30
        tensor[3 * BLOCK + 50 :] = -1e30
    (again,) = run(device, [Span([3, 4], 0, 50)], [ids])
    assert torch.equal(honest, again)


def test_rows_without_logits_still_reach_the_cache(folder):
    device, _ = device_of(folder("qwen3"))
    ids = prompt(90)
    (expected,) = run(device, [Span([1, 2, 3], 0, 90)], [ids])
    span = Span([5, 6, 7], 0, 89)
    assert len(device.step(StepInput(ids[:89], [span], [])).logits) == 0
    device.finish_step()
    (last,) = run(device, [Span([5, 6, 7], 89, 1)], [ids])
    assert error(last, expected[-1:]) < 0.02


def test_embeddings_may_take_the_place_of_ids(folder):
    device, _ = device_of(folder("llama"))
    ids = prompt(20)
    by_ids = device.step(StepInput(ids, [Span([0], 0, 20)], [19])).logits.clone()
    rows = device._model.embeddings[ids].float()
    by_rows = device.step(StepInput(rows, [Span([0], 0, 20)], [19])).logits
    assert torch.equal(by_ids, by_rows)
    assert bool(rows.any())  # the caller's own rows are left alone


def test_a_finished_step_leaves_no_logits(folder):
    device, _ = device_of(folder("llama"))
    logits = device.step(StepInput(prompt(5), [Span([0], 0, 5)], range(5))).logits
    assert bool(logits.any())
    device.finish_step()
    assert not bool(logits.any())


def test_threads_compute_what_one_computes(folder):
    loaded = load(EngineConfig(model=folder("qwen2")))
    ids = prompt(200)
    outputs = []
    for threads in (1, 3):
        computation = dataclasses.replace(loaded.computation, threads=threads)
        pool = KVPool(
            loaded.shapes, blocks=9, block_size=BLOCK, dtype=loaded.dtype, device=loaded.device
        )
        device = computation.on(pool, max_rows=200, max_logit_rows=200)
        outputs += run(device, [Span(list(range(9)), 0, 200)], [ids])
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("hunyuan_v1_dense", {}, "not among the families"),
        ("llama", {"intermediate_size": 100}, "not a multiple of 64"),
        ("llama", {"hidden_act": "mish"}, "no mish"),
        ("cohere", {"use_qk_norm": True}, "in a way of its own"),
    ],
)
def test_what_the_kernels_cannot_do_is_left_to_torch_or_refused(folder, name, fields, reason):
    made = folder(name, **fields)
    assert not isinstance(load(EngineConfig(model=made)).computation, native.NativeModel)
    with pytest.raises(ModelRefused, match=reason):
        load(EngineConfig(model=made, weights="int8"))


def test_without_the_library_torch_computes(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "FILE", tmp_path / "missing.so")
    library.load.cache_clear()
    try:
        loaded = load(EngineConfig(model=folder("llama")))
        with pytest.raises(ModelRefused, match="not built"):
            load(EngineConfig(model=folder("llama"), weights="int8"))
    finally:
        library.load.cache_clear()
    assert not isinstance(loaded.computation, native.NativeModel)
