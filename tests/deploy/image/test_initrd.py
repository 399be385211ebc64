"""The initrd's archive, read by cpio, and without a trace of when or by whom it was made."""

import shutil
import subprocess

import pytest

from deploy.image.initrd import MODULES, initrd


def test_the_archive_depends_on_nothing_but_what_is_in_it():
    first = initrd(b"program", [b"one", b"three"])
    assert first == initrd(b"program", [b"one", b"three"])
    assert first != initrd(b"program", [b"three", b"one"])


def test_a_module_stands_behind_those_it_needs():
    needs = {
        "virtio": ["virtio_ring"],
        "virtio_pci": ["virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"],
        "virtio_blk": ["virtio"],
        "virtio_net": ["virtio", "net_failover"],
        "net_failover": ["failover"],
        "dm-bufio": ["dm-mod"],
        "dm-verity": ["dm-bufio", "reed_solomon"],
        "erofs": ["libcrc32c"],
    }
    order = [name.rpartition("/")[2] for name in MODULES]
    assert all(order.index(need) < order.index(name) for name in needs for need in needs[name])


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
def test_cpio_reads_it(tmp_path):
    archive = initrd(b"program", [b"one", b"three"])
    command = ["cpio", "--extract", "--make-directories", "--quiet", "--nonmatching", "dev/*"]
    subprocess.run(command, cwd=tmp_path, input=archive, check=True)
    assert (tmp_path / "init").read_bytes() == b"program"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    modules = {path.name: path.read_bytes() for path in (tmp_path / "modules").iterdir()}
    assert modules == {"00.ko": b"one", "01.ko": b"three"}
