import pytest

from attestation.attester import platform as platform_module
from attestation.attester.configfs_tsm import ConfigfsTsm
from attestation.attester.platform import (
    AUTO,
    CANDIDATES,
    HARDWARE,
    MAX_PART,
    Candidate,
    detect,
    read_collateral,
)
from attestation.errors import AttesterFailed


def candidates(**here):
    return tuple(
        Candidate(name, lambda is_=is_: is_, lambda name=name: ConfigfsTsm(name))
        for name, is_ in here.items()
    )


def test_auto_takes_the_first_that_the_machine_is():
    assert detect(AUTO, candidates(tdx=False, snp=True, tpm=True)).platform == "snp"


def test_a_platform_asked_for_by_name_is_taken_only_if_it_is_here():
    offered = candidates(tdx=True, snp=False)
    assert detect("tdx", offered).platform == "tdx"
    with pytest.raises(AttesterFailed, match="is not snp"):
        detect("snp", offered)


def test_auto_on_a_plain_machine_is_refused_and_never_simulated():
    with pytest.raises(AttesterFailed, match="must be asked for by name"):
        detect(AUTO, candidates(tdx=False, snp=False))
    assert "simulated" not in HARDWARE
    with pytest.raises(AttesterFailed, match="no platform 'simulated'"):
        detect("simulated")


@pytest.mark.parametrize("name", ["tdx", "snp"])
def test_the_kernel_decides_between_tdx_and_snp(monkeypatch, name):
    providers = {"tdx": "tdx_guest", "snp": "sev_guest"}
    monkeypatch.setattr(platform_module, "find_platform", lambda: (providers[name], name))
    kernel = tuple(each for each in CANDIDATES if each.name in providers)
    assert detect(AUTO, kernel).platform == name
    monkeypatch.setattr(platform_module, "find_platform", lambda: None)
    with pytest.raises(AttesterFailed):
        detect(AUTO, kernel)


def test_stored_collateral_is_a_file_for_each_part(tmp_path):
    assert read_collateral(None) == {}
    (tmp_path / "amd-crl").write_bytes(b"list")
    (tmp_path / "folder").mkdir()
    assert read_collateral(tmp_path) == {"amd-crl": b"list"}


@pytest.mark.parametrize(
    ("name", "content"), [("Not A Part", b"x"), ("amd-crl", b""), ("amd-crl", bytes(MAX_PART + 1))]
)
def test_a_file_that_is_no_part_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AttesterFailed):
        read_collateral(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(AttesterFailed, match="cannot be read"):
        read_collateral(tmp_path / "missing")
