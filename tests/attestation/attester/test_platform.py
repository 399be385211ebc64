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
    return tuple(Candidate(name, lambda is_=is_: is_, maker(name)) for name, is_ in here.items())


def maker(name):
    return lambda _: ConfigfsTsm(name)


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


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without the kernel's interface, with a TPM and this asset tag, or without."""

    def make(*, tpm, tag=None):
        device, chassis = tmp_path / "tpmrm0", tmp_path / "tag"
        if tpm:
            device.touch()
        if tag is not None:
            chassis.write_text(tag + "\n")
        monkeypatch.setattr(platform_module, "TPM_DEVICE", device)
        monkeypatch.setattr(platform_module, "CHASSIS", chassis)
        monkeypatch.setattr(platform_module, "find_platform", lambda: None)
        return [each.name for each in CANDIDATES if each.is_here()]

    return make


def test_azure_is_known_by_its_asset_tag_and_any_other_tpm_is_boot_only(machine):
    assert machine(tpm=True, tag=platform_module.AZURE_CHASSIS) == ["azure-vtpm", "tpm"]
    assert machine(tpm=True, tag="Dell") == ["tpm"]


def test_a_tpm_without_asset_tag_is_a_tpm_and_a_tag_without_tpm_is_nothing(machine):
    assert machine(tpm=True) == ["tpm"]


def test_a_machine_without_tpm_is_nothing(machine):
    assert machine(tpm=False, tag=platform_module.AZURE_CHASSIS) == []


def test_azure_needs_the_endorsement_of_its_hardware(machine, monkeypatch, tmp_path):
    machine(tpm=True, tag=platform_module.AZURE_CHASSIS)
    with pytest.raises(AttesterFailed, match="needs what endorses"):
        detect("azure-vtpm")
    given = []
    monkeypatch.setattr(platform_module, "AzureAttester", given.append)
    endorsement = tmp_path / "vcek.der"
    endorsement.write_bytes(b"vcek")
    detect("azure-vtpm", endorsement=endorsement)
    assert given[0](b"report") == b"vcek"
    endorsement.unlink()
    with pytest.raises(AttesterFailed, match="cannot be read"):
        given[0](b"report")
    monkeypatch.setattr(platform_module, "TpmAttester", lambda: "tpm")
    assert detect("tpm") == "tpm"


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
