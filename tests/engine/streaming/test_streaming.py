"""A model larger than the device computes what it did, sealed on the way, at the link's speed."""

import pytest
import torch

from engine.attention import Span
from engine.config import EngineConfig
from engine.device import StepInput, TorchModel
from engine.errors import EngineError
from engine.loader import load
from engine.streaming.emulated import Run, Set
from engine.streaming.layer import Layer
from engine.streaming.model import streamed
from engine.streaming.ring import Ring
from engine.transfer.errors import FrameRefused, PlainRefused
from engine.transfer.sealer import WorkerSealer

SECRET = bytes(range(32))
IDS = [3 + 7 * at % 190 for at in range(20)]


def make(lab, model_folder, name="llama", **ring):
    """A model of its own (its layers are taken apart), its device, and the ring."""
    loaded = load(EngineConfig(model=model_folder(name), dtype="float32"))
    assert isinstance(loaded.computation, TorchModel)
    model = streamed(
        loaded.computation, **{"buffers": 2, "secret": SECRET, "kind": "sealed", **ring}
    )
    device, _ = lab.device(loaded)
    return device, model.ring


def logits(device, ids=IDS):
    output = device.step(StepInput(torch.tensor(ids), [Span([0, 1], 0, len(ids))], range(len(ids))))
    result = output.logits.clone()
    device.finish_step()
    return result


def rings(count=6, buffers=2, size=300, **ring):
    modules = [torch.nn.Linear(size // 4, 1, bias=False) for _ in range(count)]
    weights = [module.weight.detach().clone() for module in modules]
    made = Ring(
        [Layer(module) for module in modules],
        **{"buffers": buffers, "secret": SECRET, "kind": "sealed", "unit": 100, **ring},
    )
    return made, modules, weights


def step(ring, modules, weights, order=None):
    for index in range(len(modules)) if order is None else order:
        ring.enter(index)
        assert torch.equal(modules[index].weight, weights[index])
        ring.leave(index)
        assert modules[index].weight.is_meta


@pytest.mark.parametrize("kind", ["sealed", "cc", "plain"])
@pytest.mark.parametrize("name", ["gemma3_text", "gpt_neox"])
def test_a_streamed_model_computes_the_same(lab, model_folder, name, kind):
    whole, _ = lab.device(lab.load(name))
    device, ring = make(lab, model_folder, name, kind=kind, attested=kind != "plain", unit=1000)
    for _ in range(3):
        assert torch.equal(logits(device), logits(whole))
    ring.close()


def test_layers_go_round_and_are_sealed_ahead():
    ring, modules, weights = rings()
    step(ring, modules, weights)
    step(ring, modules, weights)
    before = ring.counts
    for _ in range(20):
        step(ring, modules, weights)
    counts = ring.counts - before
    assert counts.hit_rate == 1
    assert counts.hits == 20 * 6 * 4
    assert ring.size * 3 == sum(layer.size for layer in ring._layers)


def test_threads_change_nothing():
    ring, modules, weights = rings(sealer=WorkerSealer(), opener=WorkerSealer())
    for _ in range(20):
        step(ring, modules, weights)
    ring.close()


def test_nothing_crosses_in_clear():
    ring, modules, weights = rings()
    seen = []
    take = ring._arriving.take
    ring._arriving.take = lambda: seen.extend(ring._arriving.arrived) or take()
    step(ring, modules, weights)
    crossed = b"".join(seen)
    for weight in weights:
        raw = weight.numpy().tobytes()
        assert not any(raw[at : at + 8] in crossed for at in range(0, len(raw) - 8, 8))


@pytest.mark.parametrize("order", [[3], [0, 1, 4, 5], [5, 4, 3, 2, 1, 0], [2, 2, 2]])
def test_a_pass_that_breaks_off_or_jumps_finds_its_layers(order):
    ring, modules, weights = rings()
    step(ring, modules, weights, [0, 1])
    step(ring, modules, weights, order)
    step(ring, modules, weights)


def test_a_model_that_fits_crosses_once():
    ring, modules, weights = rings(count=2, buffers=3)
    for _ in range(3):
        step(ring, modules, weights)
    assert ring.counts.hits + ring.counts.misses == 2 * 4


@pytest.mark.parametrize("cut", ["flip", "shorten", "lose", "replay"])
def test_a_layer_that_was_changed_is_not_computed_with(cut):
    ring, modules, weights = rings()
    step(ring, modules, weights)
    take = ring._arriving.take
    arrived = ring._arriving.arrived

    def lying():
        last = arrived.pop()
        changed = {
            "flip": [last[:40] + bytes([last[40] ^ 1]) + last[41:]],
            "shorten": [last[:-1]],
            "lose": [],
            "replay": [arrived[0]],
        }[cut]
        arrived.extend(changed)
        ring._arriving.take = take
        return take()

    ring._arriving.take = lying
    with pytest.raises(FrameRefused):
        step(ring, modules, weights)
    assert all(module.weight.is_meta for module in modules)
    step(ring, modules, weights)  # the next step finds everything again


def test_a_restarted_device_gets_its_layers_again():
    ring, modules, weights = rings()
    step(ring, modules, weights, [0, 1, 2])
    ring.restart()
    step(ring, modules, weights, [3, 4, 5])
    step(ring, modules, weights)


def test_what_cannot_be_streamed_is_refused():
    with pytest.raises(EngineError, match="two buffers"):
        rings(buffers=1)
    with pytest.raises(PlainRefused):
        rings(kind="plain")


def test_three_times_the_device_serves_at_the_speed_of_the_link():
    """EMULATED: 4 GB/s and 0.3 ms a batch; a core that seals 8 GB/s, on a virtual clock."""
    size = 1 << 20

    def cost(task):
        task()
        return size / 8e9

    # Layers of eight units, over a link as much slower as they are smaller than real ones.
    what = Set(layers=9, size=8 * size, buffers=3, crossing_s=0.15e-3, passes=4)
    run = Run(what, "sealed", cost)
    result = run.result()
    assert result.model >= 3 * result.device
    assert result.of_link >= 0.9
    assert result.of_bandwidth >= 0.9
    assert result.counts.hit_rate >= 0.99
    run.close()


def test_a_core_that_seals_slower_than_the_link_is_what_limits():
    what = Set(layers=6, size=4 << 20, buffers=2, passes=2)

    def cost(task):
        task()
        return (1 << 20) / 2e9

    run = Run(what, "sealed", cost)
    assert run.result().of_link < 0.7
    run.close()
