"""The hash tree of dm-verity, as the kernel's documentation describes it (admin-guide, verity).

Version 1, SHA-256, blocks of 4096 bytes for data and hashes, no salt, no superblock: every number
that the kernel needs stands in its measured command line. `veritysetup` is the judge in the tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096


@dataclass(frozen=True)
class Tree:
    """The tree over a file.

    Attributes:
        data_blocks: blocks of the file, the last one filled up with zeros.
        root: the root hash.
        encoded: the levels, the topmost first; what follows the data on the disk.
    """

    data_blocks: int
    root: bytes
    encoded: bytes

    @property
    def option(self) -> str:
        """The option of the kernel's command line that `init.c` reads."""
        return f"sottovoce.root={self.data_blocks}:{self.root.hex()}"


def hash_tree(data: Path) -> Tree:
    """Compute the tree over a file.

    Raises:
        ValueError: the file is empty.
    """
    digests = [hashlib.sha256(block).digest() for block in _blocks(data)]
    if not digests:
        raise ValueError("nothing to make a hash tree of")
    count, levels = len(digests), []
    while len(digests) > 1:
        level = _level(digests)
        levels.append(b"".join(level))
        digests = [hashlib.sha256(block).digest() for block in level]
    return Tree(count, digests[0], b"".join(reversed(levels)))


def append_tree(data: Path) -> Tree:
    """Fill a file up to whole blocks and write its tree behind them."""
    tree = hash_tree(data)
    with data.open("r+b") as file:
        file.truncate(tree.data_blocks * BLOCK)
        file.seek(tree.data_blocks * BLOCK)
        file.write(tree.encoded)
    return tree


def _blocks(data: Path) -> Iterator[bytes]:
    with data.open("rb") as file:
        while block := file.read(BLOCK):
            yield block.ljust(BLOCK, b"\0")


def _level(digests: Iterable[bytes]) -> list[bytes]:
    """Return the hash blocks over the digests of the level below."""
    joined = b"".join(digests)
    return [
        joined[start : start + BLOCK].ljust(BLOCK, b"\0") for start in range(0, len(joined), BLOCK)
    ]
