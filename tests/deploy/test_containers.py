"""The container files name commands and options that exist, and every party."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SERVICES = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_names_a_command_and_options_that_exist(name):
    command = SERVICES[name]["command"]
    first = next(i for i, word in enumerate(command) if word.startswith("--"))
    run = subprocess.run(
        [sys.executable, "-m", "sottovoce", *command[:first], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "TERM": "dumb"},
    )
    assert run.returncode == 0, run.stderr
    for option in (word for word in command[first:] if word.startswith("--")):
        assert option in run.stdout, option


def test_every_party_is_described():
    parties = {service["command"][0] for service in SERVICES.values()}
    assert parties == {"witness", "log", "issuer", "spent", "worker", "relay", "proxy"}


def test_no_container_runs_as_root_or_gains_privileges():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "USER sottovoce" in dockerfile
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
