"""The manifests name commands that exist, pin images, and give away neither powers nor ports."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from named_options import check

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = FOLDER / "base"
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())
PARTIES = [Path(name).stem for name in KUSTOMIZATION["resources"]]
OBJECTS = {
    party: list(yaml.safe_load_all((BASE / f"{party}.yaml").read_text())) for party in PARTIES
}
DOCUMENTATION = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
by_party = pytest.mark.parametrize("party", PARTIES)


def of_kind(party, *kinds):
    return [each for each in OBJECTS[party] if each["kind"] in kinds]


def pod(party):
    [workload] = of_kind(party, "Deployment", "StatefulSet")
    return workload["spec"]["template"]["spec"]


def ours(party):
    return [each for each in pod(party)["containers"] if each["image"].startswith("sottovoce-")]


def test_every_party_that_is_not_a_client_is_there():
    assert set(PARTIES) == {"relay", "issuer", "log", "witness", "worker"}
    assert {path.stem for path in BASE.glob("*.yaml")} == {*PARTIES, "kustomization"}


@by_party
def test_containers_name_commands_and_options_that_exist(party):
    assert ours(party)[0]["name"] == party
    for container in ours(party):
        assert container["args"][0] == container["name"]
        check(container["args"])


@by_party
def test_everything_lies_in_the_partys_own_namespace(party):
    [namespace] = of_kind(party, "Namespace")
    for each in OBJECTS[party]:
        if each is not namespace:
            assert each["metadata"]["namespace"] == namespace["metadata"]["name"]


@by_party
def test_a_pod_holds_no_token_of_the_cluster(party):
    assert pod(party)["automountServiceAccountToken"] is False
    assert pod(party)["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod(party).keys()


@by_party
def test_containers_are_confined(party):
    shared = pod(party)["securityContext"]
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod(party)["containers"]:
        own = {**shared, **container["securityContext"]}
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in own
        assert own["runAsUser"] == 10001 or party == "worker"


def test_only_a_worker_has_a_power_and_it_is_one():
    [worker] = [each for each in ours("worker") if each["name"] == "worker"]
    assert worker["securityContext"]["capabilities"]["add"] == ["DAC_OVERRIDE"]
    everything = [each for party in PARTIES for each in pod(party)["containers"]]
    adding = [each for each in everything if "add" in each["securityContext"]["capabilities"]]
    assert adding == [worker]


def test_a_worker_runs_in_a_confidential_guest():
    assert pod("worker")["runtimeClassName"] == "kata-qemu-tdx"
    for party in set(PARTIES) - {"worker"}:
        volumes = pod(party)["volumes"]
        assert not [each for each in volumes if "hostPath" in each]
    [reports] = [each for each in pod("worker")["volumes"] if "hostPath" in each]
    assert reports["hostPath"]["path"] == "/sys/kernel/config/tsm/report"


@by_party
def test_nothing_of_memory_is_swapped(party):
    for container in pod(party)["containers"]:  # a pod of the class Guaranteed is not
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= resources["limits"].keys()
    for volume in pod(party)["volumes"]:
        if "emptyDir" in volume:
            assert volume["emptyDir"]["medium"] == "Memory"


@by_party
def test_nothing_goes_in_or_out_but_what_is_named(party):
    policies = of_kind(party, "NetworkPolicy")
    closed = [each for each in policies if each["spec"]["podSelector"] == {}]
    assert [each["spec"]["policyTypes"] for each in closed] == [["Ingress", "Egress"]]
    assert not {"ingress", "egress"} & closed[0]["spec"].keys()
    [opened] = [each for each in policies if each not in closed]
    for rule in opened["spec"]["ingress"]:
        assert rule["ports"] == [{"protocol": "TCP", "port": 8443}]
    for rule in opened["spec"]["egress"]:
        assert rule["ports"]


def test_a_worker_hears_relays_and_speaks_to_log_issuer_and_database_only():
    [opened] = [
        each for each in of_kind("worker", "NetworkPolicy") if each["spec"]["podSelector"] != {}
    ]
    [heard] = opened["spec"]["ingress"]
    assert heard["from"][0]["ipBlock"]["cidr"] in DOCUMENTATION
    names, others, database = (rule["to"][0] for rule in opened["spec"]["egress"])
    assert others["ipBlock"]["cidr"] in DOCUMENTATION
    place = "kubernetes.io/metadata.name"
    assert names["namespaceSelector"]["matchLabels"][place] == "kube-system"
    assert database["namespaceSelector"]["matchLabels"][place] == "sottovoce-database"


@by_party
def test_what_a_container_is_mounted_is_there(party):
    volumes = {each["name"] for each in pod(party)["volumes"]}
    mounted = {
        mount["name"] for each in pod(party)["containers"] for mount in each.get("volumeMounts", ())
    }
    assert mounted == volumes


@by_party
def test_files_on_a_command_line_are_mounted(party):
    for container in ours(party):
        places = [mount["mountPath"] for mount in container.get("volumeMounts", ())]
        for argument in container["args"]:
            path = argument.partition("=")[2]
            if path.startswith("/"):
                assert any(path.startswith(place) for place in places), argument


@by_party
def test_only_https_leaves_a_pod(party):
    own = " ".join(word for each in ours(party) for word in each["args"])
    assert "http://" not in own
    ends = [each["name"] for each in pod(party)["containers"] if each["name"] == "tls-end"]
    assert bool(ends) != ("--certificate" in own)
    if "--host" in own:
        assert "--certificate" in own
    for service in of_kind(party, "Service"):
        assert all(port["targetPort"] == 8443 for port in service["spec"].get("ports", ()))


def test_a_relay_is_told_of_every_worker_by_itself():
    [workers] = of_kind("worker", "StatefulSet")
    count = workers["spec"]["replicas"]
    outside = [
        each["spec"]["selector"]["apps.kubernetes.io/pod-index"]
        for each in of_kind("worker", "Service")
        if each["spec"].get("clusterIP") != "None"
    ]
    assert outside == [str(index) for index in range(count)]
    [relay] = ours("relay")
    told = [word for word in relay["args"] if word.startswith("--worker=")]
    assert len(set(told)) == count


def test_every_image_is_named_by_its_digest():
    pinned = {each["name"]: each for each in KUSTOMIZATION["images"]}
    used = {each["image"] for party in PARTIES for each in pod(party)["containers"]}
    assert used == pinned.keys()
    for each in pinned.values():
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", each["digest"])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl, which puts them together")
@pytest.mark.parametrize("folder", ["base", "gpu"])
def test_they_can_be_put_together(folder):
    run = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    images = re.findall(r"image: (\S+)", run.stdout)
    assert images
    assert all("@sha256:" in image for image in images)
    [worker] = [each for each in yaml.safe_load_all(run.stdout) if each["kind"] == "StatefulSet"]
    spec = worker["spec"]["template"]["spec"]
    [container] = [each for each in spec["containers"] if each["name"] == "worker"]
    check(container["args"])
    assert ("nvidia-gpu" in spec["runtimeClassName"]) == (folder == "gpu")
    assert ("nvidia.com/pgpu" in container["resources"]["limits"]) == (folder == "gpu")
