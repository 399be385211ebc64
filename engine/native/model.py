"""Which transformers models the library can compute, and their weights made ready for it.

A model is taken by its class (`engine.native.families`), every module of which is known to be what
`src/model.cpp` computes; sizes that do not fit the kernels are refused. Whatever is taken is
compared with the stock model before it serves (`engine.loader`), like any other.

Some of what a family does differently is settled here, in the weights, so that the library need
not know it: a bias of a LayerNorm moves into the bias of the product that follows; and the
dimensions of query and key heads are reordered (both alike, which no score notices) so that
partial and interleaved rotations become rotations of the two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.attention import ShapeProbe
from engine.device import Computation, Device
from engine.kv_cache import KVPool
from engine.native import library
from engine.native.decoder import NativeLayer, NativeWeights
from engine.native.device import NativeDevice
from engine.native.families import ACTIVATIONS, FAMILIES, UNKNOWN
from engine.native.library import NativeUnavailable
from engine.native.weights import PackedWeights, pack, pack_pairs
from engine.verification.transcript import Matrix

Observe = Callable[[int, Matrix, Tensor, Tensor | None], None]
"""Shown the layer, the product, its weights [outputs, inputs] before they are rounded to 8 bits,
and its bias; outputs in the order in which transcripts have them."""

BLOCK_MULTIPLE = 32
"""Blocks of the KV pool are a multiple of this many tokens."""
_MAX_HEAD = 256


class NativeModel(NativeWeights):
    """A decoder ready for the library (`engine.device.Computation`)."""

    @property
    def telling(self) -> Computation:
        """The same model, whose steps come with a transcript."""
        return _Telling(self)

    def on(
        self, pool: KVPool, *, max_rows: int, max_logit_rows: int, transcribe: bool = False
    ) -> Device:
        """Return a device that computes this model over `pool`; see `NativeDevice`."""
        return NativeDevice(
            self,
            pool,
            max_rows=max_rows,
            max_logit_rows=max_logit_rows,
            transcribe=transcribe,
        )


@dataclass(frozen=True)
class _Telling:
    """A `Computation` that is transcribed."""

    model: NativeModel

    def on(self, pool: KVPool, *, max_rows: int, max_logit_rows: int) -> Device:
        """See `Computation`."""
        return self.model.on(
            pool, max_rows=max_rows, max_logit_rows=max_logit_rows, transcribe=True
        )


def objections(
    model: Any,  # noqa: ANN401 - one class an architecture
    dtype: torch.dtype,
    device: torch.device,
    block_size: int,
) -> Iterator[str]:
    """Yield what keeps the library from computing a transformers model; its weights are not read.

    Args:
        model: the model, perhaps without weights.
        dtype: what its weights will be.
        device: where they will be.
        block_size: tokens of a KV block.
    """
    config = model.config
    if type(model).__name__ not in FAMILIES:
        yield f"{type(model).__name__} is not among the families of the compiled kernels"
        return
    if dtype != torch.bfloat16 or device.type != "cpu":
        yield "the compiled kernels compute in bfloat16 on a CPU"
    try:
        library.load()
    except NativeUnavailable as error:
        yield str(error)
    size = _head_size(config)
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * size)
    if any(width % 64 for width in widths):
        yield "a width is not a multiple of 64"
    if size % 32 or size > _MAX_HEAD or block_size % BLOCK_MULTIPLE:
        yield "the size of a head or a block does not suit the kernels' tiles"
    if _activation(model.base_model.layers[0].mlp) is None:
        yield f"the kernels have no {config.hidden_act}"
    if any(getattr(config, switch, False) for switch in UNKNOWN):
        yield "normalises queries and keys in a way of its own"
    scaled = bool((_rotations(model.base_model)[1] != 1.0).any())
    if scaled and 2 * _frequencies(model.base_model)[0].shape[-1] != size:
        yield "scales the part of a head that it rotates"


class Packer:
    """Packs a model that `objections` has nothing against, layer by layer as weights arrive.

    A layer's own weights are let go as soon as it is packed, so that a model is never in memory
    twice.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - one class an architecture
        *,
        int8: bool,
        observe: Observe | None = None,
    ) -> None:
        """Start on a model, perhaps without weights yet.

        Args:
            model: the transformers model.
            int8: whether weights are rounded to 8 bits.
            observe: is shown every product of every layer on the way.
        """
        self._model = model
        self._observe = observe
        self._family = FAMILIES[type(model).__name__]
        self._int8 = int8
        self._parallel = self._family.is_parallel(model.config)
        self._kinds, self._scales = _rotations(model.base_model)
        self._frequencies = _frequencies(model.base_model)
        rotated = 2 * self._frequencies[0].shape[-1]
        self._order = _order(_head_size(model.config), rotated, self._family.interleaved)
        self._layers: list[NativeLayer] = []

    def layer(self, layer: Any) -> None:  # noqa: ANN401
        """Pack the next layer, and let go of its weights."""
        self._layers.append(self._packed(layer))
        layer.to("meta")

    def finish(self, probe: ShapeProbe) -> NativeModel:
        """Pack what is not of a layer, and return the model.

        Args:
            probe: what the layers ask of their attention.
        """
        model, config = self._model, self._model.config
        decoder, family = model.base_model, self._family
        norm = getattr(decoder, family.final_norm)
        embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
        attention = getattr(decoder.layers[0], family.attention)
        shape = probe.shapes[0]
        return NativeModel(
            layers=tuple(
                replace(layer, window=probe.windows[index] or 0)
                for index, layer in enumerate(self._layers)
            ),
            embeddings=embeddings.weight.detach(),
            final_norm=self._vector(norm),
            head=self._pack(head.weight, _with(head.bias, head.weight, norm)),
            frequencies=nn.functional.pad(
                torch.stack([each.float() for each in self._frequencies]),
                (0, shape.key_size // 2 - self._frequencies[0].shape[-1]),
            ).contiguous(),
            rotary_scales=self._scales,
            epsilon=float(getattr(norm, "variance_epsilon", None) or norm.eps),
            scaling=float(attention.scaling),
            score_cap=float(getattr(attention, "attn_logit_softcapping", None) or 0),
            logit_cap=float(getattr(config, "final_logit_softcapping", None) or 0),
            embedding_scale=float(
                getattr(
                    embeddings, "scalar_embed_scale", getattr(config, "embedding_multiplier", 1)
                )
            ),
            residual_scale=float(getattr(config, "residual_multiplier", 1.0)),
            logit_scale=float(
                getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
            ),
            activation=_activation(decoder.layers[0].mlp) or 0,
            gated=family.gated,
            centred=family.centred,
            parallel=self._parallel,
            whole_norms=family.whole_norms,
            heads=config.num_attention_heads,
            shape=shape,
            intermediate=config.intermediate_size,
            vocabulary=len(embeddings.weight),
        )

    def _packed(self, layer: Any) -> NativeLayer:  # noqa: ANN401
        family = self._family
        attention, mlp = getattr(layer, family.attention), layer.mlp
        before, after = _named(layer, family.attention_norm), _named(layer, family.mlp_norm)
        weight, bias = self._qkv(attention)
        output, down = getattr(attention, family.output), getattr(mlp, family.down)
        return NativeLayer(
            attention_norm=self._vector_or_none(before),
            mlp_norm=self._vector_or_none(after),
            attention_post_norm=self._vector_or_none(_named(layer, family.attention_post_norm)),
            mlp_post_norm=self._vector_or_none(_named(layer, family.mlp_post_norm)),
            query_norm=self._head_norm(attention, "q_norm"),
            key_norm=self._head_norm(attention, "k_norm"),
            qkv=self._product(Matrix.QKV, weight, _with(bias, weight, before)),
            output=self._product(Matrix.OUTPUT, output.weight, output.bias),
            gate_up=self._widening(mlp, before if after is None and self._parallel else after),
            down=self._product(Matrix.DOWN, down.weight, down.bias),
            window=0,
            rotary=self._rotary(attention),
        )

    def _qkv(self, attention: Any) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
        """Return the joint projection of queries, keys and values, heads in the library's order."""
        fused = getattr(attention, "qkv_proj", None)
        interwoven = getattr(attention, "query_key_value", None)
        size = _head_size(self._model.config)
        if interwoven is not None:  # head by head its query, key and value
            heads = self._model.config.num_attention_heads
            order = torch.arange(heads * 3 * size).view(heads, 3, size).transpose(0, 1).reshape(-1)
            weight, bias = interwoven.weight[order], interwoven.bias
            bias = None if bias is None else bias[order]
        elif fused is not None:
            weight, bias = fused.weight, fused.bias
        else:
            parts = (attention.q_proj, attention.k_proj, attention.v_proj)
            weight = torch.cat([part.weight for part in parts])
            bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        if self._order is None:
            return weight, bias
        values = getattr(self._model.config, "num_key_value_heads", None)
        turned = len(weight) // size - (values or self._model.config.num_attention_heads)
        order = torch.arange(len(weight)).view(-1, size)
        order[:turned] = order[:turned, self._order]
        return weight[order.view(-1)], None if bias is None else bias[order.view(-1)]

    def _widening(self, mlp: Any, norm: Any) -> PackedWeights:  # noqa: ANN401
        """Pack the MLP's first product, which reads what `norm` hands over."""
        fused = getattr(mlp, "gate_up_proj", None)
        if fused is not None:
            self._show(Matrix.GATE_UP, fused.weight, None)
            gate, up = fused.weight.chunk(2)
            return pack_pairs(gate, up, int8=self._int8)
        up = getattr(mlp, self._family.up)
        up_bias = _with(up.bias, up.weight, norm)
        if not self._family.gated:
            return self._product(Matrix.GATE_UP, up.weight, up_bias)
        gate = mlp.gate_proj
        gate_bias = _with(gate.bias, gate.weight, norm)
        biases = None if gate_bias is None or up_bias is None else (gate_bias, up_bias)
        if self._observe is not None:
            both = None if biases is None else torch.cat(biases)
            self._show(Matrix.GATE_UP, torch.cat([gate.weight, up.weight]), both)
        return pack_pairs(gate.weight, up.weight, biases, int8=self._int8)

    def _rotary(self, attention: Any) -> int:  # noqa: ANN401
        if type(attention).__name__ == "Exaone4Attention":
            turns = attention.sliding_window is None or attention.is_sliding
        elif type(attention).__name__ == "Cohere2Attention":
            turns = attention.sliding_window is not None
        else:
            turns = bool(getattr(attention, "use_rope", True))
        if not turns:
            return -1
        return self._kinds.index(attention.layer_type) if self._kinds else 0

    def _head_norm(self, attention: Any, name: str) -> Tensor | None:  # noqa: ANN401
        norm = getattr(attention, name, None)
        if norm is None:
            return None
        vector = self._vector(norm)
        if self._order is not None:
            vector = vector.view(-1, len(self._order))[:, self._order].reshape(-1).contiguous()
        return vector

    def _product(self, matrix: Matrix, weight: Tensor, bias: Tensor | None) -> PackedWeights:
        """Pack one of the layer's products."""
        self._show(matrix, weight, bias)
        return self._pack(weight, bias)

    def _show(self, matrix: Matrix, weight: Tensor, bias: Tensor | None) -> None:
        if self._observe is not None:
            self._observe(len(self._layers), matrix, weight, bias)

    def _pack(self, weight: Tensor, bias: Tensor | None) -> PackedWeights:
        return pack(weight, bias, int8=self._int8)

    def _vector(self, norm: Any) -> Tensor:  # noqa: ANN401
        weight: Tensor = norm.weight.detach().float()
        return (weight + self._family.norm_offset).contiguous()

    def _vector_or_none(self, norm: Any) -> Tensor | None:  # noqa: ANN401
        return None if norm is None else self._vector(norm)


def _named(layer: Any, name: str | None) -> Any:  # noqa: ANN401
    return None if name is None else getattr(layer, name)


def _with(bias: Tensor | None, weight: Tensor, norm: Any) -> Tensor | None:  # noqa: ANN401
    """Return a product's bias with the bias of the norm before it taken in."""
    of_norm: Tensor | None = getattr(norm, "bias", None)
    if of_norm is None:
        return bias
    moved = weight.float() @ of_norm.float()
    return moved if bias is None else moved + bias.float()


def _order(size: int, rotated: int, interleaved: bool) -> Tensor | None:
    """Return which dimension of a head comes first, second, ...; None where they stay.

    The library turns dimension i with i + size / 2.
    """
    pairs = (
        torch.arange(rotated).view(-1, 2).T if interleaved else torch.arange(rotated).view(2, -1)
    )
    rest = torch.arange(rotated, size).view(2, -1)
    order = torch.cat([pairs, rest], dim=1).reshape(-1)
    return None if bool((order == torch.arange(size)).all()) else order


def _rotations(decoder: Any) -> tuple[list[str], Tensor]:  # noqa: ANN401
    """Return the kinds of layers that have rotations of their own, and all rotations' scales."""
    rotary = decoder.rotary_emb
    kinds = [kind for kind in getattr(rotary, "layer_types", ()) if kind in rotary.rope_type]
    names = [f"{kind}_attention_scaling" for kind in kinds] or ["attention_scaling"]
    return kinds, torch.tensor([float(getattr(rotary, name, 1.0)) for name in names])


def _frequencies(decoder: Any) -> list[Tensor]:  # noqa: ANN401
    kinds, _ = _rotations(decoder)
    names = [f"{kind}_inv_freq" for kind in kinds] or ["inv_freq"]
    return [getattr(decoder.rotary_emb, name).detach() for name in names]


def _activation(mlp: Any) -> int | None:  # noqa: ANN401
    modules = (getattr(mlp, name, None) for name in ("act_fn", "act", "activation_fn"))
    kinds = [ACTIVATIONS.get(type(module).__name__) for module in modules if module is not None]
    return kinds[0] if len(kinds) == 1 else None


def _head_size(config: Any) -> int:  # noqa: ANN401
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)
