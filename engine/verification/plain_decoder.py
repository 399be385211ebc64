"""The dense decoder in plain torch: what the compiled library computes, an operation a line.

Slow and easy to read. It is what the transcripts of other devices are judged by, what the
baselines (`engine.verification.baselines`) are made of, and how a device lies in tests: every
tensor passes through `touch`, whose answer is gone on with, and through `tell`, whose answer is
shipped.

Rounding order: products and what enters them bfloat16, everything between float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from engine.attention import Span
from engine.device import StepInput
from engine.kv_cache import KVPool
from engine.native.decoder import NativeLayer
from engine.native.model import NativeModel
from engine.verification.transcript import Matrix, Opening, Product


class Op(StrEnum):
    """Where a tensor of a step comes from."""

    EMBEDDED = "embedded"
    """float32 [rows, hidden]: the residual stream's beginning."""
    ATTENTION_INPUT = "attention input"
    """bfloat16 [rows, hidden]: normalised."""
    QKV = "qkv"
    """bfloat16 [rows, outputs], as of every product."""
    QUERIES = "queries"
    """bfloat16 [rows, heads, size]: normalised and rotated."""
    KEYS = "keys"
    VALUES = "values"
    STORED_KEYS = "stored keys"
    """The same again, on the way into the cache: what is put there is not shipped."""
    STORED_VALUES = "stored values"
    SCORES = "scores"
    """float32 [heads, rows, context], of one span: scaled, not yet capped."""
    ATTENDED = "attended"
    """bfloat16 [rows, heads * size]."""
    OUTPUT = "output"
    MLP_INPUT = "mlp input"
    GATE_UP = "gate_up"
    ACTIVATED = "activated"
    DOWN = "down"
    RESIDUAL = "residual"
    """float32 [rows, hidden]: behind a layer."""
    FINAL = "final"
    """bfloat16 [wanted, hidden]: what the head multiplies."""
    LOGITS = "logits"
    """float32 [wanted, vocabulary]."""


Touch = Callable[[Op, int, Tensor], Tensor]
"""Sees what an operation of a layer found (-1: of none), and returns what is put in its place."""

_PRODUCTS = {
    Op.QKV: Matrix.QKV,
    Op.OUTPUT: Matrix.OUTPUT,
    Op.GATE_UP: Matrix.GATE_UP,
    Op.DOWN: Matrix.DOWN,
}
_INPUTS = {
    Matrix.QKV: Op.ATTENTION_INPUT,
    Matrix.OUTPUT: Op.ATTENDED,
    Matrix.GATE_UP: Op.MLP_INPUT,
    Matrix.DOWN: Op.ACTIVATED,
}


def unchanged(_op: Op, _layer: int, tensor: Tensor) -> Tensor:
    """Return the tensor: an honest `Touch`."""
    return tensor


@dataclass(frozen=True)
class Hands:
    """Through which every tensor of a step passes."""

    touch: Touch = unchanged
    """What is gone on with."""
    tell: Touch = unchanged
    """What is put in the transcript, of that."""


HONEST = Hands()


