"""A unified kernel image, put together by binutils on systemd's stub, and taken apart by us."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from deploy.image import registers, uki
from deploy.image.build import STUB

PARTS = {
    ".osrel": b"ID=sottovoce\n",
    ".cmdline": b"sottovoce.root=1:00",
    ".linux": b"kernel" * 500,
    ".initrd": b"initrd" * 900,
}
MEASURE = Path("/usr/lib/systemd/systemd-measure")

pytestmark = pytest.mark.skipif(
    not (shutil.which("objcopy") and STUB.exists()),
    reason="binutils and systemd-boot-efi are not installed",
)


@pytest.fixture
def parts(tmp_path):
    for name, content in PARTS.items():
        (tmp_path / name[1:]).write_bytes(content)
    return {name: tmp_path / name[1:] for name in PARTS}


@pytest.fixture
def image(parts, tmp_path):
    uki.assemble(STUB, parts, tmp_path / "image.efi")
    return (tmp_path / "image.efi").read_bytes()


def test_each_part_is_a_section_as_it_was(image):
    found = uki.sections(image)
    assert {name: uki.content(image, found[name]) for name in PARTS} == PARTS


def test_an_image_has_no_date(image):
    start = uki.pe_header(image)
    assert struct.unpack_from("<I", image, start + 8) == (0,)


@pytest.mark.skipif(not MEASURE.exists(), reason="systemd-measure is not installed")
def test_systemd_measure_says_the_same(image, parts):
    options = [f"--{name[1:]}={path}" for name, path in parts.items()]
    command = [MEASURE, "calculate", "--phase=:", "--bank=sha256", *options]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    predicted = registers.extended(registers.stub_digests(image)).hex()
    assert f"11:sha256={predicted}" in said


def test_a_part_that_does_not_fit_before_the_next_is_refused(parts, tmp_path):
    parts[".cmdline"].write_bytes(bytes(uki.PLACES[".linux"]))
    with pytest.raises(uki.ImageError, match="cmdline"):
        uki.assemble(STUB, parts, tmp_path / "image.efi")
    with pytest.raises(uki.ImageError, match="other"):
        uki.assemble(STUB, {".other": parts[".osrel"]}, tmp_path / "image.efi")
