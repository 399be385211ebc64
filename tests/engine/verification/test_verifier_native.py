"""The compiled device under T's eyes: what it says is right in every family, to the rounding."""

import pytest
import torch
from verified_models import FAMILIES, Native, native_model, prompt, span, trusted

from engine.native import checks
from engine.native import model as native
from engine.verification.attention.sketched import SketchedAttention
from engine.verification.linear import LinearCheck, head_error
from engine.verification.model import weights
from engine.verification.secrets import Secrets
from engine.verification.sketch import Sketcher
from engine.verification.transcript import Matrix
from engine.verification.verifier import Verifier, Work

if checks.available() is None:
    pytest.skip("compiled kernels: not here", allow_module_level=True)


def answered(verifier, device, start, ids, logit_rows):
    logits, told = device.step(ids, [span(start, len(ids))], logit_rows)
    [finding] = verifier.check([Work("a", start, ids, logit_rows)], told, logits)
    told.close()
    return finding


@pytest.mark.parametrize(
    ("name", "kept"), [*((name, "as stored") for name in FAMILIES), ("llama", "int8")]
)
def test_an_honest_device_passes_every_check(name, kept):
    model, device = trusted(name, kept), Native(name, kept)
    verifier = Verifier(
        model, SketchedAttention(model, Secrets(bytes)), mode="full", secrets=Secrets(bytes)
    )
    assert answered(verifier, device, 0, prompt(70), [69]).failed == ()
    assert answered(verifier, device, 70, prompt(5), [0, 1, 2, 3, 4]).failed == ()
    for step in range(10):
        assert answered(verifier, device, 75 + step, prompt(1, seed=step), [0]).failed == ()


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("matrix", list(Matrix))
def test_a_changed_weight_is_found_where_it_is(matrix, layer):
    """One weight of a row, by three times its row's root mean square."""
    model, device = trusted("qwen3"), Native("qwen3")
    packed = getattr(device.model.layers[layer], matrix.value).values.view(-1)
    verifier = Verifier(model, SketchedAttention(model, Secrets(bytes)), secrets=Secrets(bytes))
    assert answered(verifier, device, 0, prompt(40), [39]).accepted
    changed = packed[64:128] + 3 * packed.float().square().mean().sqrt()
    kept = swapped(packed, changed)
    try:
        assert answered(verifier, device, 40, prompt(1), [0]).failed == (matrix.value,)
    finally:
        swapped(packed, kept)


@torch.inference_mode()
def swapped(packed, values):
    kept = packed[64:128].clone()
    packed[64:128] = values
    return kept


def test_weights_come_back_in_natural_order_as_the_packer_saw_them(monkeypatch):
    seen = {}

    def observe(layer, matrix, weight, bias):
        seen[layer, matrix] = weight.detach().clone(), bias

    packer = native.Packer
    monkeypatch.setattr(native, "Packer", lambda *a, **k: packer(*a, **k, observe=observe))
    for name in ("gemma3_text", "starcoder2", "ernie4_5", "phi3"):
        seen.clear()
        model = native_model.__wrapped__(name)
        for (layer, matrix), (weight, _) in seen.items():
            assert torch.equal(weights(model, layer, matrix)[0], weight.float())
        assert len(seen) == len(model.layers) * len(Matrix)


def test_statistics_are_those_of_rounding():
    model, device = trusted("llama"), Native("llama")
    logits, told = device.step(prompt(200), [span(0, 200)], [199])
    judged = LinearCheck(model.sketches).check(told.open(range(200)).products)
    assert abs(judged.energy.mean().item() - 1) < 0.05
    assert head_error(told.final, logits, model.head).item() < 2e-6


def test_secrets_are_another_key_away():
    one, other = (Sketcher(Secrets(lambda size, k=k: bytes([k]) * size)) for k in (1, 2))
    matrix = torch.randn(64, 64)
    for sketcher in (one, other):
        sketcher.observe(0, Matrix.QKV, matrix, None)
    first, second = (each.sketches()[Matrix.QKV].packed for each in (one, other))
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="in order"):
        one.observe(2, Matrix.QKV, matrix, None)
