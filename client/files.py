"""The client's few files: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import os
from pathlib import Path

from client.errors import StateUnwritable


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically by a file of mode 0600.

    Raises:
        StateUnwritable: there is no room, or no permission; `path` is what it was.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError as error:
        raise StateUnwritable(f"the file {path} cannot be written: {error.strerror}") from None
