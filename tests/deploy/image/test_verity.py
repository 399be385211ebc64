"""The hash tree of dm-verity, judged by `veritysetup`: its figures are written here."""

import hashlib
import shutil
import subprocess

import pytest

from deploy.image import verity


def pattern(length):
    blocks = (hashlib.sha256(index.to_bytes(4, "big")).digest() for index in range(length))
    return b"".join(block for block, _ in zip(blocks, range(0, length, 32), strict=False))[:length]


@pytest.fixture
def data(tmp_path):
    def make(length):
        path = tmp_path / "data"
        path.write_bytes(pattern(length))
        return path

    return make


@pytest.mark.parametrize(
    ("length", "root"),
    [
        (5, "c892d614368b67e0ca9edb75daf905e9ded5ca29c7ee956f9b429be30b2445b5"),
        (4096 * 200 + 5, "65ff31dd93b4d1d0580597f8deaef36329dc9927abab0034cb42a3e1509cd799"),
    ],
)
def test_the_root_hash_is_veritysetups(data, length, root):
    tree = verity.hash_tree(data(length))
    assert tree.root.hex() == root
    assert tree.option == f"sottovoce.root={-(-length // 4096)}:{root}"


def test_every_bit_of_the_data_is_in_the_root_hash(data):
    path = data(3 * 4096)
    before = verity.hash_tree(path).root
    changed = bytearray(path.read_bytes())
    changed[4097] ^= 1
    path.write_bytes(changed)
    assert verity.hash_tree(path).root != before


def test_nothing_has_no_tree(data):
    with pytest.raises(ValueError, match="nothing"):
        verity.hash_tree(data(0))


@pytest.mark.skipif(not shutil.which("veritysetup"), reason="veritysetup is not installed")
@pytest.mark.parametrize("damaged", [None, 70, 130 * 4096 + 1, 201 * 4096 + 3])
def test_veritysetup_accepts_the_tree_behind_the_data_and_no_changed_byte(data, damaged):
    path = data(200 * 4096 + 5)
    tree = verity.append_tree(path)
    if damaged is not None:
        changed = bytearray(path.read_bytes())
        changed[damaged] ^= 1
        path.write_bytes(changed)
    blocks = str(tree.data_blocks)
    options = ["--no-superblock", "--salt=-", "--data-blocks", blocks]
    options += ["--hash-offset", str(tree.data_blocks * verity.BLOCK)]
    command = ["veritysetup", "verify", *options, path, path, tree.root.hex()]
    verified = subprocess.run(command, capture_output=True, check=False)
    assert (verified.returncode == 0) == (damaged is None)
