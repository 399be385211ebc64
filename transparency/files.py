"""Durable small files: written whole or not at all, and on the disk when the call returns."""

from __future__ import annotations

import os
from pathlib import Path

from transparency.errors import UnsafeKeyFile

TEMPORARY_SUFFIX = ".writing"


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: a reader, or a crash, sees the old file or the new one.

    Raises:
        OSError: the disk refused; the old file, if any, is still there.
    """
    make_directory(path.parent)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, each entry on the disk before the next is relied on."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def read_if_present(path: Path) -> bytes | None:
    """Return a file's bytes, None if there is no such file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_seed(path: Path) -> bytes:
    """Return the 32-byte seed of a key file: 64 lower-case hex characters and a newline.

    Raises:
        UnsafeKeyFile: another content, or a file that its group or others may read.
        OSError: no such file.
    """
    if path.stat().st_mode & 0o077:
        raise UnsafeKeyFile(f"{path.name} must be readable by its owner only (mode 0600)")
    text = path.read_text("ascii", errors="replace")
    digits = text.removesuffix("\n")
    if len(digits) != 64 or text == digits or any(c not in "0123456789abcdef" for c in digits):
        raise UnsafeKeyFile(f"{path.name} does not hold a seed of 64 lower-case hex characters")
    return bytes.fromhex(digits)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
