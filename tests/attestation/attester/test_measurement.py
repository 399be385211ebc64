"""The measurement covers every installed source file, and nothing that a run leaves behind."""

import hashlib

import pytest

from attestation.attester.measurement import PACKAGES, measure, measure_packages

FILES = {
    "one/__init__.py": b"",
    "one/code.py": b"x = 1\n",
    "one/data/table.json": b"{}",
    "two/__init__.py": b"y = 2\n",
}


@pytest.fixture
def tree(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def test_the_documented_formula(tree):
    expected = hashlib.sha256(b"sottovoce measurement v1")
    for name, content in sorted(FILES.items()):
        expected.update(len(name).to_bytes(4, "big") + name.encode())
        expected.update(len(content).to_bytes(8, "big") + hashlib.sha256(content).digest())
    assert measure(tree, ["one", "two"]) == expected.digest()
    assert measure(tree, ["two", "one"]) == expected.digest()


def test_a_changed_renamed_added_or_removed_file_changes_it(tree):
    seen = {measure(tree, ["one", "two"])}

    def step():
        seen.add(measure(tree, ["one", "two"]))

    (tree / "one/code.py").write_bytes(b"x = 2\n")
    step()
    (tree / "one/code.py").rename(tree / "one/kode.py")
    step()
    (tree / "one/evil.pyc").write_bytes(b"importable without its source")
    step()
    (tree / "one/data/table.json").unlink()
    step()
    assert len(seen) == 5


def test_caches_and_other_folders_do_not_count(tree):
    before = measure(tree, ["one", "two"])
    (tree / "one/__pycache__").mkdir()
    (tree / "one/__pycache__/code.cpython-311.pyc").write_bytes(b"compiled")
    (tree / "three").mkdir()
    (tree / "three/other.py").write_bytes(b"not ours")
    assert measure(tree, ["one", "two"]) == before


def test_a_package_that_is_not_there_is_no_smaller_measurement(tree):
    with pytest.raises(FileNotFoundError, match="three"):
        measure(tree, ["one", "three"])


def test_the_project_measures_itself():
    assert len(measure_packages()) == 32
    assert measure_packages() == measure_packages()


def test_the_packages_are_those_of_the_wheel(request):
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((request.config.rootpath / "pyproject.toml").read_text())
    assert list(PACKAGES) == project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
