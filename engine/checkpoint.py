"""A model's folder, read once: what is hashed is what is used.

Each file is read into private memory exactly once and hashed there: a disk that gives other bytes
at a second reading changes nothing. Tensors are read one at a time, when somebody wants them, so
that no more of a model is in memory than is needed; what nobody wanted is read at the end, for
its hash only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from engine import digest
from engine.digest import SafetensorsHeader, TensorEntry
from engine.errors import ModelFiles

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""What weights may be stored as."""
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_MAX_TEXT = 256 << 20
"""Bytes of a JSON file that are kept; the largest tokenizers take 40 MB."""
_PIECE = 16 << 20


class Checkpoint:
    """The files of one folder and the tensors of its safetensors."""

    def __init__(self, folder: Path, progress: Callable[[int], None] | None = None) -> None:
        """Open a folder, read its small files and every header.

        Args:
            folder: the model's or adapter's.
            progress: told how many per cent of the tensors' bytes were read, when that changes.

        Raises:
            ModelFiles: it cannot be read, has no safetensors, or one that is not well formed.
        """
        self._progress = progress
        self._texts: dict[str, bytes] = {}
        self._leaves: list[bytes] = []
        self._files: dict[str, tuple[BinaryIO, SafetensorsHeader]] = {}
        self._where: dict[str, str] = {}
        self._unread: set[tuple[str, str]] = set()
        self._read_bytes = self._percent = 0
        try:
            for path in digest.files_of(folder):
                self._open(path)
            self._total_bytes = sum(
                entry.stop - entry.start
                for _, header in self._files.values()
                for entry in header.tensors
            )
            self.tensors: Mapping[str, TensorEntry] = dict(self._chosen())
        except OSError as error:
            self.close()
            raise ModelFiles("the model folder cannot be read") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; what was read stays."""
        for file, _ in self._files.values():
            file.close()

    def json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object of the folder, None if there is no such file.

        Raises:
            ModelFiles: the file is not a JSON object.
        """
        text = self._texts.get(name)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise ModelFiles(f"{name} is not JSON") from None
        if not isinstance(value, dict):
            raise ModelFiles(f"{name} is not a JSON object")
        return value

    def read(self, name: str) -> Tensor:
        """Read one tensor, as it is stored; it may be read once.

        Raises:
            ModelFiles: it is of another type than floats, ends early, or holds NaN or infinity.
        """
        entry = self.tensors[name]
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            kinds = ", ".join(_DTYPES)
            raise ModelFiles(f"a tensor is stored as {entry.dtype}; served are {kinds}")
        data = torch.empty(entry.stop - entry.start, dtype=torch.uint8)
        buffer: Any = data.numpy()
        with memoryview(buffer) as view:
            self._fill(self._where[name], entry, view)
            self._note(self._where[name], entry, hashlib.sha256(view).hexdigest())
        tensor = data.view(dtype).view(entry.shape) if len(data) else torch.empty(entry.shape)
        if not bool(tensor.isfinite().all()):
            raise ModelFiles("a tensor holds values that are no numbers, or infinite")
        return tensor

    def leaves(self) -> list[bytes]:
        """Return the folder's leaves of the model digest, reading what was not read before.

        Raises:
            ModelFiles: a file ends early.
        """
        for file, (_, header) in self._files.items():
            for entry in header.tensors:
                if (file, entry.name) in self._unread:
                    self._note(file, entry, self._hash(file, entry))
        return self._leaves

    def root(self) -> bytes:
        """Return the Merkle root over the folder's leaves (`engine.digest.folder_root`)."""
        return digest.root(self.leaves())

    def _open(self, path: Path) -> None:
        if path.suffix != ".safetensors":
            with path.open("rb") as file:
                if path.suffix == ".json" and path.stat().st_size <= _MAX_TEXT:
                    text = self._texts[path.name] = file.read()
                    sha256 = hashlib.sha256(text).hexdigest()
                else:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            self._leaves.append(digest.file_leaf(path.name, sha256))
            return
        file = path.open("rb")
        size = path.stat().st_size
        try:
            head = file.read(8)
            head += file.read(digest.header_size(head, size) - 8)
            header = digest.read_header(memoryview(head), size)
        except BaseException:
            file.close()
            raise
        self._files[path.name] = file, header
        self._leaves.append(digest.header_leaf(path.name, hashlib.sha256(head).hexdigest()))
        self._unread.update((path.name, entry.name) for entry in header.tensors)

    def _chosen(self) -> Mapping[str, TensorEntry]:
        """Return the tensors of the files that make up the model, by name."""
        index = self.json(_INDEX)
        if index is not None:
            listed = index.get("weight_map")
            if not isinstance(listed, dict) or not set(listed.values()) <= set(self._files):
                raise ModelFiles("the index names files that are not in the folder")
            names = sorted(set(listed.values()))
        else:
            names = [_SINGLE] if _SINGLE in self._files else list(self._files)
        tensors: dict[str, TensorEntry] = {}
        for name in names:
            for entry in self._files[name][1].tensors:
                if entry.name in tensors:
                    raise ModelFiles("two safetensors files hold a tensor of one name")
                tensors[entry.name] = entry
                self._where[entry.name] = name
        return tensors

    def _fill(self, name: str, entry: TensorEntry, view: memoryview) -> None:
        file, header = self._files[name]
        file.seek(header.data_start + entry.start)
        if file.readinto(view) != len(view):  # type: ignore[attr-defined]
            raise ModelFiles("a safetensors file ends before its tensors do")

    def _hash(self, name: str, entry: TensorEntry) -> str:
        file, header = self._files[name]
        file.seek(header.data_start + entry.start)
        hashed, left = hashlib.sha256(), entry.stop - entry.start
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise ModelFiles("a safetensors file ends before its tensors do")
            hashed.update(piece)
            left -= len(piece)
        return hashed.hexdigest()

    def _note(self, name: str, entry: TensorEntry, sha256: str) -> None:
        self._unread.remove((name, entry.name))
        self._leaves.append(digest.tensor_leaf(entry, sha256))
        self._read_bytes += entry.stop - entry.start
        percent = 100 * self._read_bytes // max(1, self._total_bytes)
        if percent != self._percent and self._progress is not None:
            self._progress(percent)
        self._percent = percent
