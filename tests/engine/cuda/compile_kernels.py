"""Compiles every kernel for an H200 without having one, and prints what became of each.

One JSON object a line: name, shared memory in bytes, whether matrix instructions of Hopper
(`wgmma`) or older ones (`mma`) are there, and how many loads are narrower than 4 bytes.
"""

import json
import re
import sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[3]))

from engine import kv_alignment_triton as aligned
from engine.cuda import paged, prefill

TARGET = GPUTarget("cuda", 90, 32)
STRIDES = {"q_row", "q_head", "row_stride", "head_stride"}
INT64 = {"decoding", "borders", "contexts", "blocks", "tiles", "slots", "offsets", "extents"}
FLOAT32 = {"products", "tops", "sums", "scores", "maxima", "sinks"}
BF16 = {"q", "keys", "values", "out", "rows", "pool", "base"}
BYTES = {"high", "low"}
HEADS = {"heads": 8, "shared": 4, "block_size": 64}
SIZES = {
    "size": 128, "size_pad": 128, "value_size": 128, "value_pad": 128, "tile": 64,
    "capped": True, "exact": False,
}  # fmt: skip
ROW = {"size": 128, "elements": 1024, "elements_pad": 1024}
PLANES = {**HEADS, "shared_pad": 16, "splits": 32, "middle": 0x7C}
KERNELS = [
    (paged.decode_split, {**HEADS, **SIZES, "shared_pad": 16, "splits": 8}, {"num_stages": 3}),
    (
        prefill.prefill_tile,
        {**HEADS, **SIZES, "queries": 32, "packed": 128, "sunk": True},
        {"num_warps": 8, "num_stages": 3},
    ),
    (
        paged.join_splits,
        {"value_size": 128, "value_pad": 128, "splits": 8, "splits_pad": 8, "sunk": True},
        {},
    ),
    (paged.store_rows, ROW, {}),
    (paged.zero_blocks, {"chunk": 4096}, {}),
    (paged.zero_range, {"chunk": 4096}, {}),
    (aligned.store_keys, {**ROW, "block_size": 64}, {}),
    (aligned.store_values, ROW, {}),
    (
        aligned.aligned_scores,
        {
            **PLANES, "size": 128, "size_pad": 128, "capped": True, "from_low": 5, "from_none": 11,
        },
        {"num_stages": 1},
    ),
    (
        aligned.aligned_values,
        {**PLANES, "value_size": 128, "value_pad": 128, "from_low": 7, "from_none": 8},
        {"num_stages": 1},
    ),
]  # fmt: skip


def type_of(kernel, name):
    if kernel.__name__.startswith(("store", "aligned")) and name == "tops":
        return "*i32" if kernel.__name__ != "aligned_values" else "*fp32"
    if kernel.__name__.startswith("aligned") and name == "slots":
        return "i32"
    for names, kind in ((INT64, "*i64"), (FLOAT32, "*fp32"), (BF16, "*bf16"), (BYTES, "*u8")):
        if name in names:
            return kind
    if name in {"scale", "cap"}:
        return "fp32"
    return "i64" if name == "address" else "i32"


def compile_one(kernel, constants, options):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else type_of(kernel, n) for n in names}
    aligned_by_16 = [
        at for at, name in enumerate(names) if name in STRIDES or signature[name].startswith("*")
    ]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(at,): [["tt.divisibility", 16]] for at in aligned_by_16},
    )
    made = triton.compile(source, target=TARGET, options=options)
    text = made.asm["ptx"]
    return {
        "kernel": kernel.__name__,
        "shared": made.metadata.shared,
        "wgmma": "wgmma.mma_async" in text,
        "mma": "mma.sync" in text,
        "narrow": len(re.findall(r"ld\.global[.\w:]*\.[bsu](?:8|16)\b", text)),
        "cubin": len(made.asm["cubin"]),
    }


for each in KERNELS:
    print(json.dumps(compile_one(*each)), flush=True)  # noqa: T201 - its output is read
