"""Writes the locks: every archive of an installation, by version and SHA-256, as pip takes them.

    python deploy/lock.py                 deploy/requirements.lock: every party but the worker
    python deploy/lock.py --extra engine  deploy/requirements-worker.lock: also the worker, on a CPU

    pip install --require-hashes -r deploy/requirements.lock && pip install --no-deps .

pip chooses, under pyproject.toml and constraints.txt, and says what it would install; nothing is
installed. An archive is of the interpreter and the machine that this is run on: CPython 3.11 on
Linux, x86-64. A worker on a GPU has another build of torch, and so a lock of its own; what the
extra `tpm` needs is built where it is installed, and is in none.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = "sottovoce"

_HEAD = """\
# By deploy/lock.py, for {implementation} {python_version} on {sys_platform}, {platform_machine}.
# pip install --require-hashes -r {file} && pip install --no-deps .
"""


class NotLockable(Exception):
    """An archive without a SHA-256: it was not one, or pip built it here."""


def normalized(name: str) -> str:
    """Return a distribution's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lock(report: Mapping[str, Any], file: str) -> str:
    """Return the lock for one of pip's installation reports.

    Raises:
        NotLockable: something else than a wheel with a SHA-256 would be installed.
    """
    environment = dict(report["environment"], file=file)
    environment["implementation"] = environment["platform_python_implementation"]
    return _HEAD.format_map(environment) + "".join(sorted(_pins(report["install"])))


def _pins(installed: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for each in installed:
        name, version = normalized(each["metadata"]["name"]), each["metadata"]["version"]
        if name == OURS:
            continue
        download = each["download_info"]
        digest = download.get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None or not download["url"].endswith(".whl"):
            raise NotLockable(f"{name} {version} is no wheel with a SHA-256")
        yield f"{name}=={version} --hash=sha256:{digest}\n"


def chosen(extras: Sequence[str]) -> dict[str, Any]:
    """Return pip's report on what it would install of the project with these extras."""
    wanted = f".[{','.join(extras)}]" if extras else "."
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet"]
        command += ["--ignore-installed", "--only-binary", ":all:", "--report", str(written)]
        command += ["--constraint", "constraints.txt", wanted]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - pip, with arguments of ours
        report: dict[str, Any] = json.loads(written.read_text())
        return report


def main() -> None:
    """Write one lock."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extra", action="append", default=[], choices=["engine"])
    extras = parser.parse_args().extra
    file = f"deploy/requirements{'-worker' if extras else ''}.lock"
    (ROOT / file).write_text(lock(chosen(extras), file))


if __name__ == "__main__":
    main()
