"""Evidence of real machines, published by others (`../shared/vectors/attestation`, if present)."""

import json
import random
from pathlib import Path

import pytest

from attestation.errors import Code, Refused
from attestation.verifier.roots import PINNED
from attestation.verifier.tpm import azure, event_log, events, gce
from attestation.verifier.tpm.azure_evidence import AzureEvidence
from attestation.verifier.tpm.claims import Provenance
from attestation.verifier.tpm.policy import TpmPolicy

FOLDER = Path(__file__).parents[5] / "shared" / "vectors" / "attestation"
INDEX = FOLDER / "index.json"
pytestmark = pytest.mark.skipif(not INDEX.is_file(), reason=f"no published evidence at {FOLDER}")
NOW = 1_751_000_000  # June 2025: within the dates of both revocation lists
LINES = {"az_snp_vtpm_genoa": "genoa", "az_snp_vtpm_v0": "milan"}


def vectors(kind):
    if not INDEX.is_file():
        return []
    return [each for each in json.loads(INDEX.read_text())["vectors"] if each["kind"] == kind]


AZURE = pytest.mark.parametrize(
    "vector", vectors("azure-cvm-vtpm-evidence"), ids=lambda vector: vector["id"]
)
GCE = pytest.mark.parametrize(
    "vector", vectors("gce-vtpm-attestation-protobuf"), ids=lambda vector: vector["id"]
)


def data(vector):
    return (FOLDER / vector["file"]).read_bytes()


def verify_azure(vector, evidence=None):
    line = LINES[vector["id"]]
    return azure.verify(
        data(vector) if evidence is None else evidence,
        chain=[(FOLDER / "snp" / f"ask_ark_{line}.pem").read_bytes()],
        crl=(FOLDER / "snp" / f"amd_{line}.crl.pem").read_bytes(),
        roots=PINNED["azure-vtpm"],
        at=NOW,
    )


@AZURE
def test_azure_s_evidence_is_decided_as_the_index_says(vector):
    assert vector["expect"] == "valid"
    claims = verify_azure(vector)
    found = claims.to_json()
    assert vector["expected_fields"].items() <= found.items()
    assert found["secure_boot"] is True
    assert TpmPolicy().check(claims.tpm, at=NOW)


@AZURE
def test_no_flipped_bit_of_azure_s_evidence_is_accepted(vector):
    source = random.Random(1)
    honest = AzureEvidence.decode(data(vector))
    for _ in range(40):
        message = bytearray(honest.message)
        message[source.randrange(len(message))] ^= 1 << source.randrange(8)
        forged = AzureEvidence(
            bytes(message), honest.signature, honest.registers, honest.hcl_report, honest.vcek, b""
        )
        with pytest.raises(Refused):
            verify_azure(vector, forged.encode())


@GCE
def test_google_s_evidence_is_decided_as_the_index_says(vector, refusal):
    assert vector["expect"] == "valid"
    claims = gce.verify(data(vector), roots=PINNED["gce-vtpm"], at=NOW)
    quotes = claims.to_json()["quotes"]
    for expected, quote in zip(vector["expected_fields"], quotes, strict=True):
        assert quote["pcr_bank"].startswith(expected["hash"] + " ")
        assert quote["extraData"] == expected["extraData"]
        assert quote["pcrDigest"] == expected["pcrDigest"]
    assert claims.tpm.secure_boot is True
    assert claims.tpm.event_log.unexplained == (10,)  # the kernel's own measurements of files
    # The bundle has the key's certificate, and not its issuers: what it proves, it says.
    assert claims.tpm.provenance is Provenance.UNPROVEN
    assert refusal(TpmPolicy().check, claims.tpm, at=NOW) is Code.TPM_AK_UNPROVEN


@GCE
def test_google_s_certificate_is_not_taken_under_another_issuer(vector, refusal):
    stranger = (FOLDER / "snp" / "ask_ark_milan.pem").read_bytes()
    code = refusal(gce.verify, data(vector), chain=stranger, roots=PINNED["snp"], at=NOW)
    assert code is Code.TPM_CHAIN_BAD


def test_the_log_of_a_trust_domain_leads_to_its_registers():
    (vector,) = [each for each in vectors("intel-dcap-quote") if "event_log" in each]
    log = (FOLDER / vector["event_log"]).read_bytes()
    for padding in (b"", bytes(100), b"\xff" * 100):
        rtmrs = event_log.replay_rtmrs(log + padding)
        for index, value in rtmrs.items():
            assert value.hex() == vector["expected_fields"][f"rt_mr{index}"]
    assert len(events.parse(log).events) == 43
