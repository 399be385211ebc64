"""KV truncation: what is read, how much less, and how little it changes."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import engine.tinychat
from engine.attention import AttentionHook, Options
from engine.kv_alignment import (
    KEY_LOW,
    MIDDLE,
    AlignedKVPool,
    AlignedLayer,
    attend_aligned,
    join_bytes,
    key_differences,
    split_bytes,
    value_differences,
)
from engine.kv_cache import LayerShape

CPU = torch.device("cpu")
PLAIN = Options(None, None, None, None)


def normal(*sizes):
    """bfloat16 numbers that float16 holds exactly: none is closer to zero than 2^-14."""
    values = torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes))) * 3
    return torch.where(values.abs() < 2.0**-14, 1.0, values).bfloat16()


def make_pool(k, v, blocks, block_size=64):
    """A pool whose `blocks` hold k and v, [positions, heads, size], in their order."""
    shape = LayerShape(k.shape[1], k.shape[2], v.shape[2])
    pool = AlignedKVPool(
        [shape], blocks=max(blocks) + 1, block_size=block_size, dtype=k.dtype, device=CPU
    )
    slots = torch.tensor([b * block_size + n for b in blocks for n in range(block_size)])
    pool.write(0, slots[: len(k)], k, v)
    return pool


def exact(q, k, v, options=PLAIN):
    """Attention of one row in float64."""
    shared = q.shape[0] // k.shape[1]
    k, v = (part.double().repeat_interleave(shared, 1) for part in (k, v))
    scores = torch.einsum("hd,khd->hk", q.double(), k) * q.shape[1] ** -0.5
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    if options.window is not None:
        scores[:, : max(0, len(k) - options.window)] = float("-inf")
    if options.sinks is not None:
        scores = torch.cat([scores, options.sinks.double()[:, None]], 1)
        return torch.einsum("hk,khd->hd", scores.softmax(1)[:, :-1], v)
    return torch.einsum("hk,khd->hd", scores.softmax(1), v)


def error(got, want):
    return ((got - want).norm() / want.norm()).item()


def long_context(length, heads, shared, size, seed=0):
    """Synthetic K and V like those of large models: a few channels of K far above the others, a
    first position that draws much attention, neighbours that draw more than what is far away."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes):
        return torch.randn(*sizes, generator=generator)

    q, k, v = draw(heads * shared, size), draw(length, heads, size), draw(length, heads, size)
    k[:, :, ::16] += 12 * draw(heads, size // 16)
    wanted = 2.0 * draw(length, heads) - 6.0 * (torch.arange(length).flip(0)[:, None] / length)
    wanted[0] = 8.0
    wanted[-32:] += 5.0
    mean = q.view(heads, shared, size).mean(1)
    now = torch.einsum("khd,hd->kh", k, mean) * size**-0.5
    scale = size**0.5 / (mean * mean).sum(-1)
    k += ((wanted - now) * scale)[:, :, None] * mean
    return q.bfloat16(), k.bfloat16(), v.bfloat16()


def test_planes_hold_what_a_bfloat16_holds():
    values = normal(4000)
    high, low = split_bytes(values)
    assert torch.equal(join_bytes(high, low).bfloat16(), values)
    extreme = torch.tensor([0.0, -0.0, 1e30, -1e30, 2.0**-14, 65504.0])
    back = join_bytes(*split_bytes(extreme)).float()
    assert back.tolist() == [0.0, 0.0, 65504.0, -65504.0, 2.0**-14, 65504.0]


def test_a_low_byte_that_is_not_read_costs_an_eighth_at_most():
    values = normal(4000)
    high, _ = split_bytes(values)
    guess = join_bytes(high, torch.full_like(high, MIDDLE)).float()
    assert ((guess - values.float()).abs() / values.float().abs()).max() < 0.125


def test_the_pool_returns_what_was_written_and_knows_its_largest_exponents():
    k, v = normal(100, 2, 8), normal(100, 2, 4)
    pool = make_pool(k, v, [3, 1], 64)
    got_k, got_v = pool.read(0, [3, 1], 100)
    assert torch.equal(got_k, k)
    assert torch.equal(got_v, v)
    for block, part in ((3, k[:64]), (1, k[64:])):
        largest = torch.frexp(part.float().abs().amax(0))[1] - 1 + 15
        assert torch.equal(pool.tops[0][block], largest.int())
    pool.copy([3], [0])
    assert torch.equal(pool.read(0, [0], 64)[0], k[:64])
    pool.zero([0, 1, 3])
    assert not any(bool(tensor.any()) for tensor in pool._by_block())


def test_the_neediest_of_the_heads_that_share_decides():
    tops = torch.tensor([15, 15, 15, 15])
    one = torch.tensor([[1.0, 2.0**-6, 2.0**-12, 0.0]])
    two = torch.tensor([[2.0**-12, 2.0**-6, 1.0, 0.0]])
    assert key_differences(one, tops)[:3].tolist() == [0, 6, 12]
    assert key_differences(torch.cat([one, two]), tops)[:3].tolist() == [0, 6, 0]
    assert key_differences(torch.cat([one, 0 * two]), tops)[:3].tolist() == [0, 6, 12]
    assert key_differences(one, tops)[3] > 100
    scores = torch.tensor([[0.0, -7.0, -20.0], [-1.0, -30.0, -1.0]])
    assert value_differences(scores[:1]).tolist() == [0, 10, 28]
    assert value_differences(scores).tolist() == [0, 10, 0]


def test_a_blocks_own_exponents_decide_for_its_keys():
    tops = torch.tensor([[15, 15], [25, 15]])
    differences = key_differences(torch.ones(1, 2), tops)
    assert differences.tolist() == [[0, 0], [0, 10]]
    assert differences[1, 1] >= KEY_LOW


@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        Options(None, 100, None, None),
        Options(None, None, 20.0, None),
        Options(None, None, None, torch.linspace(-1, 3, 8)),
    ],
)
@pytest.mark.parametrize("length", [1, 63, 64, 300])
def test_every_kind_of_layer_stays_accurate(options, length):
    q, k, v = long_context(length, 2, 4, 64)
    blocks = list(range(-(-length // 64)))[::-1]
    got, reading = attend_aligned(
        q, AlignedLayer(make_pool(k, v, blocks), 0, options), blocks, length
    )
    assert error(got, exact(q, k, v, options)) < 0.01
    assert 0 < reading.read <= reading.whole * 1.04


@pytest.mark.parametrize("shared", [1, 4])
def test_a_long_context_takes_a_quarter_fewer_bytes(shared):
    """32 heads of an 8B shape would take the same; two are enough."""
    q, k, v = long_context(4096, 2, shared, 128)
    blocks = torch.randperm(64, generator=torch.Generator().manual_seed(1)).tolist()
    got, reading = attend_aligned(q, AlignedLayer(make_pool(k, v, blocks), 0, PLAIN), blocks, 4096)
    assert reading.read <= 0.75 * reading.whole
    assert error(got, exact(q, k, v)) < 0.01


def test_a_flat_attention_is_read_whole_and_stays_exact():
    """Nothing may be left out where everything counts the same."""
    k, v = normal(512, 1, 64) * 0.01, normal(512, 1, 64)
    q = normal(4, 64) * 0.01
    blocks = list(range(8))
    got, reading = attend_aligned(q, AlignedLayer(make_pool(k, v, blocks), 0, PLAIN), blocks, 512)
    assert reading.read > 0.9 * reading.whole
    assert error(got, exact(q, k, v)) < 1e-3


class _Notes:
    """An attention that notes what every layer's q, k and v were."""

    def __init__(self):
        self.layers = {}

    def attend(self, layer, q, k, v, options):
        self.layers[layer] = q[0], k[0], v[0]
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
        product = torch.nn.functional.scaled_dot_product_attention
        return product(q, k, v, is_causal=True, scale=options.scaling).transpose(1, 2)


def test_a_trained_models_cache_takes_a_fifth_fewer_bytes():
    """The model in the box, reading 1,000 tokens of our own prose; every layer and head."""
    folder = Path(engine.tinychat.__file__).parent / "model"
    prose = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    hook, notes = AttentionHook(), _Notes()
    model.set_attn_implementation(hook.name)
    ids = torch.tensor(AutoTokenizer.from_pretrained(folder)(prose)["input_ids"][:1000])
    with torch.inference_mode(), hook.use(notes):
        model(input_ids=ids[None], use_cache=False)
    read = whole = 0
    errors = []
    for q, k, v in notes.layers.values():
        blocks = list(range(16))
        pool = make_pool(k.transpose(0, 1), v.transpose(0, 1), blocks)
        context = len(ids)
        got, reading = attend_aligned(q[:, -1], AlignedLayer(pool, 0, PLAIN), blocks, context)
        errors.append(error(got, exact(q[:, -1], k.transpose(0, 1), v.transpose(0, 1))))
        read, whole = read + reading.read, whole + reading.whole
    assert read <= 0.78 * whole
    assert max(errors) < 0.02
    assert len(ids) == 1000
    assert len(errors) == model.config.num_hidden_layers
