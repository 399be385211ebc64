"""The initrd: one program and the kernel modules it loads, in a cpio archive without a date.

The format is "newc" of the kernel's documentation (driver-api, early-userspace/buffer-format).
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass

MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/md/dm-mod",
    "drivers/md/dm-bufio",
    "lib/reed_solomon/reed_solomon",
    "drivers/md/dm-verity",
    "lib/libcrc32c",
    "fs/erofs/erofs",
)
"""In the order in which they can be loaded; each only needs what stands before it."""

_FOLDERS = ("dev", "modules", "proc", "root", "sys")


@dataclass(frozen=True)
class Entry:
    """A file, folder or device of the archive, owned by root."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def initrd(program: bytes, modules: Sequence[bytes]) -> bytes:
    """Return the archive with `program` as its init, and the modules in their order."""
    folders = [Entry(name, stat.S_IFDIR | 0o755) for name in _FOLDERS]
    console = Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    files = [Entry("init", stat.S_IFREG | 0o755, program)]
    files += [
        Entry(f"modules/{index:02}.ko", stat.S_IFREG | 0o644, module)
        for index, module in enumerate(modules)
    ]
    return archive([*folders, console, *files])


def archive(entries: Sequence[Entry]) -> bytes:
    """Return the archive of these entries, in their order."""
    encoded = [_encode(number, entry) for number, entry in enumerate(entries, 1)]
    return b"".join([*encoded, _encode(0, Entry("TRAILER!!!", 0))])


def _encode(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device)
    numbers = "".join(f"{field:08x}" for field in (*fields, len(name), 0))
    return _padded(b"070701" + numbers.encode() + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
