"""What `deploy/container/root.py` gathers: an interpreter that runs, and no other program."""

import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "container" / "root.py"


@pytest.fixture(scope="module")
def gathering():
    spec = importlib.util.spec_from_file_location("container_root", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(gathering, tmp_path_factory):
    """A root gathered from a venv of this interpreter, with some packages and what pip leaves."""
    folder = tmp_path_factory.mktemp("gathered").resolve()
    place = folder / "venv"
    venv.EnvBuilder(symlinks=True).create(place)
    [packages] = place.glob("lib/python3*/site-packages")
    for name in (
        "pip/__init__.py",
        "pip-24.0.dist-info/RECORD",
        "torch/test/some_test",
        "ours/main.py",
    ):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("")
    for name in ("pip", "sottovoce", "activate"):
        (place / "bin" / name).write_text("")
    gathered = gathering.Root(folder / "root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "_compile", lambda _: None)  # minutes, for nothing here
        gathering.gather(gathered, place, compiler=False)
    return gathered, place


def test_the_only_program_is_the_interpreter(root):
    gathered, _ = root
    programs = {path.name for path in gathered.programs() if os.access(path, os.X_OK)}
    libraries = {name for name in programs if ".so" in name}
    assert programs - libraries == {Path(sys.executable).resolve().name}
    for name in ("sh", "bash", "dash", "gcc", "cc", "ld", "apt", "dpkg", "busybox", "perl", "curl"):
        assert not list(gathered.folder.rglob(f"bin/{name}")), name


def test_no_installer_is_left(root):
    gathered, place = root
    left = gathered.place(place)
    names = {path.name for path in left.rglob("*")}
    assert not [name for name in names if name.startswith(("pip", "setuptools", "activate"))]
    assert {"sottovoce", "main.py"} <= names
    assert not list(left.rglob("torch/test"))


def test_the_standard_library_is_there_without_its_tests(root, gathering):
    gathered, _ = root
    stdlib = gathered.place(Path(gathering.sysconfig.get_path("stdlib")))
    assert (stdlib / "asyncio" / "tasks.py").exists()
    for name in ("test", "idlelib", "ensurepip", "tkinter"):
        assert not (stdlib / name).exists()


def test_who_runs_there_has_no_shell_and_may_write_where_it_must(root):
    gathered, _ = root
    lines = (gathered.folder / "etc/passwd").read_text().splitlines()
    assert {line.rpartition(":")[2] for line in lines} == {"/nonexistent"}
    assert (gathered.folder / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (gathered.folder / "var/lib/sottovoce").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root")
def test_it_runs_with_nothing_else(root):
    gathered, place = root
    program = (
        "import asyncio, ctypes, hashlib, json, socket, sqlite3, ssl, os; print(os.listdir('/'))"
    )
    run = subprocess.run(
        [str(place / "bin/python3"), "-I", "-c", program],
        preexec_fn=lambda: os.chroot(gathered.folder),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={},
    )
    assert run.returncode == 0, run.stderr
    assert "tmp" in run.stdout
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/bin/sh"], preexec_fn=lambda: os.chroot(gathered.folder), check=False)
