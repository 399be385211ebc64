"""One frozen object that says how an engine runs. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError


@dataclass(frozen=True)
class EngineConfig:
    """Everything an engine process needs to know; read once, at start."""

    model: Path
    """A local folder in Hugging Face's layout: config.json, safetensors, tokenizer."""
    adapter: Path | None = None
    """A LoRA adapter in PEFT's folder layout, merged into the weights as they are loaded."""
    device: str = "cpu"
    dtype: str = "bfloat16"
    """Of weights, activations and KV: "bfloat16" or "float32" (slow on a CPU; for tests)."""
    weights: str = "as stored"
    """"int8" rounds the weights of linear layers to 8 bits at load; the model digest says so."""
    speculation: str = "none"
    """What proposes ids (`engine.speculative`): "none", "ngram" (the request itself) or "draft".
    Not "ngram" by default: ids then come in bursts, and their sizes say how a text repeats."""
    draft: Path | None = None
    """The folder of a small model with the same vocabulary, for "draft"; its own KV pool comes on
    top, with as many blocks."""
    tensor_parallel: int = 1
    """Ranks that divide every layer among themselves (`engine.parallel`); one of the three."""
    pipeline_parallel: int = 1
    """Ranks that have some of the layers each."""
    sequence_parallel: int = 1
    """Ranks that have the whole model each, and divide the rows of a prompt."""
    threads: int | None = None
    """Compute threads on a CPU; None leaves the choice to torch."""
    block_size: int = 64
    """Tokens of one KV block."""
    max_batch_tokens: int = 512
    """Prompt rows of one step. A step bounds how long a cancel or a new request can wait."""
    max_mixed_tokens: int = 256
    """Prompt rows of a step that also decodes: they bound how long a running stream can stall."""
    max_sequences: int = 32
    """Sequences that hold KV blocks at a time; others queue, first come first served."""
    max_model_len: int | None = None
    """Prompt and output together; None means what the model's own configuration says."""
    kv_blocks: int | None = None
    """Blocks of the pool; None means what `max_sequences` full contexts need, within `kv_bytes`."""
    kv_bytes: int = 1 << 30
    """Upper bound of a pool whose `kv_blocks` is None (but one full context always fits)."""
    kv_truncation: bool = False
    """Decoding reads K and V only as precisely as it can use them (`engine.kv_alignment`). On a GPU
    only, and never while the computation is verified."""
    kv_offload_bytes: int = 0
    """Host memory for K and V of preempted sequences (`engine.offload`), which then come back
    instead of being computed again; sealed on the way and at rest. 0: they are computed again. On a
    CPU the device is emulated: another part of the same memory."""
    verification: str = "none"
    """What of the device's computation is checked before an id is released
    (`engine.verification`): "none", "audit" or "full". A model of the compiled kernels only."""
    audit_rows: int = 32
    """Secret rows of a prompt's part that "audit" lays open in a step, besides its last."""
    max_logprobs: int = 20
    prompt_logit_rows: int = 64
    """Rows a step may spend on prompt logprobs; each costs one row of the whole vocabulary."""

    @property
    def ranks(self) -> int:
        """How many processes the engine is.

        Raises:
            EngineError: a number below one, or more than one way to divide the model.
        """
        sizes = (self.tensor_parallel, self.pipeline_parallel, self.sequence_parallel)
        if min(sizes) < 1 or sum(size > 1 for size in sizes) > 1:
            raise EngineError("one of tensor, pipeline and sequence parallel, over whole ranks")
        return max(sizes)
