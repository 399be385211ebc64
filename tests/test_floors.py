"""Each import contract is shown to catch a planted violation: a rule that never fires proves
nothing."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = [c["name"] for c in PROJECT["tool"]["importlinter"]["contracts"]]
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]

VIOLATIONS = {
    "floors: parties above what is proven and computed, above bytes": (
        "wire/varint.py",
        "import client.sse",
    ),
    "ground floor: no network, threads, files or torch": (
        "transparency/merkle.py",
        "import socket",
    ),
    "relay and issuer cannot open a request": ("relay/__init__.py", "import wire.ohttp"),
    "engine knows token ids only": ("engine/types.py", "import pydantic"),
    "what sees a prompt in clear never loads torch": ("server/capsule.py", "import engine.process"),
}


def lint_imports(folder):
    """Run the linter over a copy of the tree; return its exit code and what it printed."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


@pytest.fixture
def tree(tmp_path):
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_has_a_violation_planted():
    assert set(VIOLATIONS) == set(CONTRACTS)


def test_the_tree_keeps_every_contract():
    code, printed = lint_imports(ROOT)
    assert code == 0, printed


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_planted_violation_is_caught(contract, tree):
    place, line = VIOLATIONS[contract]
    file = tree / place
    file.write_text(file.read_text() + f"\n{line}\n")
    code, printed = lint_imports(tree)
    assert code != 0
    assert f"{contract} BROKEN" in printed
