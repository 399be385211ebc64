"""The lists an image is made of, and what unpacking takes of them."""

import re
import zipfile

import pytest

from deploy.image import root
from deploy.image.root import HERE, SITE, RootError


def test_every_package_is_there_once_with_its_version_and_hash():
    lines = (HERE / "packages.lock").read_text().splitlines()[1:]
    assert len(root.packages()) == len(lines)
    for name, (version, digest) in root.packages().items():
        assert re.fullmatch(r"[a-z0-9.+-]+", name)
        assert version[0].isdigit()
        assert re.fullmatch(r"[0-9a-f]{64}", digest)


def test_every_wheel_is_pinned_by_one_hash():
    lines = (HERE / "wheels.lock").read_text().splitlines()[1:]
    pinned = [
        re.fullmatch(r"([\w.-]+)==[\w.+]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines
    ]
    assert all(pinned)
    names = [match[1] for match in pinned]
    assert len(set(names)) == len(names)


def test_no_list_names_a_shell_a_package_manager_or_a_way_in():
    wheels = (HERE / "wheels.lock").read_text().splitlines()[1:]
    named = {*root.packages(), *(line.partition("==")[0] for line in wheels)}
    refused = {"bash", "dash", "busybox", "busybox-static", "apt", "dpkg", "pip", "setuptools"}
    refused |= {"openssh-server", "login", "util-linux", "systemd", "coreutils", "perl-base"}
    assert not named & refused


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (
            "thing/__init__.py",
            "thing-1.data/purelib/pure.py",
            "thing-1.data/platlib/plat.so",
            "thing-1.data/scripts/thing",
            "thing-1.data/data/etc/thing.conf",
            "thing-1.data/headers/thing.h",
        ):
            archive.writestr(name, name)
    return path


def test_of_a_wheel_only_modules_are_unpacked(wheel, tmp_path):
    root._unpack_wheel(wheel, tmp_path / "site")
    found = {path.name for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert found == {"__init__.py", "pure.py", "plat.so"}


@pytest.mark.parametrize("name", ["../outside.py", "/outside.py", "a/../../outside.py"])
def test_a_wheel_that_reaches_out_of_its_place_is_refused(tmp_path, name):
    path = tmp_path / "bad-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(RootError, match="outside"):
        root._unpack_wheel(path, tmp_path / "root" / SITE)
    assert not list(tmp_path.rglob("outside.py"))
