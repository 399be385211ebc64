"""Tiny models with random weights, an engine without its process, and a device to play with."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers

from engine.attention import Span
from engine.build import build
from engine.config import EngineConfig
from engine.connection import EngineConnection
from engine.device import StepInput
from engine.kv_cache import KVPool
from engine.loader import load
from engine.slot import Slot, SlotGeometry
from engine.speculative import Costs
from engine.speculative_draft import Draft, Pair
from engine.types import EngineState, SamplingParams

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = Path(__file__).parents[2]
SCRUB = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
}
"""Under which freed memory is overwritten; a worker demands these settings of itself."""
VOCAB = 199
_COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": VOCAB,
    "max_position_embeddings": 2048,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Far from the usual 0.02: attention then really prefers some positions over others.
    "initializer_range": 0.3,
}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_SPECIAL = {
    "cohere2": {"sliding_window": 60, **_ALTERNATING},
    "deepseek_v3": {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 16,
        "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12,
        "num_key_value_heads": 4, "head_dim": 8,
    },
    "exaone4": {"sliding_window": 90, **_ALTERNATING},
    "gpt_neox": {"num_key_value_heads": 4},
    "granite": {
        "embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.3,
        "logits_scaling": 2.0,
    },
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": {"num_key_value_heads": 4},
    "qwen3_moe": _EXPERTS,
    "starcoder2": {"sliding_window": 70},
    "mistral": {"sliding_window": 40},
    "gemma2": {"sliding_window": 300, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 50, "num_hidden_layers": 3, "sliding_window_pattern": 3},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 24},
    "gpt2": {"n_positions": 2048},
    "falcon": {"head_dim": None},
}  # fmt: skip


def make_model(name, folder):
    torch.manual_seed(1)
    values = {**_COMMON, **_SPECIAL.get(name, {})}
    values = {key: value for key, value in values.items() if value is not None}
    config = transformers.CONFIG_MAPPING[name](**values)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # also norms, biases and sinks, which start as constants
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A function from an architecture's name to a folder with a tiny model of it."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            make_model(name, folders[name])
        return folders[name]

    return folder


@pytest.fixture(scope="session")
def load_model(model_folder):
    """A function from a name (and dtype) to a converted model."""
    loaded = {}

    def get(name, dtype="float32"):
        if (name, dtype) not in loaded:
            config = EngineConfig(model=model_folder(name), dtype=dtype)
            loaded[name, dtype] = load(config)
        return loaded[name, dtype]

    return get


@pytest.fixture(scope="session")
def stock_logits(model_folder):
    """A function (name, ids) -> logits [len(ids), vocab] of the stock model, in float32."""
    models = {}

    def logits(name, ids, dtype=torch.float32):
        if (name, dtype) not in models:
            # "eager" is the one implementation that honours softcap and sinks.
            models[name, dtype] = transformers.AutoModelForCausalLM.from_pretrained(
                model_folder(name), dtype=dtype, attn_implementation="eager"
            ).eval()
        with torch.inference_mode():
            output = models[name, dtype](input_ids=torch.tensor([ids]), use_cache=False)
        return output.logits[0].float()

    return logits


def make_device(loaded, *, blocks=64, block_size=16, max_rows=4096):
    pool = KVPool(
        loaded.shapes,
        blocks=blocks,
        block_size=block_size,
        dtype=loaded.dtype,
        device=torch.device("cpu"),
    )
    device = loaded.computation.on(pool, max_rows=max_rows, max_logit_rows=max_rows)
    return device, pool


def run_step(device, spans, ids):
    """Run spans over the ids of their sequences; logits of all rows, one tensor a span."""
    rows = [
        torch.tensor(one[span.start : span.context]) for span, one in zip(spans, ids, strict=True)
    ]
    count = sum(len(part) for part in rows)
    output = device.step(StepInput(torch.cat(rows), spans, range(count)))
    logits = output.logits.clone()
    device.finish_step()
    return logits.split([len(part) for part in rows])


class LocalEngine:
    """An engine whose capsules are in this process."""

    def __init__(self, loaded, **config):
        self.changes = []
        defaults = {"model": None, "block_size": 16, "kv_blocks": 64, "max_sequences": 8}
        self.config = EngineConfig(**{**defaults, **config})
        self.engine, self.geometry = build(self.config, loaded, self.changes.append)
        device = self.engine._device
        self.devices = [device.device, device.draft] if isinstance(device, Pair) else [device]
        self.pools = [each._pool for each in self.devices]
        self.pool = self.pools[0]
        self.slots = []
        if self.engine._speculation:  # what rows cost here and now would decide what is tested
            self.engine._speculation._costs = Costs([1, 32], [1.0, 1.0])
            self.engine._speculation._draft = None

    def submit(self, prompt, params=None, *, group=None, index=0, **fields):
        slot = Slot.create(self.geometry)
        key = len(self.slots)
        self.slots.append(slot)
        params = params or SamplingParams(**{"max_new_tokens": 8, "temperature": 0.0, **fields})
        self.engine.register(key, slot)
        slot.submit(prompt, params, group=key if group is None else group, index_in_group=index)
        self.look(slot)
        return slot

    def look(self, slot):
        self.engine.look(self.slots.index(slot), "scope")

    def cancel(self, slot):
        slot.cancel()
        self.look(slot)

    def done(self, slot):
        slot.done()
        self.look(slot)

    def run(self, limit=2000):
        """Step until nothing can run."""
        steps = 0
        while self.engine.busy and self.engine.step():
            steps += 1
            assert steps < limit
        return steps

    def generate(self, prompt, params=None, **fields):
        slot = self.submit(prompt, params, **fields)
        self.run()
        assert slot.state is EngineState.FINISHED, slot.error
        return slot.ids(0, slot.sampled)

    def assert_clean(self):
        """Nothing of any sequence is left in pool, tables, buffers."""
        trusted, speculation = self.engine._trusted, self.engine._speculation
        tensors = [part for pool in self.pools for part in (*pool.keys, *pool.values)]
        tensors += [part for device in self.devices for part in (device._rows, device._logits)]
        tensors += [trusted._tokens, trusted._inputs]
        if speculation and isinstance(speculation.proposer, Draft):
            tensors.append(speculation.proposer._q)
            assert not speculation.proposer.beliefs()
        assert not any(bool(tensor.any()) for tensor in tensors)
        assert self.engine._scheduler._allocator.free == self.pool.blocks
        assert len(trusted._free) == self.config.max_sequences
        assert not any(each._parts for device in self.devices for each in device._siblings)


@pytest.fixture
def local_engine(load_model):
    """A function (architecture, **config) -> LocalEngine; its slots are closed afterwards."""
    engines = []

    def make(name="llama", dtype="float32", **config):
        engines.append(LocalEngine(load_model(name, dtype), dtype=dtype, **config))
        return engines[-1]

    yield make
    for local in engines:
        for key, slot in enumerate(local.slots):
            if key in local.engine._entries:
                local.engine.drop(key)
            del slot


def prompt_of(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


@pytest.fixture(scope="session")
def lab(load_model, stock_logits):
    """Everything a comparison with the stock model needs."""
    return SimpleNamespace(
        load=load_model,
        stock=stock_logits,
        device=make_device,
        step=run_step,
        prompt=prompt_of,
        span=Span,
    )


@pytest.fixture(scope="session")
def prompt_ids():
    """A function (length, seed) -> ids."""
    return prompt_of


PROGRAM = """
import json
import sys
from pathlib import Path
from engine.config import EngineConfig
from engine.process import run
control, ready = int(sys.argv[1]), int(sys.argv[2])
run(control, EngineConfig(model=Path(sys.argv[3]), dtype="float32", threads=1, block_size=16,
    max_model_len=512, kv_blocks=64, max_sequences=4, **json.loads(sys.argv[4])), ready)
