"""Gather the root of an image: an interpreter, a venv, the libraries they are linked with. No more.

    root.py ROOT VENV [--compiler]

is run in the stage that built VENV, by the interpreter that VENV was made from. What is not
gathered is not there: no shell, no package manager, no pip, no other program. With --compiler a C
compiler comes along, without a shell all the same: Triton makes what launches its kernels with one.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

USER = 10001
"""The user and the group that everything runs as."""

UNUSED = shutil.ignore_patterns(
    "__pycache__", "*.pyc", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip",
    "lib2to3", "pydoc_data", "config-3*", "site-packages", "dist-packages",
)  # fmt: skip
"""Of the standard library."""

INSTALLERS = re.compile(r"pip|pip-.*|setuptools.*|pkg_resources|_distutils_hack.*|distutils-.*")
PROGRAMS = (
    "torch/test", "torch/bin/*Test", "torch/bin/test_*", "torch/bin/protoc*", "tqdm/completion.sh",
)  # fmt: skip
"""What packages bring along and nobody here calls."""

SCRIPTS = re.compile(r"python[0-9.]*|sottovoce")
"""What stays of the venv's programs."""

COMPILER = ("gcc", "gcc-12", "cpp", "cpp-12", "binutils", "libc6-dev", "linux-libc-dev",
            "libgcc-12-dev", "binutils-x86-64-linux-gnu", "libcrypt-dev")  # fmt: skip
"""Debian packages."""

FILES = (
    "/etc/nsswitch.conf", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/usr/lib/ssl/openssl.cnf",
    "/usr/lib/ssl/cert.pem", "/usr/lib/ssl/certs", "/usr/share/ca-certificates",
)  # fmt: skip
"""Where what they link to lies elsewhere, that comes along."""

LOADED_BY_NAME = (
    "libgcc_s.so.1", "libtss2-tcti-device.so.0", "libtss2-tcti-swtpm.so.0",
    "libtss2-tcti-tabrmd.so.0",
)  # fmt: skip
"""Libraries that a program opens while it runs, so that no header names them."""

ELF = b"\x7fELF"


class Root:
    """A folder that becomes an image's root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, path: Path) -> Path:
        """Return where a path of this system lies in the root, /lib being a link to /usr/lib."""
        return self.folder / (path.parent.resolve() / path.name).relative_to("/")

    def take(self, path: Path) -> None:
        """Copy a file, a folder, or a link and what it names; what is not there is left out."""
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            if not place.is_symlink():
                place.symlink_to(path.readlink())
            self.take(path.parent / path.readlink())
        elif path.is_dir() and not place.exists():
            shutil.copytree(path, place, symlinks=True)
        elif path.is_file() and not place.exists():
            shutil.copy2(path, place)

    def programs(self) -> Iterator[Path]:
        """Yield every program and library in it."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink() and path.is_file() and _is_elf(path):
                    yield path


def gather(root: Root, venv: Path, *, compiler: bool) -> None:
    """Put all of it into the root. Everything is owned by root but what `prepare` makes."""
    root.take(venv)
    _prune(root.place(venv))
    root.take(venv / "bin" / "python3")
    for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}:
        shutil.copytree(path, root.place(Path(path)), ignore=UNUSED, dirs_exist_ok=True)
    if compiler:
        headers = Path(sysconfig.get_path("include"))
        root.take(headers)
        # Debian keeps those of one machine apart; elsewhere there is no such folder.
        root.take(headers.parent / (sysconfig.get_config_var("MULTIARCH") or "") / headers.name)
        for part in _files_of(COMPILER):
            root.take(part)
    for name in FILES:
        root.take(Path(name))
    _link_merged(root)
    _take_libraries(root, venv)
    _compile(root)
    prepare(root)


def prepare(root: Root) -> None:
    """Write who there is, and make the folders that they may write to."""
    etc = root.folder / "etc"
    user = f"sottovoce:x:{USER}:{USER}::/tmp:/nonexistent\n"
    (etc / "passwd").write_text("root:x:0:0:root:/nonexistent:/nonexistent\n" + user)
    (etc / "group").write_text(f"root:x:0:\nsottovoce:x:{USER}:\n")
    for path, mode in (("tmp", 0o1777), ("var/lib/sottovoce", 0o700), ("run/sottovoce", 0o700)):
        folder = root.folder / path
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        if os.geteuid() == 0 and mode == 0o700:
            os.chown(folder, USER, USER)
    for path in ("proc", "sys", "dev"):
        (root.folder / path).mkdir(exist_ok=True)


def _prune(venv: Path) -> None:
    for path in (venv / "bin").iterdir():
        if not SCRIPTS.fullmatch(path.name):
            path.unlink()
    for packages in venv.glob("lib/python3*/site-packages"):
        for path in packages.iterdir():
            if INSTALLERS.fullmatch(path.name):
                _remove(path)
        for path in (path for pattern in PROGRAMS for path in packages.glob(pattern)):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _files_of(packages: tuple[str, ...]) -> Iterator[Path]:
    for package in packages:
        listed = _output("dpkg", "--listfiles", package)
        yield from (Path(line) for line in listed.splitlines() if not Path(line).is_dir())


def _link_merged(root: Root) -> None:
    """Make /lib and its like links where they are links here."""
    for name in ("lib", "lib64", "lib32"):
        here = Path("/", name)
        if here.is_symlink():
            (root.folder / name).symlink_to(here.readlink())


def _take_libraries(root: Root, venv: Path) -> None:
    """Take what the programs are linked with, as this system's loader finds it, and an index."""
    needed = {
        Path(found)
        for program in root.programs()
        for found in re.findall(r"(?:=> |^\s+)(/\S+)", _output("ldd", str(program)), re.MULTILINE)
    }
    known = _output("ldconfig", "-p")
    needed |= {
        Path(path)
        for name in LOADED_BY_NAME
        for path in re.findall(rf"{re.escape(name)} .*=> (/\S+)", known)
    }
    for path in needed:
        if not path.is_relative_to(root.folder) and not path.is_relative_to(venv):
            root.take(path)
    _output("ldconfig", "-r", str(root.folder))


def _compile(root: Root) -> None:
    """Compile all modules: nothing can be written later, and no time stands in the result."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        root.folder, quiet=2, stripdir=root.folder, invalidation_mode=unchecked, workers=0
    )


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == ELF


def _output(*command: str) -> str:
    # ldd of what is no dynamic program ends with 1: there is nothing to take then.
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    return done.stdout


if __name__ == "__main__":
    gather(Root(Path(sys.argv[1])), Path(sys.argv[2]), compiler="--compiler" in sys.argv[3:])
