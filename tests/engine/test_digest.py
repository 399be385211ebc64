import hashlib
import json
import struct

import pytest

from engine.config import EngineConfig
from engine.digest import model_digest, read_header
from engine.errors import ModelFiles
from wire import canonical_json, merkle


def digest(folder, **config):
    return model_digest(EngineConfig(model=folder, **config))


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [8, 14]},
}
DATA = bytes(range(14))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors(HEADER, DATA))
    (tmp_path / "config.json").write_bytes(b'{"x":1}')
    (tmp_path / "chat_template.jinja").write_bytes(b"{{ m }}")
    return tmp_path


def test_digest_is_the_merkle_root_of_the_documented_leaves(folder):
    def sha(data):
        return hashlib.sha256(data).hexdigest()

    whole = (folder / "model.safetensors").read_bytes()
    leaves = [
        ["file", "chat_template.jinja", sha(b"{{ m }}")],
        ["file", "config.json", sha(b'{"x":1}')],
        ["header", "model.safetensors", sha(whole[:-14])],
        ["settings", {"adapters": [], "quantisation": "none", "thresholds": {}}],
        ["tensor", "a", "F32", [2], sha(DATA[:8])],
        ["tensor", "b", "BF16", [1, 3], sha(DATA[8:])],
    ]
    encoded = sorted(canonical_json.encode(leaf) for leaf in leaves)
    assert digest(folder) == merkle.root([merkle.leaf_hash(leaf) for leaf in encoded])


def test_any_byte_of_any_file_changes_the_digest(folder):
    honest = digest(folder)
    for path in sorted(folder.iterdir()):
        original = path.read_bytes()
        for position in range(len(original)):
            changed = bytearray(original)
            changed[position] ^= 1
            path.write_bytes(bytes(changed))
            try:
                assert digest(folder) != honest, (path.name, position)
            except ModelFiles:
                assert path.suffix == ".safetensors"
        path.write_bytes(original)
    assert digest(folder) == honest


def test_quantised_weights_are_another_model(folder):
    assert digest(folder, weights="int8") != digest(folder)


def test_a_further_file_or_another_name_changes_the_digest(folder):
    honest = digest(folder)
    (folder / "generation_config.json").write_bytes(b"")
    assert digest(folder) != honest
    (folder / "generation_config.json").unlink()
    (folder / "config.json").rename(folder / "Config.json")
    assert digest(folder) != honest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}x",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{,",
        safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}, bytes(4)),
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]}}, bytes(5)),
        safetensors({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
        safetensors({"a": 3}, b""),
        safetensors(
            {
                "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            },
            bytes(4),
        ),
        b"\x17" + bytes(7) + b'{"a":{},"a":{}}' + bytes(8),
    ],
)
def test_malformed_safetensors_are_refused(data):
    with pytest.raises(ModelFiles):
        read_header(memoryview(data), len(data))


def test_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(ModelFiles, match="no safetensors"):
        digest(tmp_path)
    with pytest.raises(ModelFiles, match="cannot be read"):
        digest(tmp_path / "absent")