@dataclass
class Products:
    """Who multiplies, and the weights it does it with, in natural order."""

    head: Tensor
    """bfloat16 [vocabulary, hidden]."""
    weights: dict[tuple[int, Matrix], Tensor] = field(default_factory=dict)
    """bfloat16 [outputs, inputs]."""
    biases: dict[tuple[int, Matrix], Tensor | None] = field(default_factory=dict)
    head_bias: Tensor | None = None
    """float32 [vocabulary]: what a final norm with a bias left there."""

    def observe(self, layer: int, matrix: Matrix, weight: Tensor, bias: Tensor | None) -> None:
        """Keep a copy of a product's weights while they are packed."""
        self.weights[layer, matrix] = weight.detach().clone()
        self.biases[layer, matrix] = None if bias is None else bias.detach().float().clone()

    def product(self, layer: int, matrix: Matrix, x: Tensor) -> Tensor:
        """Return y = x W^T + b, summed up in float32; x bfloat16 [rows, inputs]."""
        y = x.float() @ self.weights[layer, matrix].float().T
        bias = self.biases[layer, matrix]
        return y if bias is None else y + bias

    def logits(self, x: Tensor) -> Tensor:
        """Return the head's product, float32; x bfloat16 [rows, hidden]."""
        logits = x.float() @ self.head.float().T
        return logits if self.head_bias is None else logits + self.head_bias

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return q k^T, float32 [heads, rows, context].

        Args:
            queries: bfloat16 [heads, rows, size].
            keys: bfloat16 [key heads, context, size].
        """
        return queries.float() @ _shared(keys, len(queries)).transpose(1, 2)

    def mixed(self, weights: Tensor, values: Tensor) -> Tensor:
        """Return p v, float32 [heads, rows, size].

        Args:
            weights: float32 [heads, rows, context].
            values: bfloat16 [key heads, context, size].
        """
        return weights @ _shared(values, len(weights))


def _shared(cache: Tensor, heads: int) -> Tensor:
    """Repeat every key head for the query heads that share it."""
    return cache.float().repeat_interleave(heads // len(cache), dim=0)


class PlainDecoder:
    """Computes steps over a KV pool."""

    def __init__(
        self, model: NativeModel, products: Products, pool: KVPool, hands: Hands = HONEST
    ) -> None:
        """Compute a model.

        Args:
            model: norms, rotations and numbers; its packed products are not used.
            products: the weights.
            pool: where keys and values go.
            hands: through which every tensor passes.
        """
        self._model = model
        self._products = products
        self._pool = pool
        self._hands = hands

    @torch.inference_mode()
    def step(self, batch: StepInput) -> tuple[Tensor, PlainTranscript]:
        """Compute a step; the logits asked for, float32 [wanted, vocabulary], and what was done."""
        told = PlainTranscript()
        self._told = told
        model = self._model
        rows = batch.rows if batch.rows.is_floating_point() else model.embeddings[batch.rows]
        h = self._see(Op.EMBEDDED, -1, rows.to(torch.bfloat16).float() * model.embedding_scale)
        for index in range(len(model.layers)):
            h = self._see(Op.RESIDUAL, index, self._layer(index, h, batch.spans))
        final = bf16(norm(model, model.final_norm, h[list(batch.logit_rows)]))
        final = self._see(Op.FINAL, -1, final)
        logits = self._products.logits(final) * model.logit_scale
        if model.logit_cap:
            logits = model.logit_cap * torch.tanh(logits / model.logit_cap)
        return self._see(Op.LOGITS, -1, logits), told

    def _see(self, op: Op, layer: int, tensor: Tensor) -> Tensor:
        tensor = self._hands.touch(op, layer, tensor)
        self._told.hear(op, layer, self._hands.tell(op, layer, tensor))
        return tensor

    def _multiply(self, op: Op, layer: int, x: Tensor) -> Tensor:
        return self._see(op, layer, bf16(self._products.product(layer, _PRODUCTS[op], x)))

    def _layer(self, index: int, h: Tensor, spans: Sequence[Span]) -> Tensor:
        model, layer = self._model, self._model.layers[index]
        x = self._see(Op.ATTENTION_INPUT, index, bf16(norm(model, layer.attention_norm, h)))
        attended = self._attend(index, self._multiply(Op.QKV, index, x), spans)
        beside = self._widen(index, h, x) if model.parallel else None
        y = self._multiply(Op.OUTPUT, index, attended)
        h = self._add(h, y, layer.attention_post_norm)
        activated = self._widen(index, h, x) if beside is None else beside
        return self._add(h, self._multiply(Op.DOWN, index, activated), layer.mlp_post_norm)

    def _add(self, h: Tensor, y: Tensor, post_norm: Tensor | None) -> Tensor:
        return h + norm(self._model, post_norm, y.float()) * self._model.residual_scale

    def _widen(self, index: int, h: Tensor, attention_input: Tensor) -> Tensor:
        model, layer = self._model, self._model.layers[index]
        shared = model.parallel and layer.mlp_norm is None
        x = attention_input if shared else bf16(norm(model, layer.mlp_norm, h))
        y = self._multiply(Op.GATE_UP, index, self._see(Op.MLP_INPUT, index, x)).float()
        if model.gated:
            gate, up = y.chunk(2, dim=-1)
            return self._see(Op.ACTIVATED, index, bf16(activate(model.activation, gate) * up))
        return self._see(Op.ACTIVATED, index, bf16(activate(model.activation, y)))

    def _attend(self, index: int, qkv: Tensor, spans: Sequence[Span]) -> Tensor:
        model, layer = self._model, self._model.layers[index]
        positions = torch.cat([torch.arange(span.start, span.context) for span in spans])
        size, key_heads = model.shape.key_size, model.shape.heads
        widths = [model.heads * size, key_heads * size, key_heads * size]
        q, k, v = torch.split(qkv.float(), widths, -1)
        q = self._see(Op.QUERIES, index, turned(model, layer, q, layer.query_norm, positions))
        k = self._see(Op.KEYS, index, turned(model, layer, k, layer.key_norm, positions))
        v = self._see(Op.VALUES, index, bf16(v).view(-1, key_heads, size))
        block = self._pool.block_size
        slots = torch.cat([slots_of(span, block)[span.start :] for span in spans])
        stored = self._see(Op.STORED_KEYS, index, k), self._see(Op.STORED_VALUES, index, v)
        self._pool.write(index, slots, *stored)
        own = torch.split(q, [span.length for span in spans])
        parts = [self._attend_span(index, *each) for each in zip(own, spans, strict=True)]
        return self._see(Op.ATTENDED, index, bf16(torch.cat(parts)))

    def _attend_span(self, index: int, q: Tensor, span: Span) -> Tensor:
        """Return float32 [rows, heads * size] of one span's queries, [rows, heads, size]."""
        model, layer = self._model, self._model.layers[index]
        keys, values = (
            cached(cache[index], self._pool.block_size, span).transpose(0, 1)
            for cache in (self._pool.keys, self._pool.values)
        )
        scores = self._products.scores(q.transpose(0, 1), keys) * model.scaling
        scores = self._see(Op.SCORES, index, scores)
        if model.score_cap:
            scores = model.score_cap * torch.tanh(scores / model.score_cap)
        scores = scores.masked_fill(~visible(span, layer.window), -torch.inf)
        return self._products.mixed(scores.softmax(-1), values).transpose(0, 1).flatten(1)


