"""The model digest: one hash over everything that decides what a model answers. Free of torch.

A Merkle root (RFC 9162, section 2.1.1) over leaves in canonical JSON, sorted as bytes:

    ["file", name, SHA-256]                       each file that is not safetensors
    ["header", name, SHA-256]                     the header of each safetensors file
    ["settings", {...}]                           quantisation, adapters, verification thresholds
    ["tensor", name, dtype, [shape], SHA-256]     each tensor

so that a single tensor can be proven, and no byte of the folder escapes: configuration,
generation configuration, tokenizer and chat template are files like any other. Hidden files and
sub-folders are left out; the loader does not read them either. An adapter stands in the settings
as the Merkle root (hex) over the leaves of its own folder.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.config import EngineConfig
from engine.errors import ModelFiles
from engine.verification import thresholds
from wire import canonical_json, merkle
from wire.errors import WireError

_MAX_HEADER = 100_000_000
"""Bytes of a safetensors header; the format's own reference implementation stops there."""
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
INT8 = "int8, groups of 64, bfloat16 scales"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as a safetensors header declares it; offsets count from the data's begin."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """A checked header: its tensors tile the data exactly."""

    tensors: tuple[TensorEntry, ...]
    data_start: int


def model_digest(config: EngineConfig) -> bytes:
    """Return the digest of the model that an engine of `config` serves, 32 bytes.

    Raises:
        ModelFiles: the folder holds no safetensors, or one that is not well formed.
    """
    adapters = [] if config.adapter is None else [folder_root(config.adapter)]
    return model_root(_leaves(config.model), config, adapters)


def model_root(leaves: Iterable[bytes], config: EngineConfig, adapters: Sequence[bytes]) -> bytes:
    """Return the model digest over a folder's leaves and what an engine does beyond them.

    Args:
        leaves: the leaves of the model's folder.
        config: of the engine.
        adapters: `folder_root` of each adapter.

    Raises:
        ModelFiles: the folder's thresholds are looser than any verifier allows.
    """
    settings: dict[str, Any] = {
        "adapters": [adapter.hex() for adapter in adapters],
        "quantisation": INT8 if config.weights == "int8" else "none",
        "thresholds": thresholds.declared(config.model),
    }
    if config.draft is not None:
        settings["draft"] = model_digest(EngineConfig(model=config.draft)).hex()
    return root([*leaves, canonical_json.encode(["settings", settings])])


def folder_root(folder: Path) -> bytes:
    """Return the Merkle root over the leaves of one folder, 32 bytes.

    Raises:
        ModelFiles: the folder holds no safetensors, or one that is not well formed.
    """
    return root(_leaves(folder))


def file_leaf(name: str, sha256: str) -> bytes:
    """Return the leaf of a file that is not safetensors."""
    return canonical_json.encode(["file", name, sha256])


def header_leaf(name: str, sha256: str) -> bytes:
    """Return the leaf of a safetensors file's header."""
    return canonical_json.encode(["header", name, sha256])


def tensor_leaf(tensor: TensorEntry, sha256: str) -> bytes:
    """Return the leaf of a tensor."""
    return canonical_json.encode(["tensor", tensor.name, tensor.dtype, tensor.shape, sha256])


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the Merkle root over leaves in any order, 32 bytes."""
    return merkle.root([merkle.leaf_hash(leaf) for leaf in sorted(leaves)])


def files_of(folder: Path) -> list[Path]:
    """Return the files of a model's folder that count, sorted; hidden ones do not.

    Raises:
        ModelFiles: the folder cannot be read, or holds no safetensors.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        files = [path for path in paths if path.is_file()]
    except OSError as error:
        raise ModelFiles("the model folder cannot be read") from error
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelFiles("the folder has no safetensors; other weight formats can run code")
    return files


def header_size(first: bytes, file_size: int) -> int:
    """Return how long the header of a safetensors file is, its length field included.

    Args:
        first: the file's first 8 bytes.
        file_size: of the whole file.

    Raises:
        ModelFiles: the file is too short to have such a header.
    """
    if len(first) < 8:
        raise ModelFiles("a safetensors file is shorter than its first field")
    length = int.from_bytes(first[:8], "little")
    if length > _MAX_HEADER or 8 + length > file_size:
        raise ModelFiles("a safetensors header is longer than its file")
    return 8 + length


def read_header(head: memoryview, file_size: int) -> SafetensorsHeader:
    """Read a safetensors header.

    Args:
        head: the beginning of the file, its length field included; bytes beyond are passed over.
        file_size: of the whole file.

    Raises:
        ModelFiles: not the format: sizes or types are wrong, or tensors overlap or leave gaps.
    """
    size = header_size(bytes(head[:8]), file_size)
    try:
        header = canonical_json.decode(bytes(head[8:size]))
    except WireError:
        raise ModelFiles("a safetensors header is not JSON") from None
    if not isinstance(header, dict):
        raise ModelFiles("a safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = tuple(_entry(name, fields) for name, fields in header.items())
    _check_tiling(tensors, file_size - size)
    return SafetensorsHeader(tensors, size)


def _entry(name: str, fields: Any) -> TensorEntry:  # noqa: ANN401 - JSON of a stranger
    try:
        dtype, shape = fields["dtype"], tuple(fields["shape"])
        start, stop = fields["data_offsets"]
        numbers = (*shape, start, stop)
        sound = all(type(number) is int and number >= 0 for number in numbers)
        sound = sound and (stop - start) * 8 == prod(shape) * _ITEM_BITS[dtype]
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise ModelFiles("a safetensors header declares a tensor badly")
    return TensorEntry(name, dtype, shape, start, stop)


def _check_tiling(tensors: tuple[TensorEntry, ...], size: int) -> None:
    position = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != position:
            raise ModelFiles("tensors of a safetensors file overlap or leave a gap")
        position = tensor.stop
    if position != size:
        raise ModelFiles("a safetensors file is longer or shorter than its tensors")


def _leaves(folder: Path) -> Iterator[bytes]:
    try:
        for path in files_of(folder):
            yield from _file_leaves(path)
    except OSError as error:
        raise ModelFiles("the model folder cannot be read") from error


def _file_leaves(path: Path) -> Iterator[bytes]:
    if path.suffix != ".safetensors":
        with path.open("rb") as file:
            yield file_leaf(path.name, hashlib.file_digest(file, "sha256").hexdigest())
        return
    if path.stat().st_size == 0:
        raise ModelFiles("a safetensors file is shorter than its first field")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        memoryview(mapped) as data,
    ):
        header = read_header(data, len(data))
        yield header_leaf(path.name, _sha256(data, 0, header.data_start))
        for tensor in header.tensors:
            start, stop = header.data_start + tensor.start, header.data_start + tensor.stop
            yield tensor_leaf(tensor, _sha256(data, start, stop))


def _sha256(data: memoryview, start: int, stop: int) -> str:
    with data[start:stop] as part:
        return hashlib.sha256(part).hexdigest()
