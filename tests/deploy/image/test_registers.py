"""The registers of a boot, predicted: held against `systemd-measure`, and against real boots."""

import struct
from pathlib import Path

import pytest

from attestation.verifier.tpm.platform import measure
from deploy.image import firmware, registers, uki
from deploy.image.registers import Machine

PARTS = {
    ".linux": b"kernel",
    ".osrel": b"ID=sottovoce\n",
    ".cmdline": b"sottovoce.root=1:00 console=ttyS0",
    ".initrd": b"initrd",
}
SNAKEOIL = Path("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")
GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
DATABASE = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
HEADERS = 0x400


def pe(parts=None, *, signature=b""):
    """A PE file of 64 bits that has these sections, and no code."""
    parts = PARTS if parts is None else parts
    optional = bytearray(112 + 16 * 8)
    optional[:2] = struct.pack("<H", 0x20B)
    optional[108:112] = struct.pack("<I", 16)
    offset, table, bodies = HEADERS, b"", b""
    for name, content in parts.items():
        stored = -(-len(content) // 512) * 512
        head = struct.pack("<8sIIII16x", name.encode(), len(content), 0x1000, stored, offset)
        table, bodies = table + head, bodies + content.ljust(stored, b"\0")
        offset += stored
    if signature:
        optional[144:152] = struct.pack("<II", offset, len(signature))
    coff = struct.pack("<HH12xHH", 0x8664, len(parts), len(optional), 0)
    start = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + coff
    return (start + bytes(optional) + table).ljust(HEADERS, b"\0") + bodies + signature


def store(**changes):
    """A file of variables with those of secure boot."""
    listed = struct.pack("<16xIII", 100, 0, 72) + bytes(16) + b"certificate".ljust(56, b"\0")
    values = {"PK": listed, "KEK": listed, "db": listed, "dbx": b"", **changes}
    written = b""
    for name, data in values.items():
        if data is None:
            continue
        vendor = DATABASE if name in ("db", "dbx") else GLOBAL
        text = name.encode("utf-16-le") + bytes(2)
        head = struct.pack("<HBxI8x16xIII16s", 0x55AA, 0x3F, 7, 0, len(text), len(data), vendor)
        written += head + text + data
        written += bytes(-len(written) % 4)
    return bytes(72) + firmware._STORE + bytes(12) + written + b"\xff" * 64


MACHINE = Machine(b"\x11" * 32, store())


def test_register_11_is_what_systemd_measure_says():
    said = "daabbd7fda021d7cd41f1259c899245e158c684de50733639c55819925d67188"
    assert registers.predict(pe(), MACHINE)[11].hex() == said


@pytest.mark.parametrize("name", PARTS)
def test_one_changed_byte_of_a_part_is_another_register_11_and_measurement(name):
    changed = pe(PARTS | {name: PARTS[name] + b"."})
    assert registers.predict(changed, MACHINE)[11] != registers.predict(pe(), MACHINE)[11]
    assert registers.measurement(changed, MACHINE) != registers.measurement(pe(), MACHINE)


@pytest.mark.parametrize("name", [".cmdline", ".initrd"])
def test_what_the_kernel_takes_over_is_in_register_9(name):
    changed = pe(PARTS | {name: PARTS[name] + b"."})
    assert registers.predict(changed, MACHINE)[9] != registers.predict(pe(), MACHINE)[9]


def test_a_signature_changes_no_register():
    assert registers.predict(pe(signature=bytes(8)), MACHINE) == registers.predict(pe(), MACHINE)


def test_whoever_may_sign_is_in_register_7():
    other = store(db=struct.pack("<16xIII", 100, 0, 72) + bytes(16) + b"another".ljust(56, b"\0"))
    machine = Machine(MACHINE.register_0, other)
    changed = {
        index
        for index, value in registers.predict(pe(), machine).items()
        if value != registers.predict(pe(), MACHINE)[index]
    }
    assert changed == {7}


def test_the_measurement_is_the_platforms():
    expected = measure("tpm", b"", {"sha256": registers.predict(pe(), MACHINE)})
    assert registers.measurement(pe(), MACHINE) == expected


@pytest.mark.skipif(not SNAKEOIL.exists(), reason="Debian's ovmf is not installed")
def test_register_7_is_what_a_real_boot_under_ovmf_had():
    machine = Machine(bytes(32), SNAKEOIL.read_bytes())
    booted = "02a4f904010ebddfb1ce765622af8d48ac2408422e220ad4eed1e1856407f704"
    assert registers.predict(pe(), machine)[7].hex() == booted


@pytest.mark.parametrize(
    "data",
    [b"", b"MZ", pe()[:70], b"ZM" + pe()[2:], pe()[:HEADERS], pe() + b"x"],
    ids=["nothing", "two bytes", "cut", "no MZ", "headers only", "more"],
)
def test_what_is_no_unified_image_is_refused_or_measured_otherwise(data):
    try:
        assert registers.predict(data, MACHINE)[4] != registers.predict(pe(), MACHINE)[4]
    except uki.ImageError:
        assert data != pe() + b"x"


def test_an_image_without_a_part_is_none():
    parts = {name: content for name, content in PARTS.items() if name != ".initrd"}
    with pytest.raises(uki.ImageError, match="initrd"):
        registers.predict(pe(parts), MACHINE)


def test_variables_that_are_missing_are_not_guessed():
    with pytest.raises(firmware.FirmwareError, match="dbx"):
        registers.predict(pe(), Machine(bytes(32), store(dbx=None)))
    with pytest.raises(firmware.FirmwareError, match="no store"):
        registers.predict(pe(), Machine(bytes(32), b"nothing"))


def test_when_an_image_was_written_is_not_in_it():
    image = pe()
    start = uki.pe_header(image)
    dated = image[: start + 8] + b"time" + image[start + 12 :]
    assert registers.predict(dated, MACHINE)[4] != registers.predict(image, MACHINE)[4]
    summed = dated[: start + 88] + b"sums" + dated[start + 92 :]
    assert uki.undated(summed) == image
