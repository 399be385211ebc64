"""`sottovoce calibrate` on the model in the box."""

import shutil

import pytest

from engine.native import checks
from engine.tinychat import MODEL_FOLDER
from engine.verification.thresholds import BOUNDS, FILE, loosest, read
from sottovoce.cli import main

if checks.available() is None:
    pytest.skip("compiled kernels: not here", allow_module_level=True)


def calibrate(*arguments):
    with pytest.raises(SystemExit) as left:
        main(["calibrate", "--runs", "1", "--threads", "1", *map(str, arguments)])
    return left.value.code


def test_thresholds_are_written_beside_the_model(tmp_path, capsys):
    model = shutil.copytree(MODEL_FOLDER, tmp_path / "model")
    assert calibrate("--model", model, "--dry-run") == 0
    assert not (model / FILE).exists()
    assert calibrate("--model", model) == 0
    found = read(model)
    assert found.steps < BOUNDS.steps
    assert loosest(found, BOUNDS) == BOUNDS
    assert "4096 rows of products, none beyond its threshold" in capsys.readouterr().out


def test_a_folder_without_a_model_is_refused_in_a_sentence(tmp_path, capsys):
    assert calibrate("--model", tmp_path) == 1
    assert "has no safetensors" in capsys.readouterr().err
