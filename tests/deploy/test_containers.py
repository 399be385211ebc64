"""The container files name commands and options that exist, every party, and nothing unpinned."""

import re
from pathlib import Path

import pytest
import yaml
from named_options import check

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]
SERVICES = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_names_a_command_and_options_that_exist(name):
    check(SERVICES[name]["command"])


def test_every_party_is_described():
    parties = {service["command"][0] for service in SERVICES.values()}
    assert parties == {"witness", "log", "issuer", "spent", "worker", "relay", "proxy"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_runs_as_root_or_gains_privileges(name):
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_of_memory_reaches_a_disk(name):
    service = SERVICES[name]
    assert service["ulimits"]["core"] == 0
    assert service["memswap_limit"] == service["mem_limit"]  # no swap


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_mounted_the_secrets_it_names_and_no_others(name):
    service = SERVICES[name]
    mounted = {volume.split(":")[1] for volume in service.get("volumes", ())}
    assert "/secrets" not in mounted
    named = {word for word in service["command"] if word.startswith("/secrets/")}
    assert {path for path in mounted if path.startswith("/secrets/")} == named


@pytest.mark.parametrize("name", SERVICES)
def test_a_probe_asks_where_the_service_listens(name):
    command = SERVICES[name]["command"]
    asked = SERVICES[name]["environment"]["SOTTOVOCE_HEALTH"]
    if "--socket" in command:
        assert asked == "unix:" + command[command.index("--socket") + 1]
    else:
        assert asked == f"http://127.0.0.1:{command[command.index('--port') + 1]}/health"


def test_every_image_from_elsewhere_is_named_by_its_digest():
    names = {stage.split()[1] for stage in STAGES}
    own = {stage.split()[3] for stage in STAGES}
    for name in names - own - {"scratch"}:
        variable = re.fullmatch(r"\$\{(\w+)\}", name)
        assert variable, name
        pinned = rf"^ARG {variable[1]}=\S+:\S+@sha256:[0-9a-f]{{64}}$"
        assert re.search(pinned, DOCKERFILE, re.MULTILINE), name


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.startswith("FROM scratch")])
def test_what_is_run_begins_from_nothing_and_not_as_root(stage):
    words = re.findall(r"^([A-Z]+) ", stage, re.MULTILINE)
    assert "RUN" not in words  # there is nothing to run it with
    assert "USER 10001:10001" in stage
    for form in re.findall(r"^(?:ENTRYPOINT|CMD|HEALTHCHECK .*CMD) (.*)$", stage, re.MULTILINE):
        assert form.startswith("["), form  # the other form needs a shell
    assert {"HEALTHCHECK", "ENTRYPOINT"} <= set(words)


def test_the_three_images_are_there():
    final = [stage.split()[3] for stage in STAGES if stage.startswith("FROM scratch")]
    assert final == ["base", "worker", "worker-gpu"]


def test_images_of_the_services_are_targets():
    for service in SERVICES.values():
        assert service["image"] == "sottovoce-" + service["build"]["target"]