"""


class EngineProcess:
    """What a launcher and a zygote do: start it, and hand it capsules' sockets."""

    def __init__(self, folder, **config):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                str(theirs.fileno()),
                str(write),
                str(folder),
                json.dumps(config),
            ],
            pass_fds=[theirs.fileno(), write],
            cwd=ROOT,
            env=os.environ | SCRUB,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        os.close(write)
        with os.fdopen(read) as file:
            line = file.readline()
        self.ready = json.loads(line) if line else None

    @property
    def geometry(self):
        ready = self.ready
        return SlotGeometry(ready["max_model_len"], ready["vocab_size"], ready["max_logprobs"])

    def raw_socket(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.control, [b"c"], [theirs.fileno()])
        theirs.close()
        return ours

    def connect(self):
        return EngineConnection(self.raw_socket(), self.geometry)

    def stop(self):
        self.control.close()
        errors = self.process.communicate(timeout=20)[1]
        return self.process.returncode, errors


@pytest.fixture(scope="session")
def engine_process():
    """The class: a function from a model folder to a running engine process."""
    return EngineProcess


@pytest.fixture(scope="session")
def engine(model_folder):
    """One engine process for all tests that do not end it."""
    process = EngineProcess(model_folder("llama"))
    assert process.ready, process.stop()
    yield process
    code, errors = process.stop()
    assert (code, errors) == (0, b"")
