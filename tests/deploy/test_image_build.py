"""The Dockerfile is built and run, with buildah, on a base that mmdebstrap makes here.

Needs root, both programs and the package indexes, and minutes: it is one of the heavy tests.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("buildah", "mmdebstrap") if not shutil.which(name)]
BASE = "localhost/python-base"
PACKAGES = "python3-venv,python3-dev,ca-certificates,g++,pkg-config,libtss2-dev"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root"),
]


class Buildah:
    """buildah, with a store of its own."""

    def __init__(self, folder):
        self._command = [
            "buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip

    def __call__(self, *words, ok=True):
        run = subprocess.run(
            [*self._command, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0 or not ok, run.stderr[-4000:]
        return run

    def inside(self, container, *words, ok=True):
        """Run a program of an image, as its user."""
        return self("run", "--isolation", "chroot", container, "--", *words, ok=ok)


def pip_volumes(folder):
    """What pip is configured to here, for the build: its settings, and local files these name."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(re.findall(r"^(?:.*\.)?([\w-]+)='(.*)'$", listed, re.MULTILINE))
    configuration = folder / "pip.conf"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    configuration.write_text("\n".join(["[global]", *lines, ""]))
    words = " ".join(settings.values()).split()
    named = {Path(word) for word in words if word.startswith("/")}
    # The files of a local index lie beside the folder that names them.
    named |= {Path(word.removeprefix("file://")).parent for word in words if "file://" in word}
    places = sorted(str(path) for path in named if path.exists())
    return [f"{configuration}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in places)]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    archive = folder / "base.tar"
    subprocess.run(
        ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(archive)],
        check=True,
        capture_output=True,
    )
    buildah = Buildah(folder)
    container = buildah("from", "scratch").stdout.strip()
    buildah("add", "-q", container, str(archive), "/")
    buildah("commit", "-q", "--rm", "--format", "docker", container, BASE)
    yield buildah
    buildah("rm", "--all", ok=False)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(buildah, tmp_path_factory):
    """A container of the target `base`."""
    volumes = pip_volumes(tmp_path_factory.mktemp("pip"))
    buildah(
        "bud", "--isolation", "chroot", "--pull-never", "--format", "docker",
        "--build-arg", f"PYTHON_IMAGE={BASE}", "--target", "base", "-t", "sottovoce-base",
        *(word for volume in volumes for word in ("--volume", volume)), ".",
    )  # fmt: skip
    return buildah("from", "--pull-never", "localhost/sottovoce-base").stdout.strip()


def test_the_image_runs_the_command_line(buildah, image):
    shown = buildah.inside(image, "/opt/sottovoce/bin/sottovoce", "relay", "--help").stdout
    assert "--worker" in shown


def test_it_runs_as_nobody_of_importance_and_finds_the_systems_roots(buildah, image):
    program = "import os, ssl; print(os.getuid(), len(ssl.create_default_context().get_ca_certs()))"
    user, roots = buildah.inside(image, "/opt/sottovoce/bin/python3", "-c", program).stdout.split()
    assert user == "10001"
    assert int(roots) > 50


def test_its_probe_says_that_nobody_serves(buildah, image):
    words = ("/opt/sottovoce/bin/python3", "/opt/sottovoce/health.py")
    assert buildah.inside(image, *words, ok=False).returncode != 0


@pytest.mark.parametrize("program", ["/bin/sh", "/usr/bin/apt", "/usr/bin/gcc", "/usr/bin/dpkg"])
def test_there_is_nothing_else_to_run(buildah, image, program):
    run = buildah.inside(image, program, ok=False)
    assert run.returncode != 0
    assert "no such file" in run.stderr


def test_there_is_no_pip(buildah, image):
    run = buildah.inside(image, "/opt/sottovoce/bin/python3", "-m", "pip", ok=False)
    assert "No module named pip" in run.stderr
