"""A nonce of ours, through proxy, relay, worker, capsule and launcher, to the platform and back."""

import json
import os
import subprocess
import sys

import httpx
import pytest

from attestation.bundle import Bundle
from attestation.report_data import report_data
from attestation.simulated_quote import SimulatedQuote, split
from sottovoce.local import PROXY, RELAY
from wire.key_document import KeyDocument

pytestmark = pytest.mark.xdist_group("stack")

POLICY = 'accepted-weaknesses = ["simulated", "compute-unverified"]\n'


def names(stack):
    found = httpx.get(f"{stack.local.url(PROXY)}/verification", trust_env=False).json()
    return [node["node"] for node in found["nodes"] if node["verified"]]


def ask(stack, node, nonce):
    answer = httpx.get(
        f"{stack.base_url}/attestation",
        params={"node": node, "nonce": nonce.hex()},
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return Bundle.decode(answer.content)


def test_every_node_quotes_a_nonce_of_ours(stack):
    stack.until(stack.settled)
    for node in names(stack):
        nonce = os.urandom(32)
        bundle = ask(stack, node, nonce)
        document = KeyDocument.decode(bundle.key_document)
        assert document.node == node
        signed = SimulatedQuote.decode(split(bundle.quote)[0])
        assert signed.report_data == report_data(document.digest, (), nonce)


def verify_node(stack, folder, node):
    """Run the command on the list as it is now; these tests' epochs last but a few seconds."""
    nodes = httpx.get(f"{stack.local.url(RELAY)}/nodes", trust_env=False).content
    (folder / "nodes").write_bytes(nodes)
    (folder / "policy.toml").write_text(POLICY)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "sottovoce", "verify", "node", "--json", "--node", node),
            *("--trust", str(stack.local.trust), "--nodes", str(folder / "nodes")),
            *("--policy", str(folder / "policy.toml"), "--fresh", stack.local.url(PROXY)),
        ],
        capture_output=True,
        check=False,
    )
    return json.loads(ended.stdout or b"{}")


def test_the_command_says_that_the_hardware_quoted_now(stack, tmp_path):
    stack.until(stack.settled)
    node = names(stack)[0]
    for _ in range(8):
        found = verify_node(stack, tmp_path, node)
        if found.get("error", {}).get("code") != "stale_epoch":
            break
    steps = {step["step"]: step["outcome"] for step in found["verification"]}
    assert found["node"] == node
    assert steps["freshness"] == steps["report-data"] == "pass"
