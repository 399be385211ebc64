"""Which serving optimisations run here, which are refused, and why: one table. Free of torch.

An optimisation that remembers, moves or reorders requests can break a promise of the service, so
none may be silent: each is one row of OPTIMISATIONS, and the table is part of the engine policy,
whose digest is attested.

    on        used, and touches no requirement
    declared  used in the form stated, which keeps the requirement named
    off       would be permitted in the form stated; not used by this engine
    refused   never used, in any form

Requirements: S stateless computation, E enforceable guarantees, P no privileged runtime access,
T non-targetability, V verifiable transparency; "integrity" is the verification of the computation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engine.config import EngineConfig
from wire import canonical_json

State = Literal["on", "declared", "off", "refused"]


@dataclass(frozen=True)
class Optimisation:
    """One row of the table."""

    name: str
    state: State
    touches: str
    """Requirements it could break: letters, or "integrity"; empty for none."""
    form: str


_BETWEEN_NODES = "never between nodes; inside one attested group over sealed links only"
_ONE_GROUP = "inside one attested group only"
_FIRST_COME = "first come, first served; the client chooses the node"

OPTIMISATIONS: tuple[Optimisation, ...] = (
    Optimisation("paging", "on", "", "KV in blocks, zeroed when freed"),
    Optimisation("token_level_attention", "on", "", "a row a token, whatever its sequence"),
    Optimisation("continuous_batching", "on", "", "sequences join and leave between steps"),
    Optimisation("chunked_prefill", "on", "", "in one step with decode rows"),
    Optimisation("packed_prefill", "on", "", "no padding between sequences"),
    Optimisation("grouped_query_attention", "on", "", "as the model defines it"),
    Optimisation("fused_attention", "on", "", "scaled dot-product attention over block runs"),
    Optimisation("fused_projections", "on", "", "q, k, v and gate, up as one product each"),
    Optimisation(
        "prefix_cache", "declared", "SET", "sequences of one request only; cached_tokens is 0"
    ),
    Optimisation("prompt_snippet_cache", "refused", "SET", "never across requests"),
    Optimisation("kv_offload_host", "off", "SE", "sealed under per-request keys"),
    Optimisation("kv_offload_disk", "off", "SE", "sealed under per-request keys"),
    Optimisation("kv_duplication", "refused", "STE", _BETWEEN_NODES),
    Optimisation("kv_pulling", "refused", "STE", _BETWEEN_NODES),
    Optimisation("kv_migration", "refused", "STE", _BETWEEN_NODES),
    Optimisation("prefill_decode_disaggregation", "refused", "STE", _BETWEEN_NODES),
    Optimisation("speculation", "off", "S", "draft model, or n-grams of the same request"),
    Optimisation("tensor_parallel", "off", "S", _ONE_GROUP),
    Optimisation("pipeline_parallel", "off", "S", _ONE_GROUP),
    Optimisation("sequence_parallel", "off", "S", _ONE_GROUP),
    Optimisation("priority", "refused", "T", _FIRST_COME),
    Optimisation("request_level_prediction", "refused", "T", _FIRST_COME),
    Optimisation("content_aware_routing", "refused", "T", _FIRST_COME),
    Optimisation("instance_flip", "refused", "T", _FIRST_COME),
    Optimisation("cross_region_placement", "refused", "T", _FIRST_COME),
    Optimisation("machine_level_scheduler", "refused", "E", "one scheduler, in the engine"),
    Optimisation("global_profiling", "refused", "P", "typed aggregate metrics only"),
    Optimisation("weight_quantisation", "declared", "integrity", "named in the model digest"),
    Optimisation("kv_quantisation", "off", "integrity", "declared by the policy"),
    Optimisation("sparsity", "off", "integrity", "declared by the model digest"),
    Optimisation("distillation", "declared", "integrity", "a model is what its digest says"),
    Optimisation("kv_truncation", "off", "integrity", "never while verification is on"),
    Optimisation("cuda_graphs", "on", "", "a GPU's decoding steps; their buffers zeroed each step"),
    Optimisation(
        "kernels_compiled_at_start", "declared", "E", "on a GPU only, before the first request"
    ),
    Optimisation("compiled_kernels", "on", "", "compiled with the wheel and measured; none later"),
)


_GROUPS = ("tensor_parallel", "pipeline_parallel", "sequence_parallel")
_SPECULATION = {
    "ngram": "n-grams of the same request; never a database of past requests",
    "draft": "draft model, named in the model digest",
}
_TRUNCATION = "decoding reads K and V by exponent difference, in part; never under verification"
_OFFLOAD = (
    "preempted sequences whole, sealed under per-request keys; on a CPU the device is emulated"
)


def optimisations(config: EngineConfig) -> tuple[Optimisation, ...]:
    """Return the table as it stands for an engine of `config`."""
    forms = {
        "speculation": _SPECULATION.get(config.speculation),
        "kv_truncation": _TRUNCATION if config.kv_truncation else None,
        "kv_offload_host": _OFFLOAD if config.kv_offload_bytes else None,
    }
    for name in _GROUPS:
        ranks = getattr(config, name)
        forms[name] = f"{ranks} ranks, {_ONE_GROUP}" if ranks > 1 else None
    return tuple(
        replace(row, state="declared", form=form) if (form := forms.get(row.name)) else row
        for row in OPTIMISATIONS
    )


def engine_policy(config: EngineConfig) -> bytes:
    """Return the policy this engine runs under, as canonical JSON.

    `verification` "none": the device's computation is not checked; what the other modes check is
    said in docs/verified_compute.md. `transfers` "none": T and U
    are one processor, nothing leaves private memory; "sealed": K and V that are offloaded leave it
    sealed, nothing else does; "plain": what crosses to the accelerator is protected by nothing of
    ours.
    """
    policy = {
        "version": 1,
        "verification": config.verification,
        "transfers": _transfers(config),
        "prefix_cache": "request",
        "device": config.device.partition(":")[0],
        "dtype": config.dtype,
        "optimisations": {
            row.name: {"state": row.state, "form": row.form} for row in optimisations(config)
        },
    }
    return canonical_json.encode(policy)


def _transfers(config: EngineConfig) -> str:
    if config.device != "cpu":
        return "plain"
    return "sealed" if config.kv_offload_bytes else "none"
