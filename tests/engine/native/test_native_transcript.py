"""What the library tells of a step: products, keys, scores; against the decoder in plain torch."""

from functools import partial

import pytest
import torch
import transformers

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput
from engine.kv_cache import KVPool
from engine.loader import load
from engine.native import library
from engine.native import model as native
from engine.verification.plain_decoder import PlainDecoder, Products
from engine.verification.transcript import Matrix

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

VOCAB, BLOCK, ROWS = 331, 32, 96
SHAPE = {
    "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 320, "vocab_size": VOCAB, "head_dim": 32,
    "max_position_embeddings": 512, "initializer_range": 0.08, "pad_token_id": 0,
}  # fmt: skip
WINDOWS = {
    "sliding_window": 40,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
KINDS = {  # plain; biases; joint and capped, with post-norms; parallel with one norm and with two
    "llama": {},
    "qwen2": {},
    "gemma2": {**WINDOWS, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 32},
    "phi3": {},
    "cohere": {},
    "gpt_neox": {"num_key_value_heads": 6},
    "olmo2": {},
    "nemotron": {},
}


class Case:
    """One model over two pools: in the library, and in plain torch."""

    def __init__(self, name, folder, monkeypatch, **config):
        torch.manual_seed(7)
        fields = transformers.CONFIG_MAPPING[name](**{**SHAPE, **KINDS[name]})
        model = transformers.AutoModelForCausalLM.from_config(fields)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        model.to(torch.bfloat16).save_pretrained(folder)
        self.products = Products(model.get_output_embeddings().weight.detach())
        monkeypatch.setattr(native, "Packer", partial(native.Packer, observe=self.products.observe))
        self.loaded = load(EngineConfig(model=folder, **config))
        self.pool = self._pool()

    def _pool(self):
        return KVPool(
            self.loaded.shapes,
            blocks=8,
            block_size=BLOCK,
            dtype=torch.bfloat16,
            device=self.loaded.device,
        )

    def device(self, transcribe=True):
        return self.loaded.computation.on(
            self.pool, max_rows=ROWS, max_logit_rows=ROWS, transcribe=transcribe
        )

    def plain(self):
        return PlainDecoder(self.loaded.computation, self.products, self.pool)


IDS = torch.randint(0, VOCAB, (200,), generator=torch.Generator().manual_seed(3))
BLOCKS = [6, 1, 3, 2]


def a_step(start, length, wanted):
    rows = IDS[start : start + length]
    return StepInput(rows, [Span(BLOCKS, start, length)], wanted)


@pytest.fixture(params=KINDS)
def case(request, tmp_path, monkeypatch):
    return Case(request.param, tmp_path, monkeypatch)


def relative(got, wanted):
    return ((got.float() - wanted.float()).norm() / wanted.float().norm()).item()


def test_a_product_is_its_input_times_the_weights(case):
    device = case.device()
    for batch in (a_step(0, 70, [69]), a_step(70, 1, [0]), a_step(71, 5, range(5))):
        told = device.step(batch).transcript
        opening = told.open(range(len(batch.rows)))
        for matrix in Matrix:
            told_product = opening.products[matrix]
            for layer, (y, x) in enumerate(
                zip(told_product.outputs, told_product.inputs, strict=True)
            ):
                assert (y.shape[1], x.shape[1]) == case.products.weights[layer, matrix].shape
                truth = case.products.product(layer, matrix, x)
                assert relative(y, truth) < 2.0**-8
                scale = truth.abs() + truth.square().mean().sqrt()
                assert ((y.float() - truth).abs() / scale).max() < 2.0**-8
        told.close()
        device.finish_step()


def test_the_transcript_is_what_plain_torch_finds(case):
    device, plain = case.device(), case.plain()
    for batch in (a_step(0, 90, [89]), a_step(90, 1, [0]), a_step(91, 4, range(4))):
        output = device.step(batch)
        told = output.transcript
        logits, truth = plain.step(batch)
        rows = range(len(batch.rows))
        opening, true = told.open(rows), truth.open(rows)
        assert relative(output.logits, logits) < 0.02
        assert relative(told.keys, truth.keys) < 0.02
        assert relative(told.values, truth.values) < 0.02
        assert relative(told.final, truth.final) < 0.02
        assert relative(opening.queries, true.queries) < 0.02
        for matrix in Matrix:
            ours, theirs = opening.products[matrix], true.products[matrix]
            assert relative(ours.outputs, theirs.outputs) < 0.02
            assert relative(ours.inputs, theirs.inputs) < 0.02
        if len(batch.logit_rows) == len(rows):
            for row in rows:
                check_scores(case, told.scores(row), truth.scores(row))
        told.close()
        device.finish_step()


def check_scores(case, got, wanted):
    context = got.shape[-1]
    assert got.shape == wanted.shape
    for layer, ours, theirs in zip(case.loaded.computation.layers, got, wanted, strict=True):
        first = max(0, context - layer.window) if layer.window else 0
        assert relative(ours[:, first:], theirs[:, first:]) < 0.02


def test_values_are_a_part_of_their_product_and_keys_are_those_of_the_cache(case):
    device, model = case.device(), case.loaded.computation
    told = device.step(a_step(0, 70, [69])).transcript
    y = told.open(range(70)).products[Matrix.QKV].outputs
    size, heads = model.shape.key_size, model.shape.heads
    first = (model.heads + heads) * size
    assert torch.equal(y[..., first : first + heads * size], told.values.flatten(2))
    for layer in range(len(model.layers)):
        slots = torch.tensor([BLOCKS[p // BLOCK] * BLOCK + p % BLOCK for p in range(70)])
        assert torch.equal(case.pool.keys[layer][slots], told.keys[layer])
        assert torch.equal(case.pool.values[layer][slots], told.values[layer])


def test_nothing_is_computed_otherwise_because_it_is_told(case):
    def logits(transcribe):
        device, found = case.device(transcribe), []
        for batch in (a_step(0, 90, [89]), a_step(90, 1, [0]), a_step(91, 20, range(20))):
            output = device.step(batch)
            assert (output.transcript is not None) == transcribe
            found.append(output.logits.clone())
            if output.transcript is not None:
                output.transcript.close()
            device.finish_step()
        return torch.cat(found)

    assert torch.equal(logits(False), logits(True))


def test_a_few_rows_may_be_opened(case):
    told = case.device().step(a_step(0, 70, [69])).transcript
    all_rows, some = told.open(range(70)), told.open([3, 69])
    for matrix in Matrix:
        every = all_rows.products[matrix].rows(torch.tensor([3, 69]))
        assert torch.equal(some.products[matrix].outputs, every.outputs)
        assert torch.equal(some.products[matrix].inputs, every.inputs)
    assert torch.equal(some.queries, all_rows.queries[:, [3, 69]])
    with pytest.raises(IndexError):
        told.scores(69)  # of a prompt


def test_close_zeroes_and_the_memory_is_used_again(tmp_path, monkeypatch):
    case = Case("llama", tmp_path, monkeypatch)
    device = case.device()
    told = device.step(a_step(0, 40, [39])).transcript
    told.close()
    told.close()  # harmless
    assert not told.keys.any()
    assert not told.final.any()
    assert not told.open(range(40)).products[Matrix.DOWN].outputs.any()
    other = device.step(a_step(40, 1, [0])).transcript
    assert other.keys.untyped_storage().data_ptr() == told.keys.untyped_storage().data_ptr()
    assert other.keys.any()


def test_two_steps_may_be_told_at_once(tmp_path, monkeypatch):
    case = Case("llama", tmp_path, monkeypatch)
    device = case.device()
    first = device.step(a_step(0, 40, [39])).transcript
    keys = first.keys.clone()
    device.step(a_step(40, 1, [0])).transcript.close()
    assert torch.equal(first.keys, keys)


def test_int8_products_are_told_as_used(tmp_path, monkeypatch):
    case = Case("llama", tmp_path, monkeypatch, weights="int8")
    told = case.device().step(a_step(0, 70, [69])).transcript
    weights = case.loaded.computation.layers[1].down.unpack()
    down = told.open(range(70)).products[Matrix.DOWN]
    y, x = down.outputs[1], down.inputs[1]
    assert relative(y, x.float() @ weights[:192].T) < 0.02  # activations are rounded to 8 bits


def test_nothing_of_a_step_is_left_in_its_memory(case):
    device = case.device()
    for batch in (a_step(0, 70, [69]), a_step(70, 1, [0]), a_step(71, 5, range(5))):
        device.step(batch).transcript.close()
        [storage] = device._storages
        assert not any(bool(memory.any()) for memory in storage._memory.values())
