"""The search finds what it looks for, in every form and kind of memory; else it proves nothing."""

import random
import struct
import subprocess
import sys

import pytest
import torch
from canary import Needles, canary, encodings
from memory_search import Search, can_read_others, family

if not can_read_others():
    pytest.skip("reading another process's memory needs root", allow_module_level=True)

CHANCE = random.Random(4)
TEXT, EMOJI = canary(CHANCE), canary(CHANCE, emoji=True)
IDS = [CHANCE.randrange(300, 2000) for _ in range(12)]
ROWS = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(4)).bfloat16()
KEY = CHANCE.randbytes(16)
SEARCH = Search(
    Needles().text("text", TEXT).text("emoji", EMOJI).ids("prompt", IDS).rows("K", ROWS)
    .secret("key", KEY).found
)  # fmt: skip
FORMS = {
    **{f"text as {form}": data for form, data in encodings(TEXT)},
    **{f"emoji as {form}": data for form, data in encodings(EMOJI)},
    **{f"ids as {code}": struct.pack(f"<12{code}", *IDS) for code in "Hiq"},
    "rows as bf16": ROWS.view(torch.int16).numpy().tobytes(),
    "rows as fp32": ROWS.float().numpy().tobytes(),
    "rows as fp16": ROWS.half().numpy().tobytes(),
    "a key": KEY,
    "one word": TEXT.split()[3].encode(),
}
HOLDER = """
import ctypes, mmap, os, sys
def memfd(data):
    descriptor = os.memfd_create("slot")
    os.write(descriptor, data)
    return mmap.mmap(descriptor, len(data)) if sys.argv[1] == "mapped memfd" else descriptor
def anonymous(data):
    region = mmap.mmap(-1, len(data))
    region.write(data)
    return region
def tensor(data):
    import torch
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).clone()
hold = {
    "bytes": bytes, "a string": lambda data: bytes(data).decode(), "C": ctypes.create_string_buffer,
    "mapping": anonymous, "mapped memfd": memfd, "a tensor": tensor,
}[sys.argv[1]]
coded = bytes.fromhex(sys.stdin.readline())
held = hold(bytes(byte ^ 0x5A for byte in coded))
print("held", flush=True)
sys.stdin.readline()
"""
SCRUB = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
}


def found_in_a_process(how, data):
    """Have another process hold `data`, which is sent to it in a code, and search it."""
    command = [sys.executable, "-c", HOLDER, how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=SCRUB, text=True, **pipes) as process:
        process.stdin.write(bytes(byte ^ 0x5A for byte in data).hex() + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        hits = SEARCH.processes(family(process.pid))
        process.stdin.write("\n")
    return hits


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_wherever_it_begins(form):
    for offset in range(3):
        data = bytes(offset) + b"around" + FORMS[form] + b"it"
        assert SEARCH.data(data), form


@pytest.mark.parametrize("how", ["bytes", "a string", "C", "mapping", "mapped memfd", "a tensor"])
def test_every_kind_of_memory_is_looked_at(how):
    assert found_in_a_process(how, TEXT.encode())


def test_where_nothing_is_nothing_is_found():
    assert found_in_a_process("bytes", canary(CHANCE).encode()) == {}


def test_files_are_looked_at(tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "log").write_bytes(b"..." + EMOJI.encode())
    assert set(SEARCH.files(tmp_path).values()) == {str(tmp_path / "deeper" / "log")}