@dataclass
class PlainTranscript:
    """A `Transcript` that keeps everything a step found."""

    heard: dict[tuple[Op, int], Tensor] = field(default_factory=dict)
    spans: list[list[Tensor]] = field(default_factory=list)
    """Scores, layer by layer, span by span."""

    def hear(self, op: Op, layer: int, tensor: Tensor) -> None:
        """Take down what an operation found."""
        if op is not Op.SCORES:
            self.heard[op, layer] = tensor
            return
        if layer == len(self.spans):
            self.spans.append([])
        self.spans[layer].append(tensor)

    @property
    def keys(self) -> Tensor:
        """See `Transcript`."""
        return self._layers(Op.KEYS)

    @property
    def values(self) -> Tensor:
        """See `Transcript`."""
        return self._layers(Op.VALUES)

    @property
    def final(self) -> Tensor:
        """See `Transcript`."""
        return self.heard[Op.FINAL, -1]

    def open(self, rows: Sequence[int]) -> Opening:
        """See `Transcript`."""
        index = torch.tensor(rows)
        products: dict[Matrix, Product] = {}
        for op, matrix in _PRODUCTS.items():
            whole = Product(self._layers(op), self._layers(_INPUTS[matrix]))
            products[matrix] = whole.rows(index)
        return Opening(rows, products, self._layers(Op.QUERIES)[:, index])

    def scores(self, row: int) -> Tensor:
        """See `Transcript`."""
        first = 0
        for number, scores in enumerate(self.spans[0]):
            if row < first + scores.shape[1]:
                context = scores.shape[2] - scores.shape[1] + row - first + 1
                return torch.stack([each[number][:, row - first, :context] for each in self.spans])
            first += scores.shape[1]
        raise IndexError("the step has no such row")

    def close(self) -> None:
        """See `Transcript`."""
        for tensor in (*self.heard.values(), *(each for spans in self.spans for each in spans)):
            tensor.zero_()

    def _layers(self, op: Op) -> Tensor:
        count = 1 + max(layer for _, layer in self.heard)
        return torch.stack([self.heard[op, layer] for layer in range(count)])


def bf16(x: Tensor) -> Tensor:
    """Round to bfloat16."""
    return x.to(torch.bfloat16)


def norm(model: NativeModel, weight: Tensor | None, x: Tensor) -> Tensor:
    """Normalise rows, float32; without a weight, return them."""
    if weight is None:
        return x
    if model.centred:
        x = x - x.mean(-1, keepdim=True)
    return x * (x.square().mean(-1, keepdim=True) + model.epsilon).rsqrt() * weight


def turned(
    model: NativeModel, layer: NativeLayer, x: Tensor, weight: Tensor | None, positions: Tensor
) -> Tensor:
    """Normalise and rotate heads; float32 [rows, heads * size] to bfloat16 [rows, heads, size]."""
    size = model.shape.key_size
    if weight is not None and model.whole_norms:
        x = x * (x.square().mean(-1, keepdim=True) + model.epsilon).rsqrt() * weight
    x = x.view(len(positions), -1, size)
    if weight is not None and not model.whole_norms:
        x = x * (x.square().mean(-1, keepdim=True) + model.epsilon).rsqrt() * weight
    if layer.rotary < 0:
        return bf16(x)
    angles = positions[:, None].float() * model.frequencies[layer.rotary]
    scale = model.rotary_scales[layer.rotary]
    cosine, sine = (angles.cos() * scale)[:, None], (angles.sin() * scale)[:, None]
    a, b = x.chunk(2, dim=-1)
    return bf16(torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1))


def activate(kind: int, x: Tensor) -> Tensor:
    """Apply the activation that `engine.native.families.ACTIVATIONS` numbers so."""
    forms: tuple[Callable[[Tensor], Tensor], ...] = (
        functional.silu,
        lambda x: functional.gelu(x, approximate="tanh"),
        functional.gelu,
        lambda x: functional.relu(x).square(),
    )
    return forms[kind](x)


def cached(cache: Tensor, block_size: int, span: Span) -> Tensor:
    """Return what a layer's cache holds of a sequence, bfloat16 [context, key heads, size]."""
    return cache[slots_of(span, block_size)]


def slots_of(span: Span, block_size: int) -> Tensor:
    """Return where a sequence's positions are in the cache, int64 [context]."""
    blocks = torch.tensor(span.blocks)[:, None] * block_size + torch.arange(block_size)
    return blocks.reshape(-1)[: span.context]


def visible(span: Span, window: int) -> Tensor:
    """Return which positions the rows of a span see, bool [rows, context]; window 0: all before."""
    row = torch.arange(span.start, span.context)[:, None]
    position = torch.arange(span.context)
    seen = position <= row
    return seen & (position > row - window) if window else seen
