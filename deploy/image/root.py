"""The root of the image: packages and wheels, unpacked and nothing more.

No script of a package runs, no package manager is there, before or after: a package is a tar
archive, a wheel is a zip archive, and the lists beside this file say which, by their hashes. So
there is no shell in the root, no login, no getty and no ssh, for nobody has put one there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SITE = Path("usr/lib/python3/dist-packages")
"""Where Debian's interpreter looks for modules without being told."""

START = Path("usr/lib/sottovoce/start.py")
EPOCH = 1_700_000_000
"""The time of every file: it stands in the image and means nothing."""

UUID = "736f7474-6f76-4f63-8563-000000000001"

_FOLDERS = (
    "dev",
    "etc",
    "proc",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
)
_MERGED = ("bin", "lib", "lib64", "sbin")
_UNUSED = (
    "usr/share",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/lib/python3.11/ensurepip",
    "usr/lib/python3.11/pydoc_data",
    f"{SITE}/torch/include",
    f"{SITE}/torch/test",
)
"""Documentation, and what only somebody who develops or installs would use."""

_FORBIDDEN = (
    "sh",
    "bash",
    "dash",
    "busybox",
    "apt",
    "dpkg",
    "pip",
    "pip3",
    "sshd",
    "agetty",
    "login",
    "su",
)


class RootError(Exception):
    """Something is not what the lists say, or must not be in an image."""


def packages() -> dict[str, tuple[str, str]]:
    """Return Debian's packages of the root and the kernel: version and SHA-256 by name."""
    lines = (HERE / "packages.lock").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: (version, digest) for name, version, digest in rows}


def fetch(cache: Path) -> None:
    """Fetch what the lists name into a folder, where it is not there already.

    Raises:
        RootError: a file has another hash than the list says.
    """
    debs, wheels = cache / "debs", cache / "wheels"
    debs.mkdir(parents=True, exist_ok=True)
    wanted = packages()
    missing = [name for name in wanted if not _file_of(debs, name, wanted[name][0]).exists()]
    if missing:
        names = [f"{name}={wanted[name][0]}" for name in missing]
        run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names], cwd=debs)
    for name, (version, digest) in wanted.items():
        found = hashlib.sha256(_file_of(debs, name, version).read_bytes()).hexdigest()
        if found != digest:
            raise RootError(f"the package {name} is not the one in the list")
    options = ["--quiet", "--no-deps", "--require-hashes", "--dest", str(wheels)]
    run([*PIP, "download", *options, "--requirement", str(HERE / "wheels.lock")])


def build_wheels(source: Path, cache: Path, out: Path) -> None:
    """Build the wheels that are not published as such: ours, and what comes as source only."""
    environment = {"SOURCE_DATE_EPOCH": str(EPOCH), "CFLAGS": "-O2 -g0"}
    sources = [str(source), *map(str, sorted((cache / "wheels").glob("*.tar.gz")))]
    command = [*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), *sources]
    run(command, environment=environment)


def unpack(root: Path, cache: Path, own_wheels: Path) -> None:
    """Unpack everything into an empty folder.

    Raises:
        RootError: what must not be in an image is in it.
    """
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for name, (version, _) in packages().items():
        if not name.startswith("linux-image"):
            unpack_deb(_file_of(cache / "debs", name, version), root)
    for wheel in sorted([*(cache / "wheels").glob("*.whl"), *own_wheels.glob("*.whl")]):
        _unpack_wheel(wheel, root / SITE)
    (root / START).parent.mkdir()
    shutil.copyfile(HERE / "start.py", root / START)
    for path in _UNUSED:
        shutil.rmtree(root / path, ignore_errors=True)
    present = [
        path.name for folder in ("bin", "sbin") for path in (root / "usr" / folder).iterdir()
    ]
    if found := sorted(set(present) & set(_FORBIDDEN)):
        raise RootError(f"an image has no {', '.join(found)}")


def unpack_deb(deb: Path, root: Path) -> None:
    """Unpack a package; its maintainer's scripts do not run."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:  # noqa: S603 - as listed
        keep = ["--keep-directory-symlink", "--no-same-owner"]
        subprocess.run(["tar", "-x", *keep, "-C", str(root)], stdin=archive.stdout, check=True)  # noqa: S603, S607
    if archive.returncode:
        raise RootError(f"{deb.name} does not unpack")


def compile_modules(root: Path) -> None:
    """Compile every module, by the root's own interpreter, in one order and one process.

    The files are bound to their sources' hashes, and nobody looks at those again: dm-verity does.
    """
    folders = ["/usr/lib/python3.11", f"/{SITE}"]
    options = ["-q", "-r", "30", "--invalidation-mode", "unchecked-hash"]
    python = ["/usr/bin/python3.11", "-I", "-S", "-m", "compileall", *options, *folders]
    command = ["chroot", str(root), *python]
    environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/sbin:/usr/bin"}
    # Some modules are of other versions of Python, or templates: they stay as they are.
    subprocess.run(command, env=environment, check=False, capture_output=True)  # noqa: S603


def pack(root: Path, out: Path) -> None:
    """Write the root as an EROFS image: everything root's, of one time, under one UUID."""
    out.unlink(missing_ok=True)
    command = ["mkfs.erofs", "--quiet", f"-T{EPOCH}", "-U", UUID, "--all-root", str(out), str(root)]
    run(command)


def run(
    command: list[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run a tool under a clean locale."""
    given = {**os.environ, "LC_ALL": "C", **(environment or {})}
    subprocess.run(command, cwd=cwd, check=True, env=given)  # noqa: S603 - tools, and our files


def _unpack_wheel(wheel: Path, site: Path) -> None:
    """Unpack a wheel's modules; scripts and data for elsewhere are left out.

    Raises:
        RootError: a member would lie outside.
    """
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = _module_path(member.filename)
            if name is None or member.is_dir():
                continue
            target = site / name
            if ".." in target.parts or not target.is_relative_to(site):
                raise RootError(f"{wheel.name} reaches outside its place")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)


def _module_path(name: str) -> str | None:
    """Return where a member of a wheel goes, below the folder of modules; None: nowhere."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    scheme, _, path = rest.partition("/")
    return path if scheme in ("purelib", "platlib") else None


def _file_of(folder: Path, name: str, version: str) -> Path:
    found = [*folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")]
    return found[0] if found else folder / f"{name}_{version}_missing.deb"
