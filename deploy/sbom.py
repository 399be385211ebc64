"""Prints a software bill of materials, CycloneDX 1.6 as JSON.

    python deploy/sbom.py [--lock deploy/requirements-worker.lock]    of a lock: what would be there
    python deploy/sbom.py --installed                                 of this interpreter: what is

A lock gives versions and hashes; an installation also licences and who needs whom. The same input
gives the same bytes: there is no time in it, and its serial number is made of its content.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
OURS = "sottovoce"
LOCK = ROOT / "deploy" / "requirements.lock"

_PIN = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def normalized(name: str) -> str:
    """Return a distribution's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(name: str, version: str) -> str:
    """Return the package URL of a release on PyPI."""
    return f"pkg:pypi/{normalized(name)}@{quote(version, safe='')}"


def of_lock(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return components and dependencies of a lock; all are the project's own.

    Raises:
        ValueError: a line is neither a pin nor a comment.
    """
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pins = [_PIN.fullmatch(line) for line in lines]
    if None in pins:
        raise ValueError("not a lock of deploy/lock.py")
    components = [
        {**_component(pin[1], pin[2]), "hashes": [{"alg": "SHA-256", "content": pin[3]}]}
        for pin in pins
        if pin is not None
    ]
    return components, [{"ref": OURS, "dependsOn": [each["bom-ref"] for each in components]}]


def of_installation(
    installed: Iterable[Distribution],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return components and dependencies of what is installed."""
    known = {normalized(each.metadata["Name"]): each for each in installed}
    components = [
        {**_component(name, each.version), **_licences(each)}
        for name, each in sorted(known.items())
        if name != OURS
    ]
    refs = {name: OURS if name == OURS else purl(name, known[name].version) for name in known}
    dependencies = [
        {"ref": refs[name], "dependsOn": sorted({refs[n] for n in _needed(each) if n in refs})}
        for name, each in sorted(known.items())
    ]
    return components, dependencies


def _component(name: str, version: str) -> dict[str, Any]:
    reference = purl(name, version)
    members = {"type": "library", "bom-ref": reference, "name": name}
    return {**members, "version": version, "purl": reference}


def _needed(distribution: Distribution) -> Iterator[str]:
    """Yield the names that a distribution requires without an extra."""
    for requirement in distribution.requires or ():
        if "extra ==" not in requirement and (name := _NAME.match(requirement)):
            yield normalized(name[0])


def _licences(distribution: Distribution) -> dict[str, Any]:
    """Return the member `licenses`; none where the distribution states nothing short."""
    stated = dict(distribution.metadata.items())  # type: ignore[attr-defined]  # of email.message
    if expression := stated.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    named = stated.get("License", "")
    if named and len(named) <= 64 and "\n" not in named:  # else it is the licence's whole text
        return {"licenses": [{"license": {"name": named}}]}
    return {}


def document(components: list[dict[str, Any]], dependencies: list[dict[str, Any]]) -> str:
    """Return the bill of materials as JSON."""
    content = {"components": components, "dependencies": dependencies}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    ours = {"type": "application", "bom-ref": OURS, "name": OURS, "version": _version()}
    whole = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": ours},
        **content,
    }
    return json.dumps(whole, indent=2) + "\n"


def _version() -> str:
    text = (ROOT / "sottovoce" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise ValueError("the project has no version")
    return found[1]


def main() -> None:
    """Print one bill of materials."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--installed", action="store_true")
    arguments = parser.parse_args()
    found = (
        of_installation(distributions())
        if arguments.installed
        else of_lock(arguments.lock.read_text())
    )
    sys.stdout.write(document(*found))


if __name__ == "__main__":
    main()
