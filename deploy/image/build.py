"""Builds the image: `python -m deploy.image.build --out build/image`.

    root.img    the root: EROFS, and behind it the hash tree of dm-verity
    image.efi   kernel, command line and initrd as one program for the firmware
    measurement what a node that boots it measures, as `sottovoce log publish release` takes it

What it is built of is in `packages.lock` and `wheels.lock`, by hashes, and in this repository.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.image import initrd, machine, registers, root, uki, verity
from sottovoce import __version__
from sottovoce.publish import publish, release_leaf

SOURCE = Path(__file__).parents[2]
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
OPTIONS = "console=ttyS0 panic=-1 lockdown=confidentiality"
"""Of the kernel, beside the root hash: what it says goes to the serial line, a panic ends the
machine, and not even root reads the kernel's memory."""

_CFLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Built:
    """The two files of an image."""

    root: Path
    image: Path

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each, in hexadecimal."""
        return {path.name: _digest(path) for path in (self.root, self.image)}


def build(out: Path, cache: Path, *, source: Path = SOURCE) -> Built:
    """Build the image into an empty folder; `cache` keeps what is fetched."""
    out.mkdir(parents=True, exist_ok=True)
    built = Built(out / "root.img", out / "image.efi")
    with tempfile.TemporaryDirectory(dir=out, prefix="work-") as name:
        work = Path(name)
        root.build_wheels(source, cache, work / "wheels")
        root.unpack(work / "root", cache, work / "wheels")
        root.compile_modules(work / "root")
        root.pack(work / "root", built.root)
        tree = verity.append_tree(built.root)
        unify(tree, cache, work, built.image)
    return built


def unify(tree: verity.Tree, cache: Path, work: Path, out: Path) -> None:
    """Make the unified kernel image that opens the root of this tree."""
    kernel = work / "kernel"
    kernel.mkdir()
    [package] = (cache / "debs").glob("linux-image-*.deb")
    root.unpack_deb(package, kernel)
    [modules] = (kernel / "lib/modules").iterdir()
    root.run(["gcc", *_CFLAGS, "-o", str(work / "init"), str(Path(__file__).parent / "init.c")])
    loaded = [(modules / "kernel" / f"{name}.ko").read_bytes() for name in initrd.MODULES]
    (work / "initrd").write_bytes(initrd.initrd((work / "init").read_bytes(), loaded))
    (work / "cmdline").write_text(f"{tree.option} {OPTIONS}")
    (work / "osrel").write_text(f"ID=sottovoce\nVERSION_ID={__version__}\n")
    [linux] = (kernel / "boot").glob("vmlinuz-*")
    parts = {".osrel": work / "osrel", ".cmdline": work / "cmdline"}
    parts |= {".linux": linux, ".initrd": work / "initrd"}
    uki.assemble(STUB, parts, out)


def explain(built: Built, booting: registers.Machine) -> str:
    """Return what a boot of the image will leave in the registers, for a person."""
    image = built.image.read_bytes()
    predicted = registers.predict(image, booting)
    lines = [f"{digest}  {name}" for name, digest in built.digests().items()]
    lines += [f"PCR {index:2}  {value.hex()}" for index, value in sorted(predicted.items())]
    return "\n".join([*lines, f"tpm={registers.measurement(image, booting).hex()}"])


def main() -> None:
    """Build, and say what will be measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=SOURCE / "build" / "image")
    parser.add_argument("--cache", type=Path, default=SOURCE / "build" / "image-cache")
    parser.add_argument("--twice", action="store_true", help="build again and compare")
    parser.add_argument("--log", help="with --key: publish the measurement in this log")
    parser.add_argument("--key", type=Path, help="seed file of the release role")
    arguments = parser.parse_args()
    root.fetch(arguments.cache)
    built = build(arguments.out, arguments.cache)
    booting = machine.reference()
    print(explain(built, booting))  # noqa: T201 - what the program is for
    measured = registers.measurement(built.image.read_bytes(), booting).hex()
    (arguments.out / "measurement").write_text(f"tpm={measured}\n")
    if arguments.twice:
        again = build(arguments.out / "again", arguments.cache)
        if again.digests() != built.digests():
            raise SystemExit(f"the second build differs: {again.digests()}")
        shutil.rmtree(arguments.out / "again")
        print("the second build is the same, to the bit")  # noqa: T201 - likewise
    if arguments.log and arguments.key:
        added, _ = publish(arguments.log, arguments.key, release_leaf([f"tpm={measured}"]))
        print(f"leaf {added.index} of the log is this release")  # noqa: T201 - likewise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
