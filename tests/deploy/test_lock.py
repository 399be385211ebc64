"""The locks pin, by hash, all that pyproject.toml asks for and constraints.txt allows."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from deploy.lock import NotLockable, lock, normalized

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ASKED = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-worker.lock": [*PROJECT["dependencies"], *EXTRAS["engine"]],
}
CONSTRAINTS = [
    Requirement(line) for line in (ROOT / "constraints.txt").read_text().split("\n") if line
]


def pins(file):
    """Name to version, of every line that is no comment."""
    found = {}
    for line in (ROOT / "deploy" / file).read_text().splitlines():
        if not line.startswith("#"):
            name, version = re.fullmatch(
                r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line
            ).groups()
            assert name not in found
            found[name] = Version(version)
    return found


@pytest.mark.parametrize("file", ASKED)
def test_a_lock_has_a_version_that_fits_of_all_that_is_asked_for(file):
    pinned = pins(file)
    for requirement in map(Requirement, ASKED[file]):
        version = pinned[normalized(requirement.name)]
        assert requirement.specifier.contains(version), requirement


@pytest.mark.parametrize("file", ASKED)
def test_a_lock_agrees_with_the_constraints(file):
    pinned = pins(file)
    for constraint in CONSTRAINTS:
        version = pinned.get(normalized(constraint.name))
        assert version is None or constraint.specifier.contains(version), constraint


def test_constraints_pin_the_torch_that_the_workers_lock_has():
    torch = next(each for each in CONSTRAINTS if each.name == "torch")
    assert torch.specifier.contains(pins("requirements-worker.lock")["torch"])
    assert "torch" not in pins("requirements.lock")


def test_what_both_locks_have_is_the_same():
    lines = [(ROOT / "deploy" / file).read_text().splitlines()[2:] for file in ASKED]
    assert set(lines[0]) <= set(lines[1])


WHEEL = {
    "metadata": {"name": "Some_Thing", "version": "1.0"},
    "download_info": {
        "url": "https://index.invalid/some_thing-1.0-py3-none-any.whl",
        "archive_info": {"hashes": {"sha256": "ab" * 32}},
    },
}
OURSELVES = {"metadata": {"name": "sottovoce", "version": "0"}, "download_info": {"url": "file:."}}
ENVIRONMENT = {
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}


def report(*installed):
    return {"environment": ENVIRONMENT, "install": installed}


def test_a_lock_is_made_of_pips_report():
    *comments, line = lock(report(OURSELVES, WHEEL), "some.lock").splitlines()
    assert line == f"some-thing==1.0 --hash=sha256:{'ab' * 32}"
    assert all(comment.startswith("#") for comment in comments)
    assert "CPython 3.11 on linux, x86_64" in comments[0]


HASHED = {"archive_info": {"hashes": {"sha256": "ab" * 32}}}
NO_WHEEL = [
    {"url": "https://index.invalid/some_thing-1.0.tar.gz", **HASHED},
    {"url": "https://index.invalid/some_thing-1.0-py3-none-any.whl"},
    {"url": "git+https://git.invalid/some_thing", "vcs_info": {"vcs": "git"}},
]


@pytest.mark.parametrize("download", NO_WHEEL)
def test_what_has_no_hash_or_is_built_here_is_not_locked(download):
    with pytest.raises(NotLockable, match="some-thing"):
        lock(report({**WHEEL, "download_info": download}), "some.lock")
