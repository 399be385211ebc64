"""The measurement of a simulated node: a digest over the source that is installed.

    SHA-256(LABEL || (u32 length of path || path || u64 length of file || SHA-256 of file)*)

in the order of the paths (UTF-8, `/` between the parts, relative to where the packages lie). It is
honest, and no more: software that measures itself can be changed to state anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import attestation

LABEL = b"sottovoce measurement v1"
PACKAGES = (
    "attestation",
    "client",
    "engine",
    "issuer",
    "relay",
    "server",
    "sottovoce",
    "transparency",
    "wire",
)
"""The packages of the wheel, as `pyproject.toml` lists them."""


def measure_packages() -> bytes:
    """Measure the packages this process runs from, 32 bytes."""
    return measure(Path(attestation.__file__).resolve().parents[1], PACKAGES)


def measure(folder: Path, packages: Sequence[str]) -> bytes:
    """Measure the given packages below `folder`, 32 bytes. `__pycache__` is left out.

    Raises:
        FileNotFoundError: a package is not there. A measurement of less would look like one.
        OSError: a file cannot be read.
    """
    paths = [path for package in packages for path in _files(folder / package)]
    digest = hashlib.sha256(LABEL)
    for name, path in sorted(
        (path.relative_to(folder).as_posix().encode(), path) for path in paths
    ):
        content = path.read_bytes()
        digest.update(len(name).to_bytes(4, "big") + name)
        digest.update(len(content).to_bytes(8, "big") + hashlib.sha256(content).digest())
    return digest.digest()


def _files(package: Path) -> Iterator[Path]:
    if not package.is_dir():
        raise FileNotFoundError(f"the package {package.name} is not installed")
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path
