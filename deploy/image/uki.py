"""A unified kernel image: kernel, command line and initrd in one program for the firmware.

systemd's stub carries them as PE sections, measures each into register 11 and starts the kernel
(systemd-stub(7); UAPI group, UKI specification).
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PLACES = {".osrel": 0x20000, ".cmdline": 0x30000, ".linux": 0x2000000, ".initrd": 0x4000000}
"""Where each section is loaded, above the stub and without overlap."""

_DOS_HEADER, _OPTIONAL_HEADER = 0x3C, 24
_TIME, _CHECKSUM = 8, 64
_SECTION = struct.Struct("<8sIIII16x")


class ImageError(Exception):
    """What is no image of the form expected, or cannot be made one."""


@dataclass(frozen=True)
class Section:
    """A section of a PE file: its name, size in memory, and where its bytes lie in the file."""

    name: str
    size: int
    offset: int
    stored: int


def assemble(stub: Path, parts: Mapping[str, Path], out: Path) -> None:
    """Write an image: the stub, and each part as a section of its name.

    Raises:
        ImageError: a part has no place, or does not fit before the next.
    """
    arguments = []
    following = dict(zip(PLACES.values(), [*PLACES.values()][1:], strict=False))
    for name, file in parts.items():
        place = PLACES.get(name)
        if place is None or place + file.stat().st_size > following.get(place, 1 << 31):
            raise ImageError(f"no room for a section {name} of this size")
        arguments += ["--add-section", f"{name}={file}"]
        arguments += ["--change-section-vma", f"{name}={place:#x}"]
    command = ["objcopy", *arguments, str(stub), str(out)]
    subprocess.run(command, check=True)  # noqa: S603 - binutils, and files of this build
    out.write_bytes(undated(out.read_bytes()))


def undated(image: bytes) -> bytes:
    """Return a PE file without the time at which it was written, and without a checksum over that.

    No firmware looks at the one or the other.

    Raises:
        ImageError: not a PE file.
    """
    start = pe_header(image)
    for at in (start + _TIME, start + _OPTIONAL_HEADER + _CHECKSUM):
        image = image[:at] + bytes(4) + image[at + 4 :]
    return image


def sections(image: bytes) -> dict[str, Section]:
    """Return the sections of a PE file by name.

    Raises:
        ImageError: not a PE file, a section named twice, or one that lies outside the file.
    """
    start = pe_header(image)
    count, optional = struct.unpack_from("<H12xH", image, start + 6)
    found: dict[str, Section] = {}
    for index in range(count):
        at = start + _OPTIONAL_HEADER + optional + index * _SECTION.size
        try:
            name, size, _, stored, offset = _SECTION.unpack_from(image, at)
        except struct.error:
            raise ImageError("a section's header lies outside the file") from None
        text = name.rstrip(b"\0").decode("ascii", "replace")
        if text in found or offset + stored > len(image):
            raise ImageError(f"the section {text} is there twice, or lies outside the file")
        found[text] = Section(text, size, offset, stored)
    return found


def content(image: bytes, section: Section) -> bytes:
    """Return a section's bytes as they are in memory."""
    return image[section.offset : section.offset + min(section.size, section.stored)]


def pe_header(image: bytes) -> int:
    """Return where the PE header begins.

    Raises:
        ImageError: this is no PE file of 64 bits.
    """
    try:
        (start,) = struct.unpack_from("<I", image, _DOS_HEADER)
        signature, magic = struct.unpack_from("<4s20xH", image, start)
    except struct.error:
        raise ImageError("too short for a PE file") from None
    if image[:2] != b"MZ" or signature != b"PE\0\0" or magic != 0x20B:
        raise ImageError("not a PE file of 64 bits")
    return int(start)
