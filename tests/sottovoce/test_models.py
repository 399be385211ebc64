"""Which model is served."""

import json
import sys
import types

import pytest

from sottovoce.models import ModelNotFound, choose_model


def test_without_a_wish_the_model_in_the_box_is_served():
    chosen = choose_model(None)
    assert chosen.name == "tinychat"
    assert (chosen.folder / "model.safetensors").is_file()


def test_a_folder_is_served_under_its_name(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({}))
    with pytest.raises(ModelNotFound, match=r"no tokenizer\.json"):
        choose_model(str(folder))
    (folder / "tokenizer.json").write_text(json.dumps({}))
    assert choose_model(str(folder)).name == "my-model"


def test_a_model_with_an_adapter_is_another_model(tmp_path):
    folder = tmp_path / "polite"
    folder.mkdir()
    with pytest.raises(ModelNotFound, match="adapter_config"):
        choose_model(None, str(folder))
    with pytest.raises(ModelNotFound, match="adapter_config"):
        choose_model(None, "no such folder")
    (folder / "adapter_config.json").write_text(json.dumps({}))
    chosen = choose_model(None, str(folder))
    assert (chosen.name, chosen.adapter) == ("tinychat:polite", folder)
    assert chosen.folder == choose_model(None).folder


@pytest.mark.parametrize("wanted", ["nowhere", "a/b/c", "../x/", ""])
def test_what_is_neither_folder_nor_hub_name_is_said(wanted):
    with pytest.raises(ModelNotFound):
        choose_model(wanted)


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        choose_model(str(tmp_path))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has one model and gives no pickles."""
    asked = {}

    def snapshot_download(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        if name != "owner/model":
            raise OSError
        return str(tmp_path)

    fake = types.ModuleType("huggingface_hub")
    fake.snapshot_download = snapshot_download
    errors = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = errors.LocalEntryNotFoundError = OSError
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


def test_a_hub_name_is_downloaded_without_pickles_or_code(hub, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    chosen = choose_model("owner/model")
    assert (chosen.folder, chosen.name) == (tmp_path, "model")
    assert not [pattern for pattern in hub["patterns"] if pattern.endswith((".bin", ".py", ".pt"))]


def test_a_hub_that_does_not_have_it_is_said(hub):  # noqa: ARG001 - the fake must be in place
    with pytest.raises(ModelNotFound, match="cannot be had"):
        choose_model("owner/other")
