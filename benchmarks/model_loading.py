"""What loading a model costs: memory at its peak, and time, as one JSON object a line.

    python benchmarks/model_loading.py [--layers 24] [--hidden 1024] [--weights "as stored"|int8]

Makes a Llama of random bfloat16 weights in a temporary folder, then loads it in a process of its
own. `peak over start` is what the process's resident memory grew by at most, from after the
imports to after the comparison with the stock model; `kept` what it still had then. The page cache
is not counted: it is the kernel's to give up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MAKE = """
import sys, torch, transformers
folder, layers, hidden = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = transformers.LlamaConfig(hidden_size=hidden, num_hidden_layers=layers,
    num_attention_heads=hidden // 64, num_key_value_heads=hidden // 256,
    intermediate_size=4 * hidden, vocab_size=32000, head_dim=64)
torch.set_default_dtype(torch.bfloat16)
model = transformers.AutoModelForCausalLM.from_config(config)
model.save_pretrained(folder, max_shard_size="300MB")
"""
LOAD = """
import json, sys, time
from pathlib import Path
import transformers
from engine.config import EngineConfig
from engine.loader import load

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

config = EngineConfig(model=Path(sys.argv[1]), weights=sys.argv[2])
start, began = memory("VmRSS"), time.perf_counter()
loaded = load(config)
seconds = time.perf_counter() - began
print(json.dumps({"computation": type(loaded.computation).__name__, "seconds": seconds,
    "peak over start": memory("VmHWM") - start, "kept": memory("VmRSS") - start}))
"""


def main() -> None:
    """Make a model, load it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--weights", default="as stored")
    options = parser.parse_args()
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        made = [sys.executable, "-c", MAKE, folder, str(options.layers), str(options.hidden)]
        subprocess.run(made, check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        done = subprocess.run(  # noqa: S603 - the same
            [sys.executable, "-c", LOAD, folder, options.weights],
            check=True, capture_output=True, text=True, cwd=root,
        )  # fmt: skip
    layer = 16 * options.hidden**2 * 2  # a layer of this shape in bfloat16, about
    print(json.dumps({"stored": size, "a layer": layer, **json.loads(done.stdout)}))  # noqa: T201 - a benchmark


if __name__ == "__main__":
    main()
