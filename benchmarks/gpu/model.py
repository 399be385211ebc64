"""A whole model of random weights: ours and transformers' own, taken in turns."""
# ruff: noqa: T201

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.gpu.suite import BLOCK, Suite, relative_error
from engine import linear
from engine.attention import AttentionHook, Span
from engine.cuda.device import CudaDevice, Parts, cuda_parts
from engine.cuda.oracle import TorchKernels
from engine.device import StepInput, TorchModel
from engine.kv_cache import KVPool, LayerShape


def make_model(suite: Suite) -> Any:  # noqa: ANN401 - transformers' class
    """Return a model of the shape with random weights, the same each time."""
    config = LlamaConfig(
        **suite.sizes.model, max_position_embeddings=32768, rope_theta=500000.0, eos_token_id=None
    )
    torch.manual_seed(0)
    with torch.device(suite.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval().requires_grad_(requires_grad=False)


class Ours:
    """Our device over a converted model, driven as the engine's other side drives it."""

    def __init__(self, suite: Suite, *, graphs: bool, kernels: str | None = None) -> None:
        self.suite = suite
        model = make_model(suite)
        # What a step reads of the weights: everything but the embeddings, of which it reads rows.
        embeddings = model.get_input_embeddings().weight.numel()
        self.weights = 2 * (sum(each.numel() for each in model.parameters()) - embeddings)
        config = model.config
        hook = AttentionHook()
        model.set_attn_implementation(hook.name)
        computation = TorchModel(model, hook, linear.convert(model), config.vocab_size)
        size = config.hidden_size // config.num_attention_heads
        shape = LayerShape(config.num_key_value_heads, size, size)
        sizes = suite.sizes
        self.each = -(-max(sizes.long_prompt, sizes.prompt + 4 * sizes.new) // BLOCK)
        fewer = -(-(sizes.prompt + 4 * sizes.new) // BLOCK)
        blocks = max(self.each, fewer * sizes.batches[-1])
        pool = KVPool(
            [shape] * config.num_hidden_layers,
            blocks=blocks,
            block_size=BLOCK,
            dtype=torch.bfloat16,
            device=suite.device,
        )
        self.fewer = fewer
        self.device = CudaDevice(
            computation,
            pool,
            max_rows=max(sizes.long_prompt, sizes.batches[-1] * sizes.prompt),
            max_logit_rows=sizes.batches[-1],
            parts=self._parts(graphs=graphs, kernels=kernels),
        )

    def _parts(self, *, graphs: bool, kernels: str | None) -> Parts:
        if self.suite.on_gpu:
            return cuda_parts(self.suite.device, kernels=kernels, graphs=graphs)
        return Parts(TorchKernels(), None, _Nothing(), pinned=False)

    def decode(self, ids: Tensor, new: int) -> tuple[list[float], Tensor]:
        """Read prompts [batch, length], then decode greedily; seconds a step, and all ids."""
        batch, length = ids.shape
        tables = [list(range(b * self.fewer, (b + 1) * self.fewer)) for b in range(batch)]
        spans = [Span(table, 0, length) for table in tables]
        last = range(length - 1, batch * length, length)
        out = self._step(StepInput(ids.flatten(), spans, last))
        times, outputs = [], [out]
        for step in range(new - 1):
            spans = [Span(table, length + step, 1) for table in tables]
            started = time.perf_counter()
            out = self._step(StepInput(out, spans, range(batch)))
            times.append(time.perf_counter() - started)
            outputs.append(out)
        return times, torch.stack(outputs, 1)

    def prefill(self, ids: Tensor) -> Tensor:
        """Read one prompt [length]; returns the id that follows."""
        span = Span(list(range(self.each)), 0, len(ids))
        return self._step(StepInput(ids, [span], [len(ids) - 1]))

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits after one prompt [length]."""
        span = Span(list(range(self.each)), 0, len(ids))
        out = self.device.step(StepInput(ids, [span], [len(ids) - 1])).logits.clone()
        self.device.finish_step()
        return out[0]

    def _step(self, batch: StepInput) -> Tensor:
        chosen = self.device.step(batch).logits.argmax(-1)
        self.device.finish_step()
        return chosen


class _Nothing:
    def erase(self) -> None:
        """There is nothing to erase on a CPU."""


def generate(stock: Any, ids: Tensor, new: int) -> Tensor:  # noqa: ANN401
    """Let transformers decode greedily; returns the new ids."""
    out = stock.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    return out[:, ids.shape[1] :]


def whole_model(suite: Suite) -> None:
    """Compare with transformers: logits, decoding at every batch size, prefill."""
    stock = make_model(suite)
    ours = Ours(suite, graphs=True)
    report = ours.device.report
    print(json.dumps({"report": report}), flush=True)
    sizes, vocab = suite.sizes, suite.sizes.model["vocab_size"]
    ids = torch.randint(0, vocab, (sizes.prompt,), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        want = stock(ids[None].to(suite.device)).logits[0, -1].float().cpu()
    suite.check("logits of the whole model", relative_error(ours.logits(ids), want), 5e-2)
    by_graph = _decode_all(suite, stock, ours)
    _prefill(suite, stock, ours)
    del stock, ours
    _release(suite)
    without = Ours(suite, graphs=False)
    for batch in sizes.batches:
        times, _ = without.decode(_prompts(suite, batch), sizes.new)
        case = f"sweep graphs on against off @ b{batch}"
        suite.add(case, "x", [statistics.median(times) / by_graph[batch]])
    del without
    _release(suite)
    if suite.on_gpu and find_spec("flashinfer"):
        other = Ours(suite, graphs=True, kernels="flashinfer")
        suite.check("logits by flashinfer", relative_error(other.logits(ids), want), 5e-2)


def _decode_all(suite: Suite, stock: Any, ours: Ours) -> dict[int, float]:  # noqa: ANN401
    """Measure decoding in turns; returns our seconds a step, by batch size."""
    sizes, seconds = suite.sizes, {}
    for batch in sizes.batches:
        ids = _prompts(suite, batch)
        there = ids.to(suite.device)
        generate(stock, there, 2)
        ours.decode(ids, sizes.new)
        mine, ratios = [], []
        for _ in range(sizes.repeats):
            times, got = ours.decode(ids, sizes.new)
            long = _once(suite, lambda: generate(stock, there, sizes.new + 1))  # noqa: B023
            short = _once(suite, lambda: generate(stock, there, 2))  # noqa: B023
            theirs = max(long - short, 1e-9) / (sizes.new - 1)
            mine.append(statistics.median(times))
            ratios.append(theirs / mine[-1])
        agree = (got[:, :2] == generate(stock, there, 2).cpu()).float().mean().item()
        seconds[batch] = statistics.median(mine)
        suite.add(f"decode b{batch} vs transformers @ {_shape(suite)}", "x", ratios)
        suite.add(f"sweep decode b{batch} @ {_shape(suite)}", "tok/s", [batch / t for t in mine])
        suite.add(f"sweep greedy ids that agree b{batch} @ first two", "share", [agree])
        _share(suite, ours, batch, mine)
    return seconds


def _share(suite: Suite, ours: Ours, batch: int, times: Sequence[float]) -> None:
    model = suite.sizes.model
    width = 2 * model["num_key_value_heads"] * model["hidden_size"] // model["num_attention_heads"]
    context = suite.sizes.prompt + suite.sizes.new // 2
    cache = 2 * batch * context * width * model["num_hidden_layers"]
    shares = [(ours.weights + cache) / one / 1e9 / suite.bandwidth for one in times]
    name = "bandwidth share b1" if batch == 1 else f"sweep bandwidth share b{batch}"
    suite.add(f"{name} @ {_shape(suite)}", "of copy", shares)


def _prefill(suite: Suite, stock: Any, ours: Ours) -> None:  # noqa: ANN401
    rows = suite.sizes.long_prompt
    ids = _prompts(suite, 1, rows)[0]
    there = ids[None].to(suite.device)
    model = suite.sizes.model
    head = model["vocab_size"] * model["hidden_size"]
    attention = 2 * rows * model["hidden_size"] * model["num_hidden_layers"]  # 4 n^2 d / 2
    work = 2 * rows * (ours.weights // 2 - head) + 2 * head + rows * attention

    def theirs() -> object:
        with torch.inference_mode():
            return stock(there, logits_to_keep=1).logits.float().cpu()

    theirs()
    ours.prefill(ids)
    pairs = [
        (_once(suite, lambda: ours.prefill(ids)), _once(suite, theirs))
        for _ in range(suite.sizes.repeats)
    ]
    suite.add(f"prefill vs transformers @ {rows} rows", "x", [b / a for a, b in pairs])
    shares = [work / a / 1e12 / suite.rate for a, _ in pairs]
    suite.add(f"sweep prefill rate share @ {rows} rows", "of matmul", shares)
    suite.add(f"sweep prefill @ {rows} rows", "tok/s", [rows / a for a, _ in pairs])


def _prompts(suite: Suite, batch: int, length: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    size = (batch, length or suite.sizes.prompt)
    return torch.randint(0, suite.sizes.model["vocab_size"], size, generator=generator)


def _once(suite: Suite, work: Callable[[], object]) -> float:
    suite.wait()
    started = time.perf_counter()
    work()
    suite.wait()
    return time.perf_counter() - started


def _release(suite: Suite) -> None:
    gc.collect()
    if suite.on_gpu:
        torch.cuda.empty_cache()


def _shape(suite: Suite) -> str:
    return "8B shape, bf16" if suite.on_gpu else "tiny shape"
