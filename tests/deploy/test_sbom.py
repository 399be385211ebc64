"""The bill of materials is CycloneDX 1.6 and names every dependency."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy import sbom

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKER = ROOT / "deploy" / "requirements-worker.lock"


def of_lock(path):
    return json.loads(sbom.document(*sbom.of_lock(path.read_text())))


def installed():
    return json.loads(sbom.document(*sbom.of_installation(distributions())))


WHOLE = {"base": lambda: of_lock(sbom.LOCK), "worker": lambda: of_lock(WORKER), "here": installed}


@pytest.fixture(params=WHOLE)
def bill(request):
    return WHOLE[request.param]()


def test_its_members_are_those_of_the_standard(bill):
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["component"]["name"] == "sottovoce"
    for component in bill["components"]:
        assert component["type"] == "library"
        assert component["version"]
        for digest in component.get("hashes", ()):
            assert digest["alg"] == "SHA-256"
            assert re.fullmatch(r"[0-9a-f]{64}", digest["content"])


def test_every_component_has_a_package_url_of_its_own(bill):
    urls = [component["purl"] for component in bill["components"]]
    assert len(urls) == len(set(urls))
    for component in bill["components"]:
        assert component["bom-ref"] == component["purl"]
        assert re.fullmatch(r"pkg:pypi/[a-z0-9]+(-[a-z0-9]+)*@[0-9A-Za-z.%-]+", component["purl"])


def test_what_depends_on_what_is_in_it(bill):
    known = {component["bom-ref"] for component in bill["components"]} | {"sottovoce"}
    for each in bill["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= known
        assert len(each["dependsOn"]) == len(set(each["dependsOn"]))


def names(bill):
    return {component["name"] for component in bill["components"]}


def asked(*extras):
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {sbom.normalized(Requirement(line).name) for line in lines}


def test_every_dependency_of_the_project_is_in_it():
    assert asked() <= names(of_lock(sbom.LOCK))
    assert asked("engine") <= names(of_lock(WORKER))
    assert asked("engine") <= names(installed())


def test_a_lock_gives_a_hash_for_each():
    assert all(component["hashes"] for component in of_lock(WORKER)["components"])


def test_an_installation_gives_licences_and_who_needs_whom():
    bill = installed()
    by_name = {component["name"]: component for component in bill["components"]}
    assert by_name["httpx"]["licenses"]
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert by_name["httpcore"]["purl"] in needs[by_name["httpx"]["purl"]]


def test_a_local_version_is_written_as_package_urls_write_it():
    assert sbom.purl("Torch", "2.13.0+cpu") == "pkg:pypi/torch@2.13.0%2Bcpu"
    assert sbom.purl("typing_extensions", "4.0") == "pkg:pypi/typing-extensions@4.0"


@pytest.mark.parametrize("line", ["torch", "torch>=2", "torch==1", "-e .", "x==1 --hash=md5:00"])
def test_what_is_no_lock_is_refused(line):
    with pytest.raises(ValueError, match="not a lock"):
        sbom.of_lock(f"# a lock\n{line}\n")


def test_the_same_lock_gives_the_same_bytes():
    command = [sys.executable, str(ROOT / "deploy" / "sbom.py"), "--lock", str(WORKER)]
    first, second = (subprocess.run(command, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["components"]
